package proxy_test

import (
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/network"
	"berth.dev/berth/providers/node"
	"berth.dev/berth/providers/proxy"
)

// TestOverSSH makes the whole way over a real connection, as root and by sudo: scripts share one shell there.
func TestOverSSH(t *testing.T) {
	l := labtest.Shared(t)
	pool := ssh.NewPool(ssh.Options{})
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, login := range []struct{ user, become string }{{"root", ""}, {"op", "sudo"}} {
		t.Run(login.user, func(t *testing.T) {
			n := l.Nodes()[0]
			h, err := pool.Host(t.Context(), &api.Node{Name: n.Name, Address: n.Address, SSH: api.SSH{
				User: login.user, Become: login.become, IdentityFile: l.Identity(), KnownHostsFile: l.KnownHosts(), ConfigFile: "none",
			}})
			if err != nil {
				t.Fatal(err)
			}
			registry := providers.Registry{node.New(), network.New(), proxy.New()}
			observe := func() *api.NodeObservation {
				began := time.Now()
				obs := &api.NodeObservation{}
				for _, p := range registry {
					if err := p.Observe(t.Context(), h, obs); err != nil {
						t.Fatal(err)
					}
				}
				t.Logf("observing took %s", time.Since(began))
				return obs
			}
			if obs := observe(); len(obs.Problems) > 0 || obs.Facts.InternalIP != n.Address || obs.Network != "" || len(obs.Services) > 0 {
				t.Errorf("before: %+v", obs)
			}
			net := &api.NodeNetwork{Mode: "vxlan", ClusterCIDR: podCIDR, ServiceCIDR: cluster.ServiceCIDR, PodCIDR: "10.244.1.0/24", NodeIP: n.Address,
				Interface: "eth0", MTU: 1450, VTEPMAC: "0e:be:00:00:00:01", CNIBinDir: "/usr/lib/cni"}
			sw, ends := work(service(nodePort), "10.244.1.5@n1", "10.244.2.5@n2")
			apply := func(op api.Op) {
				began := time.Now()
				w := &providers.Work{Step: &api.Step{Op: op, Node: h.Name(), Network: net, Service: sw}, Lineage: lineage, Cluster: cluster, Endpoints: ends,
					Report: func(s string) { t.Errorf("%s: %s", op, s) }}
				if _, err := registry.For(op).Apply(t.Context(), h, w); err != nil {
					t.Fatalf("%s: %+v", op, err)
				}
				t.Logf("%s took %s", op, time.Since(began))
			}
			apply(api.OpNodeSet)
			apply(api.OpServiceSet)
			obs := observe()
			if len(obs.Problems) > 0 || obs.Lineage != lineage || obs.Network != api.NetworkHash(net) ||
				obs.Services["default/web"] != api.ServiceHash(sw, []string{"10.244.1.5", "10.244.2.5"}) {
				t.Errorf("after setting: %+v", obs)
			}
			apply(api.OpServiceRemove)
			apply(api.OpNodeRemove)
			if obs := observe(); obs.Lineage != "" || obs.Network != "" || len(obs.Services) > 0 {
				t.Errorf("after removing: %+v", obs)
			}
			report, err := node.Check(t.Context(), h)
			if err != nil || len(report.Problems()) > 0 {
				t.Errorf("check: %+v, %v", report, err)
			}
		})
	}
}
