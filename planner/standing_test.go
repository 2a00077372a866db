package planner

import (
	"encoding/json"
	"fmt"
	"testing"

	"berth.dev/berth/api"
)

// BenchmarkStanding computes what the watchdog needs of 10,000 pods: all of it, after a pod's readiness has changed, and after a pod was replaced.
func BenchmarkStanding(b *testing.B) {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("n%02d", i))
	}
	w := newWorld(b, nodes(names...))
	w.run(w.plan(benchConfig(nodes(names...), 10000, "nginx:1"), Options{}))
	read := func() *api.State { return copyOf(b, w.state) }
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			read()
		}
	})
	one, other := read(), read()
	other.Pods[7].Ready = !other.Pods[7].Ready
	b.Run("readiness", func(b *testing.B) { benchKeeping(b, one, other) })
	other = read()
	other.Pods[7].Node = other.Pods[8].Node
	b.Run("pod", func(b *testing.B) { benchKeeping(b, one, other) })
	b.Run("all", func(b *testing.B) {
		s := read()
		for b.Loop() {
			if kept, ds := Standing(s); ds.HasErrors() || len(kept) != 10000 {
				b.Fatal(len(kept), ds.Err())
			}
		}
	})
}

func benchKeeping(b *testing.B, one, other *api.State) {
	b.Helper()
	var k Keeping
	if _, ds := k.Take(one); ds.HasErrors() {
		b.Fatal(ds.Err())
	}
	for b.Loop() {
		one, other = other, one
		if _, ds := k.Take(one); ds.HasErrors() {
			b.Fatal(ds.Err())
		}
	}
}

// copyOf is a state that was read anew.
func copyOf(t fatal, s *api.State) *api.State {
	text, err := json.Marshal(s)
	var out api.State
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatalf("read the state: %v", err)
	}
	return &out
}

// fatal is a test, or a case of one.
type fatal interface{ Fatalf(string, ...any) }

// checkKeeping compares what was computed anew with all of it.
func checkKeeping(t fatal, k *Keeping, s *api.State) map[string]*Kept {
	whole, ds := Standing(copyOf(t, s))
	kept, kds := k.Take(copyOf(t, s))
	if ds.HasErrors() || kds.HasErrors() {
		if ds.HasErrors() != kds.HasErrors() {
			t.Fatalf("all of it: %v, what is new: %v", ds.Err(), kds.Err())
		}
		return nil
	}
	a, err := json.Marshal(whole)
	b, berr := json.Marshal(kept)
	if err != nil || berr != nil || string(a) != string(b) {
		t.Fatalf("what was computed anew is not what all of it is:\n%s\n%s", a, b)
	}
	return kept
}

// What is computed anew after a change is what all of it would be, whatever the change.
func TestKeepingIsStanding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nodes("a1", "a2", "a3"))
	c := benchConfig(nodes("a1", "a2", "a3"), 200, "nginx:1")
	w.run(w.plan(c, Options{}))
	var k Keeping
	last := map[string]*Kept{}
	check := func(what string, anew int) {
		t.Helper()
		kept := checkKeeping(t, &k, w.state)
		n := 0
		for uid, p := range kept {
			if last[uid] != p {
				n++
			}
		}
		if n != anew {
			t.Errorf("%s: %d pods were computed anew, want %d", what, n, anew)
		}
		last = kept
	}
	check("the first time", 200)
	check("nothing", 0)
	w.state.Pods[7].Ready, w.state.Pods[7].IP = !w.state.Pods[7].Ready, "10.244.9.9"
	w.state.Serial++
	check("a pod's readiness", 0)
	next := benchConfig(nodes("a1", "a2", "a3"), 200, "nginx:1")
	next.Objects[1] = webDeployment(50, "nginx:2", func(d *api.Deployment) {
		*d = *next.Objects[1].Value.(*api.Deployment)
		d.Spec.Template.Spec.Containers[0].Image = "nginx:2"
	})
	next.Objects[1].Address.Name = "app001"
	w.run(w.plan(next, Options{}))
	check("a new image of one", 50)
	w.state.Pods = w.state.Pods[:len(w.state.Pods)-1]
	check("a pod that is gone", 49)
	next.Objects = next.Objects[1:]
	w.run(w.plan(next, Options{}))
	check("one deployment less", 50)
	w.state.Nodes[0].IP = "10.0.0.99"
	check("a node", len(w.state.Pods))
}

// A pod that lacks a sensitive value is not kept: it would run without.
func TestStandingLacksValue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nodes("a1"))
	w.run(w.plan(benchConfig(nodes("a1"), 100, "nginx:1"), Options{}))
	s := copyOf(t, w.state)
	s.Pods[0].Hashes = map[string]string{"containers[app].env[TOKEN].value": api.NotKept}
	kept, ds := Standing(s)
	if ds.HasErrors() || len(kept) != len(s.Pods)-1 || kept[s.Pods[0].UID] != nil {
		t.Errorf("%d of %d pods are kept, it itself: %v: %v", len(kept), len(s.Pods), kept[s.Pods[0].UID] != nil, ds.Err())
	}
	h := &host{name: "a1", reach: up}
	if got := statePod(h, &s.Pods[0]).state(true).Hashes; len(got) != 1 {
		t.Errorf("what it lacks is forgotten: %v", got)
	}
}
