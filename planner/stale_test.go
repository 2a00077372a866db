package planner

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
)

func TestStale(t *testing.T) {
	t.Parallel()
	c := config(nodes("a1", "a2"), webDeployment(2, "nginx:1"), webService())
	tests := []struct {
		name   string
		change func(w *world)
		want   string // "" when the plan can still be applied
	}{
		{"nothing", func(*world) {}, ""},
		{"another apply", func(w *world) { w.state.Serial++ }, "serial"},
		{"another state", func(w *world) { w.state.Lineage = "other" }, "lineage"},
		{"reboot", func(w *world) { w.hosts["a1"].BootID = "again" }, "node a1: the host was rebooted"},
		{"pod gone", func(w *world) { w.hosts["a2"].Pods = nil }, "node a2: pods on it"},
		{"pod stopped", func(w *world) { stop(&w.hosts["a2"].Pods[0]) }, "node a2: pods on it"},
		{"another key", func(w *world) { w.hosts["a2"].PublicKey = "new" }, "node a2: its WireGuard key"},
		{"key gone", func(w *world) { w.hosts["a2"].PublicKey = "" }, "node a2: its WireGuard key"},
		{"host joined another cluster", func(w *world) { w.hosts["a1"].Lineage = "other" }, "node a1: the host joined"},
		{"host away", func(w *world) { w.hosts["a1"].Unreachable = "cut" }, "node a1: it cannot be reached"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nodes("a1", "a2"))
			w.hosts["a2"].PublicKey = "old"
			w.apply(w.plan(c, Options{}), first, everything)
			p := w.plan(config(nodes("a1", "a2"), webDeployment(3, "nginx:1"), webService()), Options{})
			tt.change(w)
			ds := Stale(p, w.state, w.observed())
			if ds.HasErrors() != (tt.want != "") {
				t.Fatalf("stale: %v", ds)
			}
			if tt.want != "" && !strings.Contains(ds[0].Detail, tt.want) {
				t.Errorf("detail %q does not say %q", ds[0].Detail, tt.want)
			}
			for _, d := range ds {
				if d.Severity != api.SeverityError || d.Summary != "Saved plan is stale" {
					t.Errorf("diagnostic %+v", d)
				}
			}
		})
	}
}

// The first plan of all is made before the state has a lineage; opening the state to apply it makes one.
func TestFirstPlanIsNotStale(t *testing.T) {
	t.Parallel()
	c := config(nodes("a1"), webDeployment(2, "nginx:1"), webService())
	w := newWorld(t, nodes("a1"))
	w.state = &api.State{}
	saved := w.plan(c, Options{})
	w.state.Lineage = "11111111-2222-3333-4444-555555555555"
	if ds := Stale(saved, w.state, w.observed()); ds.HasErrors() {
		t.Errorf("stale: %v", ds)
	}
	again := w.plan(c, Options{})
	if d := cmp.Diff(saved.Pods, again.Pods); d != "" {
		t.Errorf("the apply would make other pods than the plan showed:\n%s", d)
	}
	w.state.Serial = 1
	if ds := Stale(saved, w.state, w.observed()); !ds.HasErrors() {
		t.Error("a plan made before the first apply can be applied after it")
	}
}
