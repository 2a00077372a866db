package simtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/planner"
)

func TestMain(m *testing.M) {
	// Thousands of states are written and synced: in memory, where that can be, no disk has to keep up. A crash is a copy of a folder here.
	if dir, err := os.MkdirTemp("/dev/shm", "berth-simtest-"); err == nil {
		defer os.RemoveAll(dir)
		os.Setenv("TMPDIR", dir)
	}
	labtest.Main(m, lab.Config{Nodes: 1})
}

// small is a configuration whose next version changes everything in it.
func small(after bool) string {
	release := "one"
	if after {
		release = "two"
	}
	return `
image "app" {
  base       = "scratch"
  entrypoint = ["/app"]
  copy "/app" {
    from = "app"
  }
}
volume "data" {
  capacity       = "1Gi"
  reclaim_policy = "Delete"
}
config_map "settings" {
  data = { release = "` + release + `" }
}
workload "deployment" "web" {
  labels = { app = "web" }
  strategy {
    type = "Recreate"
  }
  init_container "first" {
    image = image.app.ref
    args  = ["env"]
  }
  container "app" {
    image = image.app.ref
    env   = { RELEASE = "` + release + `", ADDR = ":8080" }
    port "http" {
      container_port = 8080
    }
    readiness_probe {
      period_seconds = 1
      http_get {
        path = "/healthz"
        port = "http"
      }
    }
    volume_mount "data" {
      mount_path = "/data"
    }
    volume_mount "settings" {
      mount_path = "/etc/settings"
    }
  }
  volume "data" {
    persistent_volume_claim {
      claim_name = volume.data.name
    }
  }
  volume "settings" {
    config_map {
      name = config_map.settings.name
    }
  }
}
service "web" {
  selector = { app = "web" }
  port "http" {
    port        = 80
    target_port = "http"
  }
}
`
}

// What happens to hosts behind Berth's back, by scripts that do the same on a real one and on a simulated one.
const (
	spoil = `iptables -t nat -F BERTH-SERVICES; rm -f /etc/sysctl.d/99-berth.conf`
)

// shown is what providers observe, without what differs from one cluster to another: names of pods, identifiers, addresses, times.
func shown(o *api.Observation) string {
	var b strings.Builder
	for _, n := range o.Nodes {
		fmt.Fprintf(&b, "unreachable %q, network in force %v\n", n.Unreachable, n.Network != "")
		var services []string
		for name, hash := range n.Services {
			services = append(services, fmt.Sprintf("service %s in force %v", name, hash != ""))
		}
		slices.Sort(services)
		for _, s := range services {
			fmt.Fprintln(&b, s)
		}
		for _, v := range n.Volumes {
			fmt.Fprintf(&b, "volume %s/%s at %s\n", v.Namespace, v.Name, v.Path)
		}
		for _, p := range n.Pods {
			fmt.Fprintf(&b, "pod of %s, sandbox ready %v attempt %d, address %v, labels %v, evict %q\n", p.Address.Owner(), p.SandboxReady, p.SandboxAttempt, p.IP != "", p.Labels, p.Evict)
			for _, c := range p.Containers {
				fmt.Fprintf(&b, "  %s attempt %d %s exit %d %s signal %d init %v started %v finished %v last %v\n", c.Name, c.Attempt, c.State, c.ExitCode, c.Reason, c.Signal, c.Init,
					!c.StartedAt.IsZero(), !c.FinishedAt.IsZero(), c.Last != nil)
			}
		}
		for _, p := range n.Problems {
			if p.Severity == api.SeverityError {
				fmt.Fprintf(&b, "problem %s\n", p.Summary)
			}
		}
	}
	return b.String()
}

// told runs the story and returns what was seen at each stage. kill ends the app's container from outside.
func told(t *testing.T, c *Cluster, kill func(*Round)) []string {
	t.Helper()
	var stages []string
	look := func(name string, between func(*Round)) {
		t.Helper()
		r, err := c.Begin(t.Context(), planner.Options{})
		must(t, err)
		defer func() { must(t, r.Close(context.WithoutCancel(t.Context()))) }()
		if between != nil {
			between(r)
		}
		var ops []string
		for _, s := range r.Plan.Steps {
			ops = append(ops, string(s.Op))
		}
		stages = append(stages, fmt.Sprintf("%s\nplanned before %v\n%s", name, ops, shown(r.Look(t.Context()))))
	}
	apply := func(name string) {
		t.Helper()
		_, err := c.Apply(t.Context())
		must(t, err)
		look(name, nil)
	}
	must(t, c.Write(small(false)))
	apply("applied")
	must(t, c.Write(small(true)))
	apply("changed")
	look("killed", kill)
	look("after the kill", nil)
	apply("applied again")
	look("spoiled", func(r *Round) { must(t, r.Run(t.Context(), spoil)) })
	apply("mended")
	must(t, c.Destroy(t.Context()))
	look("destroyed", nil)
	return stages
}

// TestConforms tells the same story on a simulated and on a real host, and compares what providers observe: that is what keeps the fake honest.
func TestConforms(t *testing.T) {
	real := onLab(t) // not beside the others that use the host
	program, err := os.ReadFile(filepath.Join(real.Dir, "app"))
	must(t, err)
	sim := newCluster(t, simhost.Options{Behave: func(c simhost.Container) simhost.Behaviour {
		return simhost.Behaviour{Ends: c.Name == "first"}
	}})
	must(t, os.WriteFile(filepath.Join(sim.Dir, "app"), program, 0o755))
	got := told(t, sim, func(*Round) {
		if n := sim.World.Host("n1").Kill(false, func(c simhost.Container) bool { return c.Name == "app" }); n != 1 {
			t.Errorf("%d containers were killed", n)
		}
	})

	want := told(t, real, func(r *Round) {
		must(t, r.Run(t.Context(), `for p in /proc/[0-9]*; do
	if [ "$(cat "$p/comm" 2>/dev/null)" = app ]; then kill -9 "${p##*/}"; fi
done`))
		for deadline := time.Now().Add(30 * time.Second); !bytes.Contains([]byte(shown(r.Look(t.Context()))), []byte("exit 137")); {
			if time.Now().After(deadline) {
				t.Fatal("the container did not end")
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	for i := range want {
		if want[i] != got[i] {
			t.Errorf("the simulated host shows something else than the real one:\n%s", lineDiff(want[i], got[i]))
		}
	}
	if testing.Verbose() {
		t.Logf("%d stages, the same on both:\n%s", len(want), strings.Join(want, "\n"))
	}
}
