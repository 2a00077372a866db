package network_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/hosttest"
	"berth.dev/berth/providers/network"
)

func TestMain(m *testing.M) { labtest.Main(m, lab.Config{Nodes: 2}) }

const lineage = "3f1c1b9e-0000-4000-8000-000000000001"

var cluster = api.Cluster{Name: "test", PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/12", NodePorts: "30000-32767", Network: "vxlan", Domain: "cluster.local"}

// nodes are the lab's hosts with their part of a pod network.
type nodes struct {
	lab   *lab.Lab
	hosts []*hosttest.Host
	nets  []*api.NodeNetwork
}

func setUp(t *testing.T, mode string) *nodes {
	t.Helper()
	n := &nodes{lab: labtest.Shared(t)}
	mtu := 1450
	if mode != "vxlan" {
		mtu = 1500
	}
	for i, ln := range n.lab.Nodes() {
		n.hosts = append(n.hosts, hosttest.New(ln.Name, func() (int, error) { return pidOf(t, n.lab, ln.Name) }))
		n.nets = append(n.nets, &api.NodeNetwork{
			Mode: mode, ClusterCIDR: cluster.PodCIDR, ServiceCIDR: cluster.ServiceCIDR,
			PodCIDR: fmt.Sprintf("10.244.%d.0/24", i+1), NodeIP: ln.Address, Interface: "eth0", MTU: mtu,
			VTEPMAC: fmt.Sprintf("0e:be:00:00:00:%02x", i+1), CNIBinDir: "/usr/lib/cni",
		})
	}
	for i, net := range n.nets {
		for j, peer := range n.nets {
			if i != j {
				net.Peers = append(net.Peers, api.Peer{Name: n.hosts[j].Name(), IP: peer.NodeIP, PodCIDR: peer.PodCIDR, VTEPMAC: peer.VTEPMAC})
			}
		}
	}
	hosttest.InstallProbe(t, n.hosts...)
	return n
}

func pidOf(t *testing.T, l *lab.Lab, name string) (int, error) {
	st, err := l.Status(context.WithoutCancel(t.Context()))
	if err != nil {
		return 0, err
	}
	for _, s := range st {
		if s.Name == name && s.Running {
			return s.Pid, nil
		}
	}
	return 0, errors.New("powered off")
}

func (n *nodes) apply(ctx context.Context, i int, op api.Op, fence uint64) error {
	w := &providers.Work{
		Step: &api.Step{Op: op, Node: n.hosts[i].Name()}, Lineage: lineage, Cluster: cluster, Fence: fence, Report: func(string) {},
	}
	if op == api.OpNodeSet {
		w.Step.Network = n.nets[i]
	}
	_, err := network.New().Apply(ctx, n.hosts[i], w)
	return err
}

// set applies all networks; they are removed at the test's end.
func (n *nodes) set(t *testing.T) {
	t.Helper()
	for i := range n.hosts {
		if err := n.apply(t.Context(), i, api.OpNodeSet, 0); err != nil {
			t.Fatalf("%+v", err)
		}
		t.Cleanup(func() {
			if err := n.apply(context.WithoutCancel(t.Context()), i, api.OpNodeRemove, 0); err != nil {
				t.Errorf("%+v", err)
			}
		})
	}
}

func (n *nodes) observed(t *testing.T, i int) string {
	t.Helper()
	obs := &api.NodeObservation{}
	if err := network.New().Observe(t.Context(), n.hosts[i], obs); err != nil {
		t.Fatal(err)
	}
	if len(obs.Problems) > 0 {
		t.Errorf("problems: %+v", obs.Problems)
	}
	return obs.Network
}

func answers(t *testing.T, got string, err error, want string) {
	t.Helper()
	if err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestPodsReachEachOther(t *testing.T) {
	for _, mode := range []string{"vxlan", "host-gw"} {
		t.Run(mode, func(t *testing.T) {
			n := setUp(t, mode)
			n.set(t)
			a, b := n.hosts[0].NewPod(t, "a"), n.hosts[1].NewPod(t, "b")
			c := n.hosts[0].NewPod(t, "c")

			got, err := a.Probe(t.Context(), "get", b.IP+":8080")
			answers(t, got, err, "b "+a.IP) // no address translation between pods
			got, err = b.Probe(t.Context(), "get", a.IP+":8080")
			answers(t, got, err, "a "+b.IP)
			got, err = a.Probe(t.Context(), "get", c.IP+":8080")
			answers(t, got, err, "c "+a.IP)
			if got, err = n.hosts[0].Probe(t.Context(), "get", b.IP+":8080"); err != nil || !strings.HasPrefix(got, "b ") {
				t.Errorf("host to a pod on another node: %q, %v", got, err)
			}
			got, err = n.hosts[0].Probe(t.Context(), "get", a.IP+":8080")
			answers(t, got, err, "a 10.244.1.1")

			for i := range n.hosts {
				if got, want := n.observed(t, i), api.NetworkHash(n.nets[i]); got != want {
					t.Errorf("observed network of node %d: %q, want %q", i, got, want)
				}
			}
		})
	}
}

// TestMode changes the mode in place: what belongs to the old one goes.
func TestMode(t *testing.T) {
	n := setUp(t, "vxlan")
	n.set(t)
	other := setUp(t, "host-gw")
	other.set(t)
	if out := n.hosts[0].Sh(t, "ip -o link"); strings.Contains(out, network.VXLAN) {
		t.Errorf("the VXLAN device is still there:\n%s", out)
	}
	want := "10.244.2.0/24 via " + n.nets[1].NodeIP + " dev eth0"
	if got := strings.TrimSpace(n.hosts[0].Sh(t, "ip route show proto 98")); got != want {
		t.Errorf("routes %q, want %q", got, want)
	}
}

// TestPeers takes a peer away and gives another, and looks at what the kernel knows.
func TestPeers(t *testing.T) {
	n := setUp(t, "vxlan")
	n.set(t)
	look := func() string {
		return n.hosts[0].Sh(t, `ip route show proto 98 | sed 's/ *$//'; ip neigh show dev berth.1 nud permanent | sed 's/ *$//'; bridge fdb show dev berth.1 | grep ' dst ' || :`)
	}
	n.nets[0].Peers = []api.Peer{{Name: "x", IP: "10.9.9.9", PodCIDR: "10.244.9.0/24", VTEPMAC: "0e:be:00:00:00:09"}}
	if err := n.apply(t.Context(), 0, api.OpNodeSet, 0); err != nil {
		t.Fatal(err)
	}
	want := "10.244.9.0/24 via 10.244.9.0 dev berth.1 onlink\n10.244.9.0 lladdr 0e:be:00:00:00:09 PERMANENT\n0e:be:00:00:00:09 dst 10.9.9.9 self permanent\n"
	if diff := cmp.Diff(want, look()); diff != "" {
		t.Errorf("after the change of peers (-want +got):\n%s", diff)
	}
	n.nets[0].Peers = nil
	if err := n.apply(t.Context(), 0, api.OpNodeSet, 0); err != nil {
		t.Fatal(err)
	}
	if got := look(); got != "" {
		t.Errorf("left without peers:\n%s", got)
	}
	if got, want := n.observed(t, 0), api.NetworkHash(n.nets[0]); got != want {
		t.Errorf("observed %q, want %q", got, want)
	}
}

// TestDrift damages one thing after another; each is seen and mended.
func TestDrift(t *testing.T) {
	n := setUp(t, "vxlan")
	n.set(t)
	for _, tt := range []struct{ name, damage string }{
		{"device", "ip link del berth.1"},
		{"device down", "ip link set berth.1 down"},
		{"route", "ip route del 10.244.2.0/24"},
		{"neighbour", "ip neigh del 10.244.2.0 dev berth.1"},
		{"forwarding entry", "bridge fdb del 0e:be:00:00:00:02 dev berth.1"},
		{"conflist", "rm /etc/cni/net.d/10-berth.conflist"},
		{"conflist content", "echo >>/etc/cni/net.d/10-berth.conflist"},
		{"sysctl", "sysctl -q -w net.ipv4.ip_forward=0"},
		{"sysctl file", "rm /etc/sysctl.d/99-berth.conf"},
		{"unit", "rm /etc/systemd/system/multi-user.target.wants/berth-network.service"},
		{"jump", "iptables -t nat -D OUTPUT -j BERTH-SERVICES"},
		{"rule", "iptables -D BERTH-FORWARD 1"},
		{"rule added", "iptables -t nat -I BERTH-PODS -j RETURN"},
		{"order", "iptables -t nat -D BERTH-POSTROUTING -j MASQUERADE --random-fully; iptables -t nat -I BERTH-POSTROUTING -j MASQUERADE --random-fully"},
		{"dispatch chain", "iptables -t nat -D PREROUTING -j BERTH-SERVICES; iptables -t nat -D OUTPUT -j BERTH-SERVICES; iptables -t nat -X BERTH-SERVICES"},
		{"everything", "iptables -t nat -F; iptables -F; iptables -t nat -X; iptables -X"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := n.observed(t, 0); got == "" {
				t.Fatal("not in force before the damage")
			}
			n.hosts[0].Sh(t, tt.damage)
			if got := n.observed(t, 0); got != "" {
				t.Error("the damage is not seen")
			}
			if err := n.apply(t.Context(), 0, api.OpNodeSet, 0); err != nil {
				t.Fatal(err)
			}
			if got := n.observed(t, 0); got != api.NetworkHash(n.nets[0]) {
				t.Errorf("not mended: %q", got)
			}
		})
	}
}

// TestAgain applies twice and finds nothing doubled.
func TestAgain(t *testing.T) {
	n := setUp(t, "vxlan")
	n.set(t)
	before := n.hosts[0].Sh(t, snapshot)
	began := time.Now()
	if err := n.apply(t.Context(), 0, api.OpNodeSet, 0); err != nil {
		t.Fatal(err)
	}
	t.Logf("second node.set took %s", time.Since(began))
	if diff := cmp.Diff(before, n.hosts[0].Sh(t, snapshot)); diff != "" {
		t.Errorf("the second time changed something (-first +second):\n%s", diff)
	}
}

// snapshot shows what a host's network is: everything that node.remove has to bring back.
const snapshot = `iptables-save | sed -e 's/^#.*//' -e 's/\[[0-9:]*\]//'
ip -o link | sed 's/^[0-9]*: //' | sort
ip -4 route
ip -4 -o addr | sed 's/^[0-9]*: //' | sort
sysctl net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables
find /etc /var/lib/cni /var/lib/berth /usr/local /root -not -path '*/etc/mtab' | sort
systemctl is-enabled berth-network.service 2>&1
cat /proc/self/mounts | grep -v overlay`

func TestRemoveLeavesTheHostAsItWas(t *testing.T) {
	for _, mode := range []string{"vxlan", "host-gw"} {
		t.Run(mode, func(t *testing.T) {
			n := setUp(t, mode)
			// Rules of others, which must be there afterwards, and settings that must come back.
			n.hosts[0].Sh(t, `iptables -N THEIRS; iptables -A THEIRS -s 192.0.2.1 -j DROP; iptables -I FORWARD -j THEIRS
iptables -t nat -A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE; sysctl -q -w net.ipv4.ip_forward=0; ip route add 192.0.2.0/24 dev lo`)
			t.Cleanup(func() {
				n.hosts[0].Run(context.WithoutCancel(t.Context()), providers.Command{Script: `iptables -D FORWARD -j THEIRS; iptables -F THEIRS; iptables -X THEIRS
iptables -t nat -D POSTROUTING -s 192.0.2.0/24 -j MASQUERADE; ip route del 192.0.2.0/24 dev lo`})
			})
			before := n.hosts[0].Sh(t, snapshot)
			if err := n.apply(t.Context(), 0, api.OpNodeSet, 7); err != nil {
				t.Fatal(err)
			}
			if during := n.hosts[0].Sh(t, snapshot); during == before {
				t.Fatal("node.set changed nothing")
			}
			t.Run("pod", func(t *testing.T) { n.hosts[0].NewPod(t, "a") }) // makes the bridge and the folders of host-local
			for range 2 {
				if err := n.apply(t.Context(), 0, api.OpNodeRemove, 7); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before, n.hosts[0].Sh(t, snapshot)); diff != "" {
					t.Errorf("left behind (-before +after):\n%s", diff)
				}
			}
			if got := n.observed(t, 0); got != "" {
				t.Errorf("observed %q after the removal", got)
			}
		})
	}
}

func TestVolumesStay(t *testing.T) {
	n := setUp(t, "vxlan")
	n.set(t)
	n.hosts[0].Sh(t, `mkdir -p /var/lib/berth/volumes/dev/data /var/lib/berth/pods/x; echo 1 >/var/lib/berth/volumes/dev/data/f`)
	if err := n.apply(t.Context(), 0, api.OpNodeRemove, 0); err != nil {
		t.Fatal(err)
	}
	if got, want := n.hosts[0].Sh(t, "cd /var/lib/berth; find . | sort"), ".\n./volumes\n./volumes/dev\n./volumes/dev/data\n./volumes/dev/data/f\n"; got != want {
		t.Errorf("left %q, want %q", got, want)
	}
	n.hosts[0].Sh(t, "rm -r /var/lib/berth/volumes")
}

func TestReboot(t *testing.T) {
	n := setUp(t, "vxlan")
	n.set(t)
	if err := n.lab.Nodes()[0].Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := n.observed(t, 0), api.NetworkHash(n.nets[0]); got != want {
		t.Fatalf("after the reboot %q is in force, want %q", got, want)
	}
	a, b := n.hosts[0].NewPod(t, "a"), n.hosts[1].NewPod(t, "b")
	got, err := b.Probe(t.Context(), "get", a.IP+":8080")
	answers(t, got, err, "a "+b.IP)
}

func TestFence(t *testing.T) {
	n := setUp(t, "vxlan")
	n.set(t)
	if err := n.apply(t.Context(), 0, api.OpNodeSet, 5); err != nil {
		t.Fatal(err)
	}
	for _, op := range []api.Op{api.OpNodeSet, api.OpNodeRemove} {
		if err := n.apply(t.Context(), 0, op, 4); !errors.Is(err, providers.ErrFenced) {
			t.Errorf("%s with an older fencing number: %v", op, err)
		}
	}
	if got, want := n.observed(t, 0), api.NetworkHash(n.nets[0]); got != want {
		t.Errorf("a fenced step changed the host: %q", got)
	}
}

func TestForeignHost(t *testing.T) {
	n := setUp(t, "vxlan")
	n.set(t)
	for _, op := range []api.Op{api.OpNodeSet, api.OpNodeRemove} {
		w := &providers.Work{Step: &api.Step{Op: op, Node: "n1", Network: n.nets[0]}, Lineage: "other", Cluster: cluster}
		_, err := network.New().Apply(t.Context(), n.hosts[0], w)
		ds := api.DiagnosticsOf(err, "")
		if len(ds) != 1 || ds[0].Summary != "Host belongs to another cluster" || !strings.Contains(ds[0].Detail, lineage) || ds[0].Node != "n1" {
			t.Errorf("%s of another cluster: %+v", op, err)
		}
	}
	if got, want := n.observed(t, 0), api.NetworkHash(n.nets[0]); got != want {
		t.Errorf("another cluster's step changed the host: %q", got)
	}
}

func TestAnotherConflistFirst(t *testing.T) {
	n := setUp(t, "vxlan")
	n.set(t)
	n.hosts[0].Sh(t, "echo '{}' >/etc/cni/net.d/05-other.conf")
	t.Cleanup(func() {
		n.hosts[0].Run(context.WithoutCancel(t.Context()), providers.Command{Script: "rm -f /etc/cni/net.d/05-other.conf"})
	})
	err := n.apply(t.Context(), 0, api.OpNodeSet, 0)
	if ds := api.DiagnosticsOf(err, ""); len(ds) != 1 || ds[0].Summary != "Another CNI configuration comes first" {
		t.Errorf("node.set: %+v", err)
	}
	observe := func(want api.Severity) {
		t.Helper()
		obs := &api.NodeObservation{}
		if err := network.New().Observe(t.Context(), n.hosts[0], obs); err != nil {
			t.Fatal(err)
		}
		if len(obs.Problems) != 1 || !strings.Contains(obs.Problems[0].Detail, "05-other.conf") || obs.Problems[0].Severity != want {
			t.Errorf("problems %+v, want one %s", obs.Problems, want)
		}
	}
	observe(api.SeverityError)
	if err := n.apply(t.Context(), 0, api.OpNodeRemove, 0); err != nil {
		t.Fatal(err)
	}
	observe(api.SeverityWarning) // a cluster without a network of its own may still take the host
}

// TestKilled kills setting up and removing at programs that they run, and does both again.
func TestKilled(t *testing.T) {
	n := setUp(t, "vxlan")
	h := n.hosts[0]
	// The kernel's empty tables stay: iptables cannot take them away again.
	h.Sh(t, "for t in nat filter; do iptables -t $t -A OUTPUT -j ACCEPT; iptables -t $t -D OUTPUT -j ACCEPT; done")
	before := h.Sh(t, snapshot)
	// A program of that name does its work and then ends the script that called it.
	trap := func(program string) {
		h.Sh(t, `p=$(command -v "$1"); printf '#!/bin/sh\n%s "$@"\nkill -9 $PPID\n' "$p" >"/usr/local/sbin/$1"; chmod 755 "/usr/local/sbin/$1"`, program)
	}
	untrap := func(program string) { h.Sh(t, `exec /bin/rm -f "/usr/local/sbin/$1"`, program) }
	for _, program := range []string{"mkdir", "tar", "cp", "mv", "iptables-restore", "bridge", "rmdir"} {
		t.Run("set "+program, func(t *testing.T) {
			trap(program)
			err := n.apply(t.Context(), 0, api.OpNodeSet, 0)
			untrap(program)
			if err == nil {
				t.Error("the step was not killed")
			}
			if got := n.observed(t, 0); got != "" && program != "rmdir" { // that one comes after all is done
				t.Errorf("a half-done network shows as %q", got)
			}
			if err := n.apply(t.Context(), 0, api.OpNodeSet, 0); err != nil {
				t.Fatal(err)
			}
			if got, want := n.observed(t, 0), api.NetworkHash(n.nets[0]); got != want {
				t.Errorf("the second time %q is in force, want %q", got, want)
			}
			if err := n.apply(t.Context(), 0, api.OpNodeRemove, 0); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, h.Sh(t, snapshot)); diff != "" {
				t.Errorf("left behind (-before +after):\n%s", diff)
			}
		})
	}
	for _, program := range []string{"systemctl", "iptables-restore", "ip", "rm", "rmdir"} {
		t.Run("remove "+program, func(t *testing.T) {
			if err := n.apply(t.Context(), 0, api.OpNodeSet, 0); err != nil {
				t.Fatal(err)
			}
			trap(program)
			err := n.apply(t.Context(), 0, api.OpNodeRemove, 0)
			untrap(program)
			if err == nil {
				t.Error("the step was not killed")
			}
			if err := n.apply(t.Context(), 0, api.OpNodeRemove, 0); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, h.Sh(t, snapshot)); diff != "" {
				t.Errorf("left behind (-before +after):\n%s", diff)
			}
		})
	}
}
