package all_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers/all"
)

func TestMain(m *testing.M) { labtest.Main(m, lab.Config{Nodes: 1, User: "op"}) }

// A host looks the same to root and by sudo, and a fresh one has what pods need.
func TestObserveFreshHost(t *testing.T) {
	l := labtest.Shared(t)
	pool := ssh.NewPool(ssh.Options{})
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	login := api.SSH{IdentityFile: l.Identity(), KnownHostsFile: l.KnownHosts(), ConfigFile: "none"}
	root, op := login, login
	root.User, op.User, op.Become = "root", "op", "sudo"
	var seen []*api.NodeObservation
	for _, as := range []api.SSH{root, op} {
		obs := executor.Observe(t.Context(), executor.Options{Hosts: pool, Registry: all.Registry(registry())},
			[]*api.Node{{Name: "n1", Address: l.Nodes()[0].Address, SSH: as}, {Name: "gone", Address: "host.invalid", SSH: as}})
		if gone := obs.Node("gone"); gone == nil || gone.Unreachable == "" {
			t.Errorf("a host that is not there: %+v", gone)
		}
		seen = append(seen, obs.Node("n1"))
	}
	if d := cmp.Diff(seen[0], seen[1]); d != "" {
		t.Errorf("root and sudo see different hosts (-root +sudo):\n%s", d)
	}
	if n := seen[0]; n.Unreachable != "" || n.Problems.HasErrors() || n.Facts.CPUs == 0 || n.Facts.Containerd == "" || n.BootID == "" {
		t.Errorf("observed %+v", n)
	}
}
