package network

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/apparentlymart/go-cidr/cidr"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/internal/iptables"
)

// NetworkName is the CNI network's name: host-local keeps the addresses in use in a folder of that name.
const NetworkName = "berth"

// Devices that are ours.
const (
	Bridge    = "berth0"
	VXLAN     = "berth.1"
	WireGuard = "berth-wg"
)

// file is one file in api.NetworkDir.
type file struct {
	name string
	data []byte
}

// filesFor are the files that describe a node's pod network, in a fixed order.
func filesFor(n *api.NodeNetwork) ([]file, error) {
	if err := check(n); err != nil {
		return nil, err
	}
	conflist, err := conflistFor(n)
	if err != nil {
		return nil, err
	}
	files := []file{
		{"node", nodeFile(n)},
		{"peers", peersFile(n)},
	}
	for _, own := range parts(n) {
		files = append(files, file{iptables.Static(own.family), []byte(staticRules(n.Mode, own).Text())})
	}
	return append(files, []file{
		{"conflist", conflist},
		{"sysctl.conf", []byte(sysctlConf(n))},
		{"modules.conf", []byte(modulesConf(n))},
		{api.BootUnit, []byte(bootUnit)},
		{"restore", []byte(restoreScript)},
	}...), nil
}

// part is what a node has of one family of addresses.
type part struct {
	family           corev1.IPFamily
	cluster, podCIDR string
	nodeIP           string
}

// parts are those of the cluster's families, the primary first.
func parts(n *api.NodeNetwork) []part {
	out := []part{{api.FamilyOf(n.ClusterCIDR), n.ClusterCIDR, n.PodCIDR, n.NodeIP}}
	if n.SecondClusterCIDR != "" {
		out = append(out, part{api.FamilyOf(n.SecondClusterCIDR), n.SecondClusterCIDR, n.SecondPodCIDR, n.SecondNodeIP})
	}
	return out
}

// archive packs files for one trip.
func archive(files []file) (*bytes.Buffer, error) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range files {
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Format: tar.FormatUSTAR}); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
		if _, err := tw.Write(f.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
	}
	return &buf, tw.Close()
}

// nodeFile holds "key value" lines, which the scripts read.
func nodeFile(n *api.NodeNetwork) []byte {
	text := fmt.Appendf(nil, "mode %s\nnode_ip %s\nmtu %d\nmac %s\npod_cidr %s\nvtep %s\n",
		n.Mode, n.NodeIP, n.MTU, n.VTEPMAC, n.PodCIDR, vtep(n.PodCIDR))
	if n.SecondClusterCIDR != "" {
		text = fmt.Appendf(text, "second_node_ip %s\nsecond_pod_cidr %s\nsecond_vtep %s\n", n.SecondNodeIP, n.SecondPodCIDR, vtep(n.SecondPodCIDR))
	}
	return text
}

// peersFile holds a line for each other node and family: pod CIDR, address to send to, for VXLAN the MAC and the address of its device, for
// WireGuard the public key. One device carries both families, between the nodes' primary addresses.
func peersFile(n *api.NodeNetwork) []byte {
	var b bytes.Buffer
	for _, p := range n.Peers {
		b.WriteString(peerLine(n.Mode, p, p.PodCIDR, p.IP))
		to := p.SecondIP
		if n.Mode == api.NetworkVXLAN || n.Mode == api.NetworkWireGuard {
			to = p.IP
		}
		if p.SecondPodCIDR != "" && to != "" { // a node that was not seen since the cluster has two families has none
			b.WriteString(peerLine(n.Mode, p, p.SecondPodCIDR, to))
		}
	}
	return b.Bytes()
}

func peerLine(mode string, p api.Peer, podCIDR, to string) string {
	switch mode {
	case api.NetworkVXLAN:
		return strings.Join([]string{podCIDR, to, p.VTEPMAC, vtep(podCIDR)}, " ") + "\n"
	case api.NetworkWireGuard:
		return strings.Join([]string{podCIDR, to, p.PublicKey}, " ") + "\n"
	}
	return strings.TrimRight(strings.Join([]string{podCIDR, to, "", vtep(podCIDR)}, " "), " ") + "\n"
}

// vtep is the address of a node's VXLAN or WireGuard device: the first of its pod CIDR, which no pod gets.
func vtep(podCIDR string) string {
	p, err := netip.ParsePrefix(podCIDR)
	if err != nil {
		return ""
	}
	return p.Masked().Addr().String()
}

var interfaceShape = regexp.MustCompile(`^[A-Za-z0-9_.@:-]{1,15}$`)

// check refuses what the scripts could not take: they split lines at blanks.
func check(n *api.NodeNetwork) error {
	switch n.Mode {
	case api.NetworkVXLAN, api.NetworkHostGW, api.NetworkWireGuard, api.NetworkNone:
	default:
		return fmt.Errorf("network %q: vxlan, host-gw, wireguard or none", n.Mode)
	}
	if n.Interface != "" && !interfaceShape.MatchString(n.Interface) {
		return fmt.Errorf("interface %q: not a device name", n.Interface)
	}
	if n.MTU < 576 || n.MTU > 65535 {
		return fmt.Errorf("mtu %d: out of range", n.MTU)
	}
	for _, own := range parts(n) {
		for _, c := range []struct{ what, cidr string }{{"pod CIDR", own.podCIDR}, {"cluster CIDR", own.cluster}} {
			if _, err := netip.ParsePrefix(c.cidr); err != nil || api.FamilyOf(c.cidr) != own.family {
				return fmt.Errorf("%s %q: not an %s network such as 10.244.0.0/16 or fd00:10:244::/56", c.what, c.cidr, own.family)
			}
		}
		if _, err := netip.ParseAddr(own.nodeIP); err != nil {
			return fmt.Errorf("%s address of the node: %w", own.family, err)
		}
	}
	if n.MTU < minMTU6 && slices.ContainsFunc(parts(n), func(own part) bool { return own.family == corev1.IPv6Protocol }) {
		return fmt.Errorf("mtu %d: IPv6 needs at least %d", n.MTU, minMTU6)
	}
	if n.Mode == "vxlan" {
		if _, err := net.ParseMAC(n.VTEPMAC); err != nil {
			return fmt.Errorf("MAC of the VXLAN device: %w", err)
		}
	}
	for _, p := range n.Peers {
		if err := checkPeer(n.Mode, p); err != nil {
			return fmt.Errorf("node %s: %w", p.Name, err)
		}
	}
	return nil
}

// minMTU6 is the smallest that IPv6 allows a link.
const minMTU6 = 1280

func checkPeer(mode string, p api.Peer) error {
	if _, err := netip.ParseAddr(p.IP); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	for _, cidr := range []string{p.PodCIDR, p.SecondPodCIDR} {
		if _, err := netip.ParsePrefix(cidr); err != nil && cidr != "" {
			return fmt.Errorf("pod CIDR: %w", err)
		}
	}
	if _, err := netip.ParseAddr(p.SecondIP); err != nil && p.SecondIP != "" {
		return fmt.Errorf("address: %w", err)
	}
	if mode == api.NetworkWireGuard {
		return checkKey(p.PublicKey)
	}
	if mode != api.NetworkVXLAN {
		return nil
	}
	if _, err := net.ParseMAC(p.VTEPMAC); err != nil {
		return fmt.Errorf("MAC of the VXLAN device: %w", err)
	}
	return nil
}

// conflistFor is the CNI configuration: a bridge that lets a pod reach itself through a service, addresses from the node's
// pod CIDR, host ports. Masquerading is not the bridge's business: see rules.go.
func conflistFor(n *api.NodeNetwork) ([]byte, error) {
	if n.Mode == "none" {
		return nil, nil
	}
	type m = map[string]any
	var ranges, routes []any
	for _, own := range parts(n) {
		p, err := netip.ParsePrefix(own.podCIDR)
		if err != nil {
			return nil, fmt.Errorf("pod CIDR: %w", err)
		}
		first, last := podRange(p.Masked())
		ranges = append(ranges, []any{m{"subnet": p.Masked().String(), "rangeStart": first, "rangeEnd": last}})
		routes = append(routes, m{"dst": everywhere(own.family)})
	}
	text, err := json.MarshalIndent(struct {
		Version string `json:"cniVersion"`
		Name    string `json:"name"`
		Plugins []any  `json:"plugins"`
	}{"0.4.0", NetworkName, []any{
		m{
			"type": "bridge", "bridge": Bridge, "isGateway": true, "hairpinMode": true, "ipMasq": false, "mtu": n.MTU,
			"ipam": m{
				"type": "host-local", "dataDir": "/var/lib/cni/networks",
				"ranges": ranges,
				"routes": routes,
			},
		},
		m{"type": "portmap", "capabilities": m{"portMappings": true}, "snat": true},
	}}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write CNI configuration: %w", err)
	}
	return append(text, '\n'), nil
}

func everywhere(f corev1.IPFamily) string {
	if f == corev1.IPv6Protocol {
		return "::/0"
	}
	return "0.0.0.0/0"
}

// podRange leaves out the network's address, the bridge's and the broadcast address.
func podRange(p netip.Prefix) (first, last string) {
	low, high := cidr.AddressRange(&net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	return cidr.Inc(cidr.Inc(low)).String(), cidr.Dec(high).String()
}

const fileHead = "# Written by Berth. It is removed with the node.\n"

// sysctlConf is what a boot sets before there is a network. That packets of IPv6 are forwarded is none of it: a kernel that forwards takes no
// more notice of routers, so the script sees to these first.
func sysctlConf(n *api.NodeNetwork) string {
	text := fileHead
	for _, own := range parts(n) {
		if own.family == corev1.IPv6Protocol {
			text += "net.bridge.bridge-nf-call-ip6tables = 1\n"
			continue
		}
		text += "net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n"
	}
	return text
}

func modulesConf(n *api.NodeNetwork) string {
	text := fileHead + "br_netfilter\noverlay\nvxlan\n"
	if n.Mode == api.NetworkWireGuard {
		text += "wireguard\n"
	}
	return text
}

var bootUnit = `# Written by Berth. It is removed with the node.
[Unit]
Description=Berth pod network and service rules
Wants=network-online.target
After=network-online.target firewalld.service nftables.service netfilter-persistent.service ufw.service
Before=containerd.service
RequiresMountsFor=` + api.HostDir + `
ConditionPathExists=` + api.NetworkDir + `/restore

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=` + strconv.Itoa(bootTimeout) + `
ExecStart=/bin/sh ` + api.NetworkDir + `/restore boot

[Install]
WantedBy=multi-user.target
`

// bootTimeout is how many seconds the boot waits for us at most.
const bootTimeout = 120
