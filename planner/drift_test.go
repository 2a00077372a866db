package planner

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whatever happens to a host is told once, on the host where it is; after an apply there is nothing more to tell.
func TestDrift(t *testing.T) {
	t.Parallel()
	tests := []struct {
		events string
		want   []string
	}{
		{"", nil},
		{"crash a1", []string{"a1 ~ deployment.web/POD: container web exited (1)"}},
		{"lose a1", []string{"a1 ~ deployment.web/POD: pod is missing on a1"}},
		{"stray a1", []string{"a1 - deployment.old/old-x: not in configuration or state", "a1 - service.old: rules of a service that was not applied"}},
		{"flush a2", []string{"a2 + service.web: rules are missing"}},
		{"edit a2", []string{"a2 ~ service.web: rules are not those that were applied"}},
		{"unset a2", []string{"a2 ~ node.a2: pod network is not in force"}},
		{"prune a1", []string{"a1 + deployment.web: image nginx:1 is missing"}},
		{"crash a1\nflush a2\nprune a2", []string{"a1 ~ deployment.web/POD: container web exited (1)", "a2 + deployment.web: image nginx:1 is missing", "a2 + service.web: rules are missing"}},
		{"rest a1", []string{"a1 - deployment.web/POD: only files of it were left on the node by a run that was stopped"}},
		{"unmake a1", []string{"a1 ~ deployment.web/POD: pod is missing on a1"}},
		{"reboot a1", []string{"a1 ~ deployment.web/POD: node a1 was rebooted"}},
	}
	for _, tt := range tests {
		t.Run(tt.events, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nodes("a1", "a2"))
			w.apply(w.plan(config(nodes("a1", "a2"), webDeployment(2, "nginx:1"), webService()), Options{}), first, everything)
			for line := range strings.Lines(tt.events) {
				w.event(strings.Fields(line))
			}
			p := w.plan(Applied(w.state), Options{Applied: true})
			var got []string
			for _, d := range Drift(p, w.observed()) {
				a := d.Address.Owner().String()
				if pod := d.Address.Pod; strings.HasPrefix(pod, "web-") {
					a += "/POD"
				} else if pod != "" {
					a += "/" + pod
				}
				got = append(got, fmt.Sprintf("%s %s %s: %s", d.Node, d.Repair, a, d.Problem))
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("drift (-want +got):\n%s", d)
			}
			w.apply(p, first, everything)
			if left := Drift(w.plan(Applied(w.state), Options{Applied: true}), w.observed()); left != nil {
				t.Errorf("after an apply: %v", left)
			}
		})
	}
}
