package planner

import (
	"crypto/sha256"
	"net/netip"
	"strconv"

	"berth.dev/berth/api"
)

// subnetBits is the size of a node's share of the pod network: a /24.
const subnetBits = 24

// vxlanOverhead is what VXLAN over IPv4 takes of a packet.
const vxlanOverhead = 50

// networks gives every member its share of the pod network and says what the network of each should look like.
func (d *draft) networks() {
	cluster, ok := d.clusterRanges()
	if !ok {
		return
	}
	d.allocateSubnets(cluster)
	var peers, interim []*host
	for _, h := range d.hosts {
		if h.podCIDR == "" || h.ip == "" {
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

// clusterRanges reads the cluster's ranges and refuses those that nodes in use do not allow.
func (d *draft) clusterRanges() (netip.Prefix, bool) {
	c := d.Config.Cluster
	pods, err := netip.ParsePrefix(c.PodCIDR)
	if err != nil || !pods.Addr().Is4() || pods.Bits() > subnetBits {
		d.diags.Errorf(api.Range{}, "Invalid cluster network", "pod_cidr %q is not an IPv4 range of at least a /%d, such as 10.244.0.0/16: each node takes a /%d of it.", c.PodCIDR, subnetBits, subnetBits)
		return netip.Prefix{}, false
	}
	services, err := netip.ParsePrefix(c.ServiceCIDR)
	if err != nil || !services.Addr().Is4() {
		d.diags.Errorf(api.Range{}, "Invalid cluster network", "service_cidr %q is not an IPv4 range such as 10.96.0.0/12.", c.ServiceCIDR)
		return netip.Prefix{}, false
	}
	if pods.Overlaps(services) {
		d.diags.Errorf(api.Range{}, "Invalid cluster network", "pod_cidr %s and service_cidr %s overlap. Choose ranges that have no address in common.", pods, services)
	}
	for _, h := range d.hosts {
		if ip, err := netip.ParseAddr(h.ip); err == nil && !h.leaves && (pods.Contains(ip) || services.Contains(ip)) {
			d.errorOn(h, "Cluster network overlaps a host's", "%s has the address %s, which lies in the cluster's pod_cidr %s or service_cidr %s. Choose other ranges for the cluster.", h.name, ip, pods, services)
		}
		if h.state == nil || h.leaves || h.state.PodCIDR == "" {
			continue
		}
		if own, err := netip.ParsePrefix(h.state.PodCIDR); err != nil || own.Bits() < pods.Bits() || !pods.Contains(own.Addr()) {
			d.errorOn(h, "Pod network in use", "%s has %s, which is not in the cluster's pod_cidr %s. A pod network can grow but not move while nodes use it: destroy first, or keep the range.", h.name, h.state.PodCIDR, pods)
		}
	}
	return pods.Masked(), !d.diags.HasErrors()
}

// allocateSubnets keeps what nodes have and gives new ones the next free subnet, in the order of their names.
func (d *draft) allocateSubnets(cluster netip.Prefix) {
	taken, macs := map[netip.Addr]bool{}, map[string]bool{}
	for _, h := range d.hosts {
		if h.state == nil {
			continue
		}
		h.podCIDR, h.mac = h.state.PodCIDR, h.state.VTEPMAC
		macs[h.mac] = true
		if p, err := netip.ParsePrefix(h.podCIDR); err == nil {
			taken[p.Masked().Addr()] = true
		}
	}
	next := cluster.Addr()
	for _, h := range d.hosts {
		if !h.member() {
			continue
		}
		if h.podCIDR == "" {
			for taken[next] {
				next = nextSubnet(next)
			}
			if !cluster.Contains(next) {
				d.errorOn(h, "Pod network is full", "No /%d is left in pod_cidr %s for node %s. Choose a larger pod_cidr.", subnetBits, cluster, h.name)
				return
			}
			taken[next] = true
			h.podCIDR = netip.PrefixFrom(next, subnetBits).String()
		}
		for n := 0; h.mac == ""; n++ {
			if mac := vtepMAC(d.Config.Cluster.Name, h.name, n); !macs[mac] {
				h.mac, macs[mac] = mac, true
			}
		}
	}
}

func nextSubnet(a netip.Addr) netip.Addr {
	b := a.As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8
	n += 1 << (32 - subnetBits)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8)})
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
		NodeIP: h.ip, Interface: h.facts.Interface, MTU: h.facts.MTU, CNIBinDir: h.facts.CNIBinDir, Rules: api.NetworkRules,
	}
	vxlan := c.Network == "vxlan"
	if vxlan {
		n.VTEPMAC = h.mac
		n.MTU -= vxlanOverhead
	}
	for _, p := range peers {
		if p == h {
			continue
		}
		peer := api.Peer{Name: p.name, IP: p.ip, PodCIDR: p.podCIDR}
		if vxlan {
			peer.VTEPMAC = p.mac
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
		Name: h.name, Node: h.node, PodCIDR: h.podCIDR, VTEPMAC: h.mac, IP: h.ip, BootID: h.seen.BootID, Facts: h.facts,
	}
}
