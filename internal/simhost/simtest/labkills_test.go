package simtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/planner"
)

// onLab returns a cluster on this package's lab host, with the tests' program beside its configuration.
func onLab(t testing.TB) *Cluster {
	t.Helper()
	l := labtest.Shared(t)
	c, err := New(nil, t.TempDir())
	must(t, err)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(c.Dir, "app"), "berth.dev/berth/e2e/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.Inventory = fmt.Sprintf("inventory \"toml\" {\n  path = %q\n}\n", l.Inventory())
	c.Dial = func() (executor.Dialer, func()) {
		p := ssh.NewPool(ssh.Options{})
		return p, func() { _ = p.Close() }
	}
	return c
}

// TestKillsOnALab kills applies at random points of random steps on a real host, over and over, forth and back between two versions: each next apply
// loads the state, has lost no recorded step, and ends with nothing left to do. SOAK_LAB_KILLS is how many, SOAK_SEED what chance begins with.
func TestKillsOnALab(t *testing.T) {
	c := onLab(t)
	n, seed := number(t, "SOAK_LAB_KILLS", 2), number(t, "SOAK_SEED", 1)
	chance := rand.New(rand.NewPCG(uint64(seed), 11)) //nolint:gosec // not negative
	must(t, c.Write(small(false)))
	_, err := c.Apply(t.Context())
	must(t, err)
	killed := 0
	for i := range n {
		after := i%2 == 0
		must(t, c.Write(small(after)))
		r, err := c.Begin(t.Context(), planner.Options{})
		must(t, err)
		if len(r.Plan.Steps) == 0 {
			t.Fatal("there is nothing to do, so nothing can be killed")
		}
		grave := t.TempDir()
		p := r.Start(grave)
		at, step := []Point{BeforeAct, Acting, AfterAct, AfterJournal}[chance.IntN(4)], chance.IntN(len(r.Plan.Steps))
		var once sync.Once
		p.At = func(point Point, s *api.Step) {
			if point == at && s.ID == step {
				once.Do(func() {
					if at == Acting {
						go p.Kill() // some time while it acts
						return
					}
					p.Kill()
				})
			}
		}
		dead, err := p.Run(t.Context())
		must(t, err)
		must(t, r.Close(context.WithoutCancel(t.Context())))
		if dead {
			killed++
			next, err := New(nil, grave)
			must(t, err)
			next.Inventory, next.Dial = c.Inventory, c.Dial
			c = next
			nothingLost(t, c, p)
		}
		if _, err := c.Apply(t.Context()); err != nil {
			t.Fatalf("kill %d, %s of step %d: the next apply: %v", i, at, step, err)
		}
		settled(t, c)
		if t.Failed() {
			t.Fatalf("that was kill %d, %s of step %d", i, at, step)
		}
		if o, err := c.Begin(t.Context(), planner.Options{}); err != nil {
			t.Fatal(err)
		} else {
			if pods := len(o.Seen.Nodes[0].Pods); pods != 1 {
				t.Errorf("kill %d, %s of step %d: %d pods are on the host", i, at, step, pods)
			}
			must(t, o.Close(t.Context()))
		}
	}
	must(t, c.Destroy(t.Context()))
	t.Logf("%d applies, %d of them killed", n, killed)
}
