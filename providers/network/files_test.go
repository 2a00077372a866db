package network

import (
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
)

var update = flag.Bool("update", false, "write the golden files")

func testNetwork() *api.NodeNetwork {
	return &api.NodeNetwork{
		Mode: "vxlan", ClusterCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/12", PodCIDR: "10.244.1.0/24", NodeIP: "10.0.0.11", Interface: "eth0", MTU: 1450,
		VTEPMAC: "0e:be:0a:00:00:0b", CNIBinDir: "/usr/lib/cni",
		Peers: []api.Peer{
			{Name: "a2", IP: "10.0.0.12", PodCIDR: "10.244.2.0/24", VTEPMAC: "0e:be:0a:00:00:0c"},
			{Name: "a3", IP: "10.0.0.13", PodCIDR: "10.244.3.0/24", VTEPMAC: "0e:be:0a:00:00:0d"},
		},
	}
}

// addSix gives a network a second family.
func addSix(n *api.NodeNetwork) {
	n.SecondClusterCIDR, n.SecondServiceCIDR, n.SecondPodCIDR, n.SecondNodeIP = "fd00:10:244::/56", "fd00:10:96::/108", "fd00:10:244:1::/64", "fd00:10::11"
	for i := range n.Peers {
		n.Peers[i].SecondIP, n.Peers[i].SecondPodCIDR = fmt.Sprintf("fd00:10::1%d", i+2), fmt.Sprintf("fd00:10:244:%d::/64", i+2)
	}
}

// onlySix takes the first one away.
func onlySix(n *api.NodeNetwork) {
	n.ClusterCIDR, n.ServiceCIDR, n.PodCIDR, n.NodeIP, n.MTU = n.SecondClusterCIDR, n.SecondServiceCIDR, n.SecondPodCIDR, n.SecondNodeIP, 1430
	n.SecondClusterCIDR, n.SecondServiceCIDR, n.SecondPodCIDR, n.SecondNodeIP = "", "", "", ""
	for i := range n.Peers {
		p := &n.Peers[i]
		p.IP, p.PodCIDR, p.SecondIP, p.SecondPodCIDR = p.SecondIP, p.SecondPodCIDR, "", ""
	}
}

// encrypt gives the peers keys.
func encrypt(n *api.NodeNetwork) {
	n.Mode = api.NetworkWireGuard
	for i := range n.Peers {
		n.Peers[i].PublicKey = base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("%-32s", n.Peers[i].Name)))
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"vxlan", "host-gw", "none", "wireguard", "vxlan dual", "host-gw dual", "vxlan six", "wireguard dual", "wireguard six"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			n := testNetwork()
			var families string
			n.Mode, families, _ = strings.Cut(mode, " ")
			addSix(n)
			if families == "six" {
				onlySix(n)
			} else if families == "" {
				n = testNetwork()
				n.Mode = mode
			}
			mode := strings.ReplaceAll(mode, " ", "-")
			if n.Mode != "vxlan" {
				n.MTU, n.VTEPMAC, n.Peers[0].VTEPMAC, n.Peers[1].VTEPMAC = 1500, "", "", ""
			}
			if n.Mode == "wireguard" {
				n.MTU = 1440
				encrypt(n)
			}
			files, err := filesFor(n)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, f := range files {
				if f.name != "restore" { // a program, tested by what it does
					fmt.Fprintf(&b, "-- %s --\n%s", f.name, f.data)
				}
			}
			golden := filepath.Join("testdata", mode+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFilesRefuse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*api.NodeNetwork)
		want   string
	}{
		{"mode", func(n *api.NodeNetwork) { n.Mode = "geneve" }, `network "geneve"`},
		{"node address", func(n *api.NodeNetwork) { n.NodeIP = "10.0.0.11; reboot" }, "address of the node"},
		{"IPv6", func(n *api.NodeNetwork) { n.PodCIDR = "fd00::/64" }, "not an IPv4 network"},
		{"interface", func(n *api.NodeNetwork) { n.Interface = "eth0 x" }, "interface"},
		{"mtu", func(n *api.NodeNetwork) { n.MTU = 100 }, "mtu 100"},
		{"mac", func(n *api.NodeNetwork) { n.VTEPMAC = "" }, "MAC of the VXLAN device"},
		{"key", func(n *api.NodeNetwork) { encrypt(n); n.Peers[0].PublicKey = "short" }, `node a2: public key "short"`},
		{"key with an end of line", func(n *api.NodeNetwork) { encrypt(n); n.Peers[0].PublicKey += "\n" }, "node a2: public key"},
		{"no key", func(n *api.NodeNetwork) { encrypt(n); n.Peers[1].PublicKey = "" }, "node a3: public key"},
		{"peer", func(n *api.NodeNetwork) { n.Peers[1].PodCIDR = "x" }, "node a3: pod CIDR"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := testNetwork()
			tt.change(n)
			if _, err := filesFor(n); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want one that says %q", err, tt.want)
			}
		})
	}
}
