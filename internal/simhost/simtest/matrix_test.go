package simtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/internal/simhost/disk"
	"berth.dev/berth/planner"
)

// digest returns an image reference that no registry has to explain.
func digest(c string) string { return "registry.example/app@sha256:" + strings.Repeat(c, 64) }

// mixed is a configuration of everything; with after it is the next version of it: something is created, updated in place, replaced, scaled and
// deleted, of every kind that leaves traces on hosts.
func mixed(after bool) string {
	pick := func(before, then string) string {
		if after {
			return then
		}
		return before
	}
	web := func(name, image string, replicas int) string {
		return fmt.Sprintf(`
workload "deployment" %[1]q {
  namespace = "dev"
  labels    = { app = %[1]q }
  replicas  = %[3]d
  container "app" {
    image = %[2]q
    port "http" {
      container_port = 8080
    }
    readiness_probe {
      http_get {
        port = "http"
      }
    }
  }
}
service %[1]q {
  namespace = "dev"
  selector  = { app = %[1]q }
  port "http" {
    port        = %[4]s
    target_port = "http"
  }
}
`, name, image, replicas, pick("80", "8080"))
	}
	b := web("web", digest(pick("1", "2")), 3) // rolled out; its service gets another port
	b += pick(web("old", digest("1"), 2), web("new", digest("1"), 2))
	b += `
config_map "settings" {
  namespace = "dev"
  data      = { level = "` + pick("low", "high") + `" }
}
workload "deployment" "reader" { # gets new files while it runs
  namespace        = "dev"
  labels           = { app = "reader" }
  on_config_change = "update"
  container "app" {
    image = "` + digest("3") + `"
    volume_mount "settings" {
      mount_path = "/etc/settings"
    }
  }
  volume "settings" {
    config_map {
      name = config_map.settings.name
    }
  }
}
workload "statefulset" "db" { # one more pod, with a volume of its own
  namespace    = "dev"
  labels       = { app = "db" }
  replicas     = ` + pick("1", "2") + `
  service_name = "db"
  container "app" {
    image = "` + digest("4") + `"
    volume_mount "data" {
      mount_path = "/data"
    }
  }
  volume_claim_template "data" {
    resources {
      requests = { storage = "1Gi" }
    }
  }
}
workload "daemonset" "agent" { # replaced on every node
  namespace = "dev"
  labels    = { app = "agent" }
  container "app" {
    image = "` + digest("5") + `"
    env   = { RELEASE = "` + pick("one", "two") + `" }
  }
}
volume "kept" {
  namespace      = "dev"
  capacity       = "1Gi"
}
workload "pod" "lone" { # replaced, with its volume staying
  namespace = "dev"
  container "app" {
    image = "` + digest("6") + `"
    args  = ["` + pick("a", "b") + `"]
    volume_mount "data" {
      mount_path = "/data"
    }
  }
  volume "data" {
    persistent_volume_claim {
      claim_name = volume.kept.name
    }
  }
}
`
	scratch := func(name string) string {
		return `
volume "` + name + `" {
  namespace      = "dev"
  capacity       = "1Gi"
  reclaim_policy = "Delete"
}
workload "deployment" "` + name + `" {
  namespace = "dev"
  labels    = { app = "` + name + `" }
  strategy {
    type = "Recreate"
  }
  container "app" {
    image = "` + digest("7") + `"
    volume_mount "data" {
      mount_path = "/data"
    }
  }
  volume "data" {
    persistent_volume_claim {
      claim_name = volume.` + name + `.name
    }
  }
}
`
	}
	return b + scratch(pick("gone", "come"))
}

// end is what hosts and state hold at the end, without what differs from run to run for no harm: names of pods and addresses.
func end(t testing.TB, c *Cluster) string {
	t.Helper()
	var b strings.Builder
	state, err := c.State(t.Context())
	must(t, err)
	for _, o := range state.Objects {
		fmt.Fprintf(&b, "object %s\n", o.Address)
	}
	var pods []string
	for _, p := range state.Pods {
		pods = append(pods, fmt.Sprintf("pod of %s hash %s", p.Address.Owner(), p.Hash))
	}
	slices.Sort(pods)
	b.WriteString(strings.Join(pods, "\n") + "\n")
	var here []string
	for _, h := range c.World.Hosts() {
		for _, r := range h.Running() {
			where := "" // what is free to lie on any host may lie elsewhere after a crash
			if r.Image == digest("5") {
				where = " on " + h.Name()
			}
			here = append(here, fmt.Sprintf("runs %s %s %v %s%s", r.Image, r.Name, r.Command, r.Env["RELEASE"], where))
		}
		out, _ := h.Run(`cd /var/lib/berth; find volumes -mindepth 2 -maxdepth 2 | sort
for f in pods/*/volumes/*/settings/level; do [ -e "$f" ] && cat "$f" && echo; done`)
		here = append(here, strings.Split(strings.TrimSpace(out), "\n")...)
	}
	slices.Sort(here)
	b.WriteString(strings.Join(here, "\n") + "\n")
	for _, h := range c.World.Hosts() {
		out, _ := h.Run(`cd /var/lib/berth; ls -A network/services | sed 's/^/rules /'
find . -name '*.new' -o -name '*.berth-new' -o -name '*.tmp' -o -name '*.chains'; ls /tmp`)
		fmt.Fprintf(&b, "%s: %s", h.Name(), out)
		for _, table := range []string{"nat", "filter"} {
			fmt.Fprintf(&b, "%s %s: %d rules\n", h.Name(), table, strings.Count(h.Rules(table), "\n-A "))
		}
		pods := len(h.Pods()) // each has a folder, logs and a cgroup, and nobody else has
		for _, dir := range []string{"/var/lib/berth/pods", "/var/log/pods", "/sys/fs/cgroup/cpu/berth", "/var/lib/cni/networks/berth"} {
			n := 0
			if list, err := h.Disk().List(dir); err == nil {
				for _, e := range list {
					n += btoi(e.Kind == disk.Dir && e.Name != "besteffort" || strings.HasPrefix(e.Name, "10."))
				}
			}
			if below, err := h.Disk().List(dir + "/besteffort"); err == nil {
				for _, e := range below {
					n += btoi(e.Kind == disk.Dir)
				}
			}
			if n != pods {
				fmt.Fprintf(&b, "%s has %d pods and %d of them in %s\n", h.Name(), pods, n, dir)
			}
		}
	}
	return b.String()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// settled fails unless there is nothing left to do.
func settled(t testing.TB, c *Cluster) {
	t.Helper()
	r, err := c.Begin(t.Context(), planner.Options{})
	must(t, err)
	for i := range r.Plan.Steps {
		t.Errorf("the plan after it is not empty: %s %s on %s", r.Plan.Steps[i].Op, r.Plan.Steps[i].Address, r.Plan.Steps[i].Node)
	}
	must(t, r.Close(t.Context()))
}

// before applies the first version.
func before(t testing.TB) *Cluster {
	t.Helper()
	c := newCluster(t, simhost.Options{Nodes: 2})
	must(t, c.Write(mixed(false)))
	if _, err := c.Apply(t.Context()); err != nil {
		t.Fatalf("apply the first version: %v", err)
	}
	must(t, c.Write(mixed(true)))
	return c
}

// recover goes on in the grave of a killed process.
func (c *Cluster) in(t testing.TB, grave string) *Cluster {
	t.Helper()
	next, err := New(c.World, grave)
	must(t, err)
	return next
}

// crashCase is one cell of the matrix.
type crashCase struct {
	step  int
	point Point
}

func (c crashCase) String() string { return fmt.Sprintf("step %d %s", c.step, c.point) }

// TestCrashMatrix kills an apply at every point of every step of a mixed plan: the next apply comes to the same end, and nothing that was
// recorded as done is done again.
func TestCrashMatrix(t *testing.T) {
	t.Parallel()
	var want string
	var steps int
	t.Run("without a crash", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := before(t)
			plan, err := c.Apply(t.Context())
			must(t, err)
			settled(t, c)
			want, steps = end(t, c), len(plan.Steps)
			if testing.Verbose() {
				t.Log("the end:\n" + want)
			}
		})
	})
	if t.Failed() {
		return
	}
	ops := map[api.Op]int{}
	var cases []crashCase
	for i := range steps {
		for _, p := range []Point{BeforeAct, Acting, AfterAct, AfterJournal} {
			cases = append(cases, crashCase{i, p})
		}
	}
	var mu sync.Mutex
	ran := 0
	t.Run("cases", func(t *testing.T) {
		for _, k := range cases {
			t.Run(k.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					op := crash(t, k, want)
					mu.Lock()
					ops[op]++
					ran++
					mu.Unlock()
				})
			})
		}
	})
	t.Logf("%d cases: %d steps, each at 4 points: %v", ran, steps, ops)
}

func crash(t *testing.T, k crashCase, want string) api.Op {
	c := before(t)
	r, err := c.Begin(t.Context(), planner.Options{})
	must(t, err)
	grave := t.TempDir()
	p := r.Start(grave)
	stop := c.killAt(p, k)
	killed, err := p.Run(t.Context())
	stop()
	must(t, r.Close(t.Context())) // in the old folder, which nobody reads any more
	if !killed && k.point == Acting {
		return r.Plan.Steps[k.step].Op // it is over before its second operation on the host, or has none
	}
	if !killed || err != nil {
		t.Fatalf("the process was not killed: %v", err)
	}
	next := c.in(t, grave)
	nothingLost(t, next, p)
	converges(t, next, want)
	notAgain(t, next, p)
	return r.Plan.Steps[k.step].Op
}

// converges applies again and compares the end.
func converges(t testing.TB, c *Cluster, want string) {
	t.Helper()
	if _, err := c.Apply(t.Context()); err != nil {
		t.Fatalf("the next apply: %v", err)
	}
	settled(t, c)
	if got := end(t, c); got != want {
		t.Errorf("another end than without the crash:\n%s", lineDiff(want, got))
	}
}

// nothingLost fails unless the state that a killed process has left holds all that it recorded as done.
func nothingLost(t testing.TB, c *Cluster, p *Process) {
	t.Helper()
	state, err := c.State(t.Context())
	must(t, err)
	for i, s := range p.Done() {
		undone := func(d api.Delta) bool { // a later step took it back
			return slices.ContainsFunc(p.Done()[i+1:], func(o api.Step) bool {
				return o.Delta.DropPod != nil && d.PutPod != nil && *o.Delta.DropPod == d.PutPod.Address
			})
		}
		if pod := s.Delta.PutPod; pod != nil && !undone(s.Delta) && !slices.ContainsFunc(state.Pods, func(o api.PodState) bool { return o.UID == pod.UID }) {
			t.Errorf("%s of %s was recorded, and the state does not know the pod", s.Op, s.Address)
		}
		if o := s.Delta.PutObject; o != nil && !slices.ContainsFunc(state.Objects, func(x *api.Object) bool { return x.Address == o.Address }) {
			t.Errorf("%s of %s was recorded, and the state does not know the object", s.Op, s.Address)
		}
	}
}

// killAt has a process killed at a point of a step. Call stop when it has ended.
func (c *Cluster) killAt(p *Process, k crashCase) (stop func()) {
	var mu sync.Mutex
	acting, n := false, 0
	p.At = func(at Point, s *api.Step) {
		if s.ID != k.step {
			return
		}
		if at == k.point && at != Acting {
			p.Kill()
			return
		}
		mu.Lock()
		defer mu.Unlock()
		acting = at == Acting
	}
	for _, h := range c.World.Hosts() {
		h.Before(func(string) {
			mu.Lock()
			defer mu.Unlock()
			if acting && k.point == Acting {
				if n++; n == 2 {
					go p.Kill() // it waits for this operation's call
				}
			}
		})
	}
	return func() {
		for _, h := range c.World.Hosts() {
			h.Before(nil)
		}
	}
}

// notAgain fails if a pod that was recorded as made was made once more though it is still wanted.
func notAgain(t testing.TB, c *Cluster, p *Process) {
	t.Helper()
	state, err := c.State(t.Context())
	must(t, err)
	for _, s := range p.Done() {
		if s.Op != api.OpPodEnsure || s.Delta.PutPod == nil {
			continue
		}
		for _, pod := range state.Pods {
			if pod.UID == s.Delta.PutPod.UID && pod.SandboxID != s.Delta.PutPod.SandboxID {
				t.Errorf("%s was made again: sandbox %.12s instead of %.12s", pod.Address, pod.SandboxID, s.Delta.PutPod.SandboxID)
			}
		}
	}
}

func lineDiff(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out strings.Builder
	for _, l := range a {
		if !slices.Contains(b, l) {
			fmt.Fprintln(&out, "-", l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			fmt.Fprintln(&out, "+", l)
		}
	}
	if out.Len() == 0 {
		return "the same lines another number of times:\n" + want + "\n--\n" + got
	}
	return out.String()
}
