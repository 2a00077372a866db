package main

import (
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
)

// Old copies are removed when as many new ones are written as there should be, and not before.
func TestStaleCopies(t *testing.T) {
	s, seen := &api.State{}, &api.Observation{}
	for _, name := range []string{"a", "b", "c", "d"} {
		s.Nodes = append(s.Nodes, api.NodeState{Name: name, Node: &api.Node{Name: name}})
		seen.Nodes = append(seen.Nodes, &api.NodeObservation{Name: name, Copy: 6})
	}
	seen.Node("c").Copy, seen.Node("c").CopyDamaged = 0, true
	s.Nodes = append(s.Nodes, api.NodeState{Name: "e", Node: &api.Node{Name: "e"}})
	seen.Nodes = append(seen.Nodes, &api.NodeObservation{Name: "e"}) // keeps none
	two := *s
	two.Nodes = s.Nodes[:2]
	k := &copies{round: &round{module: &hcl.Module{}, seen: seen}}
	for _, tt := range []struct {
		name  string
		state *api.State
		now   []string
		want  int
	}{
		{"none written", s, nil, 0},
		{"too few written", s, []string{"a", "b"}, 0},
		{"all written", s, []string{"a", "b", "c"}, 1},
		{"all written, and a damaged one is left", s, []string{"a", "b", "d"}, 1},
		{"few hosts, none written", &two, nil, 0},
		{"few hosts, all written", &two, []string{"a", "b"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := k.stale(tt.state, tt.now); len(got) != tt.want {
				t.Errorf("%d hosts lose their copy, want %d", len(got), tt.want)
			}
		})
	}
}
