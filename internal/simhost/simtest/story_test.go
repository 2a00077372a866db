package simtest

import (
	"strings"
	"testing"

	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/planner"
)

func newCluster(t testing.TB, o simhost.Options) *Cluster {
	t.Helper()
	w := simhost.New(o)
	t.Cleanup(w.Close)
	c, err := New(w, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const web = `
workload "deployment" "web" {
  namespace = "dev"
  labels    = { app = "web" }
  replicas  = 3
  container "app" {
    image = "registry.example/web@sha256:1111111111111111111111111111111111111111111111111111111111111111"
    port "http" {
      container_port = 8080
    }
    readiness_probe {
      http_get {
        path = "/ready"
        port = "http"
      }
    }
  }
}
service "web" {
  namespace = "dev"
  selector  = { app = "web" }
  port "http" {
    port        = 80
    target_port = "http"
  }
}
`

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStory(t *testing.T) {
	t.Parallel()
	c := newCluster(t, simhost.Options{Nodes: 3})
	must(t, c.Write(web))
	plan, err := c.Apply(t.Context())
	must(t, err)
	t.Logf("%d steps", len(plan.Steps))
	var pods []string
	for _, h := range c.World.Hosts() {
		pods = append(pods, h.Pods()...)
		if !strings.Contains(h.Rules("nat"), "dev/web") {
			t.Errorf("%s has no rules for the service:\n%s", h.Name(), h.Rules("nat"))
		}
	}
	if len(pods) != 3 {
		t.Errorf("pods %v", pods)
	}
	r, err := c.Begin(t.Context(), planner.Options{})
	must(t, err)
	if len(r.Plan.Steps) != 0 {
		t.Errorf("a second plan has %d steps: %v", len(r.Plan.Steps), r.Plan.Steps)
	}
	must(t, r.Close(t.Context()))
	must(t, c.Destroy(t.Context()))
	for _, h := range c.World.Hosts() {
		if len(h.Pods()) > 0 || strings.Contains(h.Rules("nat")+h.Rules("filter"), "BERTH") {
			t.Errorf("%s has left %v and\n%s", h.Name(), h.Pods(), h.Rules("nat"))
		}
		if _, err := h.Disk().Stat("/var/lib/berth"); err == nil {
			out, _ := h.Run("find /var/lib/berth")
			t.Errorf("%s still has\n%s", h.Name(), out)
		}
	}
}
