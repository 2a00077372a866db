package graph

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth.dev/berth/api"
)

func step(name string) api.Step {
	return api.Step{Op: api.OpRecord, Address: api.Address{Kind: api.KindService, Name: name}}
}

func TestSort(t *testing.T) {
	t.Parallel()
	var g Graph
	c := g.Add(step("c"))
	b := g.Add(step("b"), c)
	a := g.Add(step("a"), b, c, b)
	d := g.Add(step("d"))
	g.Wait(c, d)
	steps, err := g.Sort()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range steps {
		line := s.Address.Name
		for _, id := range s.After {
			line += " " + steps[id].Address.Name
		}
		got = append(got, line)
	}
	// a waits for c through b.
	if diff := cmp.Diff([]string{"d", "c d", "b c", "a b"}, got); diff != "" {
		t.Error(diff)
	}
	_ = a
}

func TestCycle(t *testing.T) {
	t.Parallel()
	var g Graph
	a := g.Add(step("a"))
	b := g.Add(step("b"), a)
	g.Add(step("c"), b)
	g.Wait(a, b)
	_, err := g.Sort()
	var cycle *CycleError
	if !errors.As(err, &cycle) {
		t.Fatalf("error %v is no cycle", err)
	}
	if diff := cmp.Diff([]string{"record service.a", "record service.b", "record service.a"}, cycle.Steps); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(err.Error(), "service.a") {
		t.Errorf("error %q names no step", err)
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	var g Graph
	few := []Step{g.Add(step("b")), g.Add(step("a"))}
	if got := g.Join(api.Address{}, "", append(few, few[0])); !slices.Equal(got, few) {
		t.Errorf("join of few is %v, want %v", got, few)
	}
	var many []Step
	for range fanLimit + 1 {
		many = append(many, g.Add(step("x")))
	}
	got := g.Join(api.Address{}, "", many)
	if len(got) != 1 || slices.Contains(many, got[0]) {
		t.Errorf("join of many is %v", got)
	}
	steps, err := g.Sort()
	if err != nil || len(steps) != g.Len()-1 {
		t.Errorf("a join that nobody waits for stays: %d steps of %d, %v", len(steps), g.Len(), err)
	}
	g.Add(step("last"), got...)
	if steps, err = g.Sort(); err != nil || len(steps) != g.Len() {
		t.Errorf("a join that is waited for goes: %d steps of %d, %v", len(steps), g.Len(), err)
	}
}

// TestSortAnything keeps every order that was asked for, reduced or not.
func TestSortAnything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var g Graph
		n := rapid.IntRange(1, 20).Draw(rt, "steps")
		for i := range n {
			s := step("s")
			s.Reason = string(rune('a' + i))
			g.Add(s)
		}
		type edge struct{ from, to int }
		var edges []edge
		for range rapid.IntRange(0, 40).Draw(rt, "edges") {
			a, b := rapid.IntRange(0, n-1).Draw(rt, "a"), rapid.IntRange(0, n-1).Draw(rt, "b")
			if a != b {
				a, b = min(a, b), max(a, b)
				edges = append(edges, edge{a, b})
				g.Wait(Step(b), Step(a))
			}
		}
		steps, err := g.Sort()
		if err != nil {
			rt.Fatal(err)
		}
		before := make([]map[string]bool, n) // everything that has succeeded when a step may run
		place := map[string]int{}
		for i, s := range steps {
			before[i] = map[string]bool{}
			for _, a := range s.After {
				before[i][steps[a].Reason] = true
				for r := range before[a] {
					before[i][r] = true
				}
			}
			place[s.Reason] = i
		}
		for _, e := range edges {
			from, to := string(rune('a'+e.from)), string(rune('a'+e.to))
			if !before[place[to]][from] {
				rt.Fatalf("%s may run before %s", to, from)
			}
		}
	})
}

func TestComponents(t *testing.T) {
	t.Parallel()
	c := Components([][]int{0: {1}, 1: {2}, 2: {0, 3}, 3: {}, 4: {3}})
	if c[0] != c[1] || c[1] != c[2] || c[3] == c[0] || c[4] == c[0] || c[4] == c[3] {
		t.Errorf("components %v", c)
	}
}
