package planner

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// subnetBits is the size of a node's share of a pod range: a /24, or of IPv6 a /64.
func subnetBits(f corev1.IPFamily) int {
	if f == corev1.IPv6Protocol {
		return 64
	}
	return 24
}

// networks gives every member its share of the pod network and says what the network of each should look like.
func (d *draft) networks() {
	cluster, ok := d.clusterRanges()
	if !ok {
		return
	}
	d.allocateSubnets(cluster)
	var peers, interim []*host
	for _, h := range d.hosts {
		if h.podCIDR == "" || h.ip == "" || d.keyless(h) {
			continue
		}
		if !h.leaves {
			peers = append(peers, h)
		}
		if !h.leaves || h.state != nil && h.reach != silent {
			interim = append(interim, h)
		}
	}
	for _, h := range peers {
		if h.reach == up {
			h.network = d.networkOf(h, d.Config.Cluster, peers)
			h.interim = h.network
			if len(interim) != len(peers) {
				h.interim = d.networkOf(h, d.Config.Cluster, interim)
			}
		}
	}
}

// clusterRanges reads the cluster's pod ranges and refuses those that nodes in use do not allow.
func (d *draft) clusterRanges() ([]netip.Prefix, bool) {
	c := &d.Config.Cluster
	var pods, all []netip.Prefix
	for _, text := range c.PodCIDRs() {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Bits() > subnetBits(api.FamilyOf(text)) {
			d.diags.Errorf(api.Range{}, "Invalid cluster network", "pod_cidr %q is not a range of at least a /24 such as 10.244.0.0/16, or of IPv6 a /64: each node takes that much of it.", text)
			return nil, false
		}
		pods = append(pods, p.Masked())
	}
	for i, text := range c.ServiceCIDRs() {
		services, err := netip.ParsePrefix(text)
		if err != nil || i >= len(pods) || services.Addr().Is4() != pods[i].Addr().Is4() {
			d.diags.Errorf(api.Range{}, "Invalid cluster network", "service_cidr %q is not a range of the same family as the pod_cidr, such as 10.96.0.0/12.", text)
			return nil, false
		}
		if pods[i].Overlaps(services) {
			d.diags.Errorf(api.Range{}, "Invalid cluster network", "pod_cidr %s and service_cidr %s overlap. Choose ranges that have no address in common.", pods[i], services)
		}
		all = append(all, pods[i], services)
	}
	for _, h := range d.hosts {
		if !h.leaves {
			d.checkRanges(h, pods, all)
		}
	}
	return pods, !d.diags.HasErrors()
}

// checkRanges refuses ranges that a host's own addresses or its part of the pod network do not allow.
func (d *draft) checkRanges(h *host, pods, all []netip.Prefix) {
	for _, text := range []string{h.ip, h.secondIP} {
		ip, err := netip.ParseAddr(text)
		for _, r := range all {
			if err == nil && r.Contains(ip) {
				d.errorOn(h, "Cluster network overlaps a host's", "%s has the address %s, which lies in the cluster's pod_cidr or service_cidr %s. Choose other ranges for the cluster.", h.name, ip, r)
				break
			}
		}
	}
	if h.state == nil || h.state.PodCIDR == "" || len(pods) == 0 { // a run was killed before the cluster was recorded
		return
	}
	if was, is := api.FamilyOf(h.state.PodCIDR), api.FamilyOf(pods[0].String()); was != is {
		d.errorOn(h, "Pod network in use", "%s has %s, and the cluster's first pod_cidr is now %s: the primary family of a cluster cannot change while it runs. "+
			"Write the %s ranges first, with the %s ones second, or destroy first.", h.name, h.state.PodCIDR, pods[0], was, is)
		return
	}
	for _, text := range h.state.PodCIDRs() {
		in := slices.IndexFunc(pods, func(p netip.Prefix) bool { return p.Addr().Is4() == (api.FamilyOf(text) == corev1.IPv4Protocol) })
		if in < 0 {
			continue // the cluster has given up its second family
		}
		if own, err := netip.ParsePrefix(text); err != nil || own.Bits() < pods[in].Bits() || !pods[in].Contains(own.Addr()) {
			d.errorOn(h, "Pod network in use", "%s has %s, which is not in the cluster's pod_cidr %s. A pod network can grow but not move while nodes use it: destroy first, or keep the range.", h.name, text, pods[in])
		}
	}
}

// allocateSubnets keeps what nodes have and gives new ones the next free subnets, in the order of their names.
func (d *draft) allocateSubnets(cluster []netip.Prefix) {
	macs := map[string]bool{}
	for _, h := range d.hosts {
		if h.state != nil {
			h.podCIDR, h.mac = h.state.PodCIDR, h.state.VTEPMAC
			if len(cluster) > 1 {
				h.secondPodCIDR = api.OfFamily(api.FamilyOf(cluster[1].String()), h.state.SecondPodCIDR)
			}
			macs[h.mac] = true
		}
	}
	for i, r := range cluster {
		if !d.allocateSubnet(r, func(h *host) *string { return []*string{&h.podCIDR, &h.secondPodCIDR}[i] }) {
			return
		}
	}
	for _, h := range d.hosts {
		for n := 0; h.member() && h.mac == ""; n++ {
			if mac := vtepMAC(d.Config.Cluster.Name, h.name, n); !macs[mac] {
				h.mac, macs[mac] = mac, true
			}
		}
	}
}

// allocateSubnet gives every member a part of one range that has none yet.
func (d *draft) allocateSubnet(cluster netip.Prefix, part func(*host) *string) bool {
	taken := map[netip.Addr]bool{}
	for _, h := range d.hosts {
		if p, err := netip.ParsePrefix(*part(h)); err == nil {
			taken[p.Masked().Addr()] = true
		}
	}
	bits, next := subnetBits(api.FamilyOf(cluster.String())), cluster.Addr()
	for _, h := range d.hosts {
		if !h.member() || *part(h) != "" {
			continue
		}
		for taken[next] {
			next = nextSubnet(next, bits)
		}
		if !cluster.Contains(next) {
			d.errorOn(h, "Pod network is full", "No /%d is left in pod_cidr %s for node %s. Choose a larger pod_cidr.", bits, cluster, h.name)
			return false
		}
		taken[next] = true
		*part(h) = netip.PrefixFrom(next, bits).String()
	}
	return true
}

// nextSubnet is the subnet after the one that begins at an address; bits is a multiple of 8.
func nextSubnet(a netip.Addr, bits int) netip.Addr {
	b := a.AsSlice()
	for i := bits/8 - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			break
		}
	}
	next, _ := netip.AddrFromSlice(b)
	return next
}

// vtepMAC is a locally administered address that follows from the names, so that it outlives reboots.
func vtepMAC(cluster, node string, attempt int) string {
	sum := sha256.Sum256([]byte(cluster + "/" + node + "/" + strconv.Itoa(attempt)))
	const hex = "0123456789abcdef"
	mac := []byte("0e")
	for _, b := range sum[:5] {
		mac = append(mac, ':', hex[b>>4], hex[b&15])
	}
	return string(mac)
}

// networkOf is the network of one host among its peers.
func (d *draft) networkOf(h *host, c api.Cluster, peers []*host) *api.NodeNetwork {
	n := &api.NodeNetwork{
		Mode: c.Network, ClusterCIDR: c.PodCIDR, ServiceCIDR: c.ServiceCIDR, PodCIDR: h.podCIDR,
		SecondClusterCIDR: c.SecondPodCIDR, SecondServiceCIDR: c.SecondServiceCIDR,
		NodeIP: h.ip, Interface: h.facts.Interface, MTU: h.facts.MTU, CNIBinDir: h.facts.CNIBinDir, Rules: api.NetworkRules,
	}
	n.MTU -= api.NetworkOverhead(c.Network, h.ip)
	if c.Network == api.NetworkVXLAN {
		n.VTEPMAC = h.mac
	}
	dual := c.SecondPodCIDR != ""
	if dual {
		n.SecondPodCIDR, n.SecondNodeIP = h.secondPodCIDR, h.secondIP
	}
	for _, p := range peers {
		if p == h {
			continue
		}
		peer := api.Peer{Name: p.name, IP: p.ip, PodCIDR: p.podCIDR}
		switch c.Network {
		case api.NetworkVXLAN:
			peer.VTEPMAC = p.mac
		case api.NetworkWireGuard:
			peer.PublicKey = p.publicKey
		}
		if dual {
			peer.SecondIP, peer.SecondPodCIDR = p.secondIP, p.secondPodCIDR
		}
		n.Peers = append(n.Peers, peer)
	}
	return n
}

// networkBefore is the hash of the network that the last apply left on a host.
func (d *draft) networkBefore(h *host) string {
	var peers []*host
	for _, p := range d.hosts {
		if p.state != nil {
			was := *p
			was.podCIDR, was.mac, was.ip = p.state.PodCIDR, p.state.VTEPMAC, p.state.IP
			was.secondPodCIDR, was.secondIP, was.publicKey = p.state.SecondPodCIDR, p.state.SecondIP, p.state.PublicKey
			if p == h {
				was.facts = p.state.Facts
				h = &was
			}
			peers = append(peers, &was)
		}
	}
	return api.NetworkHash(d.networkOf(h, d.prior.Cluster, peers))
}

// nodeState is what the state takes over of a host.
func (h *host) nodeState() *api.NodeState {
	return &api.NodeState{
		Name: h.name, Node: h.node, PodCIDR: h.podCIDR, SecondPodCIDR: h.secondPodCIDR, VTEPMAC: h.mac, PublicKey: h.publicKey, IP: h.ip, SecondIP: h.secondIP, BootID: h.seen.BootID, Facts: h.facts,
	}
}
