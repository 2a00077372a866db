package network_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/hosttest"
	"berth.dev/berth/providers/network"
)

// counted counts the scripts that run on a host.
type counted struct {
	*hosttest.Host
	scripts atomic.Int32
}

func (c *counted) Run(ctx context.Context, cmd providers.Command) (providers.Output, error) {
	c.scripts.Add(1)
	return c.Host.Run(ctx, cmd)
}

// A node that joins or leaves is one script on each other node, whatever has to be told of it and in however many families: neighbours, forwarding
// entries and routes are there afterwards, and gone.
func TestJoinIsOneScript(t *testing.T) {
	n := setUp(t, "vxlan")
	six := n.lab.Nodes()[0].Address6() != ""
	alone, both := *n.nets[0], *n.nets[0]
	c := cluster
	if six {
		c.SecondPodCIDR, c.SecondServiceCIDR = "fd00:10:244::/56", "fd00:10:96::/108"
		for i, net := range []*api.NodeNetwork{&alone, &both} {
			net.SecondClusterCIDR, net.SecondServiceCIDR, net.SecondPodCIDR = c.SecondPodCIDR, c.SecondServiceCIDR, "fd00:10:244:1::/64"
			net.SecondNodeIP = n.lab.Nodes()[0].Address6()
			net.Peers = append([]api.Peer{}, net.Peers...)[:i]
		}
		both.Peers[0].SecondIP, both.Peers[0].SecondPodCIDR = n.lab.Nodes()[1].Address6(), "fd00:10:244:2::/64"
	} else {
		alone.Peers = nil
	}
	n.nets[0] = &alone
	h := &counted{Host: n.hosts[0]}
	apply := func(net *api.NodeNetwork) {
		t.Helper()
		w := &providers.Work{Step: &api.Step{Op: api.OpNodeSet, Node: h.Name(), Network: net}, Lineage: lineage, Cluster: c, Report: func(string) {}}
		if _, err := network.New().Apply(t.Context(), h, w); err != nil {
			t.Fatalf("%+v", err)
		}
	}
	t.Cleanup(func() {
		if err := n.apply(context.WithoutCancel(t.Context()), 0, api.OpNodeRemove, 0); err != nil {
			t.Errorf("%+v", err)
		}
	})
	apply(&alone)
	const show = `ip route show proto 98; ip -6 route show proto 98; ip neigh show dev berth.1 nud permanent; ip -6 neigh show dev berth.1 nud permanent; bridge fdb show dev berth.1 | grep dst || :`
	if got := shown(t, h, show); got != "" {
		t.Errorf("a node alone knows of others:\n%s", got)
	}
	h.scripts.Store(0)
	apply(&both)
	if got := h.scripts.Load(); got != 1 {
		t.Errorf("a node that joins is %d scripts on another one, want 1", got)
	}
	got := shown(t, h, show)
	want := []string{"10.244.2.0/24 via 10.244.2.0 dev berth.1", "10.244.2.0 lladdr 0e:be:00:00:00:02", "0e:be:00:00:00:02 dst " + n.lab.Nodes()[1].Address}
	if six {
		want = append(want, "fd00:10:244:2::/64 via fd00:10:244:2:: dev berth.1", "fd00:10:244:2:: lladdr 0e:be:00:00:00:02")
	}
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%q is missing in\n%s", w, got)
		}
	}
	h.scripts.Store(0)
	apply(&alone)
	if scripts, left := h.scripts.Load(), shown(t, h, show); scripts != 1 || left != "" {
		t.Errorf("a node that leaves is %d scripts, want 1, and leaves behind:\n%s", scripts, left)
	}
}

func shown(t *testing.T, h providers.Host, script string) string {
	t.Helper()
	out, err := h.Run(t.Context(), providers.Command{Script: script})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out.Stdout))
}
