package network

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/apparentlymart/go-cidr/cidr"

	"berth.dev/berth/api"
)

// NetworkName is the CNI network's name: host-local keeps the addresses in use in a folder of that name.
const NetworkName = "berth"

// Devices that are ours.
const (
	Bridge = "berth0"
	VXLAN  = "berth.1"
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
	rules := staticRules(n)
	return []file{
		{"node", nodeFile(n)},
		{"peers", peersFile(n)},
		{"static.rules", []byte(rules.Text())},
		{"conflist", conflist},
		{"sysctl.conf", []byte(sysctlConf)},
		{"modules.conf", []byte(modulesConf)},
		{api.BootUnit, []byte(bootUnit)},
		{"restore", []byte(restoreScript)},
	}, nil
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
	return fmt.Appendf(nil, "mode %s\nnode_ip %s\nmtu %d\nmac %s\npod_cidr %s\nvtep %s\n",
		n.Mode, n.NodeIP, n.MTU, n.VTEPMAC, n.PodCIDR, vtep(n.PodCIDR))
}

// peersFile holds one line for each other node: pod CIDR, address, and for VXLAN the MAC and the address of its device.
func peersFile(n *api.NodeNetwork) []byte {
	var b bytes.Buffer
	for _, p := range n.Peers {
		b.WriteString(strings.TrimRight(strings.Join([]string{p.PodCIDR, p.IP, p.VTEPMAC, vtep(p.PodCIDR)}, " "), " ") + "\n")
	}
	return b.Bytes()
}

// vtep is the address of a node's VXLAN device: the first of its pod CIDR, which no pod gets.
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
	case "vxlan", "host-gw", "none":
	default:
		return fmt.Errorf("network %q: vxlan, host-gw or none", n.Mode)
	}
	if _, err := netip.ParseAddr(n.NodeIP); err != nil {
		return fmt.Errorf("address of the node: %w", err)
	}
	if n.Interface != "" && !interfaceShape.MatchString(n.Interface) {
		return fmt.Errorf("interface %q: not a device name", n.Interface)
	}
	if n.MTU < 576 || n.MTU > 65535 {
		return fmt.Errorf("mtu %d: out of range", n.MTU)
	}
	for _, c := range []struct{ what, cidr string }{{"pod CIDR", n.PodCIDR}, {"cluster CIDR", n.ClusterCIDR}} {
		if p, err := netip.ParsePrefix(c.cidr); err != nil || !p.Addr().Is4() {
			return fmt.Errorf("%s %q: not an IPv4 network such as 10.244.0.0/16", c.what, c.cidr)
		}
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

func checkPeer(mode string, p api.Peer) error {
	if _, err := netip.ParseAddr(p.IP); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if _, err := netip.ParsePrefix(p.PodCIDR); err != nil {
		return fmt.Errorf("pod CIDR: %w", err)
	}
	if mode != "vxlan" {
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
	p, err := netip.ParsePrefix(n.PodCIDR)
	if err != nil {
		return nil, fmt.Errorf("pod CIDR: %w", err)
	}
	first, last := podRange(p.Masked())
	type m = map[string]any
	text, err := json.MarshalIndent(struct {
		Version string `json:"cniVersion"`
		Name    string `json:"name"`
		Plugins []any  `json:"plugins"`
	}{"0.4.0", NetworkName, []any{
		m{
			"type": "bridge", "bridge": Bridge, "isGateway": true, "hairpinMode": true, "ipMasq": false, "mtu": n.MTU,
			"ipam": m{
				"type": "host-local", "dataDir": "/var/lib/cni/networks",
				"ranges": []any{[]any{m{"subnet": p.Masked().String(), "rangeStart": first, "rangeEnd": last}}},
				"routes": []any{m{"dst": "0.0.0.0/0"}},
			},
		},
		m{"type": "portmap", "capabilities": m{"portMappings": true}, "snat": true},
	}}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write CNI configuration: %w", err)
	}
	return append(text, '\n'), nil
}

// podRange leaves out the network's address, the bridge's and the broadcast address.
func podRange(p netip.Prefix) (first, last string) {
	low, high := cidr.AddressRange(&net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	return cidr.Inc(cidr.Inc(low)).String(), cidr.Dec(high).String()
}

const fileHead = "# Written by Berth. It is removed with the node.\n"

const sysctlConf = fileHead + `net.ipv4.ip_forward = 1
net.bridge.bridge-nf-call-iptables = 1
`

const modulesConf = fileHead + `br_netfilter
overlay
vxlan
`

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
