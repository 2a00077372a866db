package statefile_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/statetest"
)

// A reader sees at any moment what a look that reads everything sees, through runs that end, are killed and taken over; and what it said before
// stays as it was.
func TestReader(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		chance := rand.New(rand.NewPCG(seed, 1))
		m := statetest.NewMemory()
		r := statefile.NewReader(m)
		type said struct {
			glance *statefile.Glance
			text   string
		}
		var all []said
		check := func(when string) {
			t.Helper()
			got, err := r.Look(t.Context())
			if err != nil {
				t.Fatalf("seed %d, %s: %v", seed, when, err)
			}
			want, err := statefile.Look(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(textOf(t, want), textOf(t, got)); d != "" {
				t.Fatalf("seed %d, %s:\n%s", seed, when, d)
			}
			all = append(all, said{got, textOf(t, got)})
		}
		check("before anything")
		for range 6 {
			f := open(t, m)
			check("locked")
			for i := range chance.IntN(12) {
				step := &api.Step{ID: i + 1, Address: api.Address{Kind: api.KindDeployment, Name: fmt.Sprint("d", chance.IntN(4))}, Op: api.OpPodEnsure, Node: "a1"}
				var err error
				switch chance.IntN(5) {
				case 0:
					err = f.Event(api.ObjectEvent{Object: api.NodeEventObject("a1"), Reason: fmt.Sprint("R", chance.IntN(3)), Message: "x"})
				case 1:
					err = f.Record(someDelta(chance))
				case 2:
					err = f.Begin(step)
				case 3:
					if err = f.Begin(step); err == nil {
						err = f.Failed(step, fmt.Errorf("no room"))
					}
				default:
					if err = f.Begin(step); err == nil {
						err = f.Done(step, someDelta(chance))
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				if chance.IntN(3) > 0 {
					check(fmt.Sprint("step ", i))
				}
			}
			if chance.IntN(3) == 0 {
				m.Break() // killed
				check("killed")
				continue
			}
			closeFile(t, f)
			check("closed")
			check("closed, again")
		}
		for i, s := range all {
			if now := textOf(t, s.glance); now != s.text {
				t.Fatalf("seed %d: what was said as %d. is another thing now:\n%s", seed, i, cmp.Diff(s.text, now))
			}
		}
	}
}

func textOf(t *testing.T, g *statefile.Glance) string {
	t.Helper()
	b, err := json.MarshalIndent(g, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// someDelta puts or drops something.
func someDelta(chance *rand.Rand) api.Delta {
	name := fmt.Sprint("x", chance.IntN(5))
	pod := api.Address{Kind: api.KindDeployment, Name: "web", Pod: name}
	switch chance.IntN(6) {
	case 0:
		return api.Delta{PutNode: &api.NodeState{Name: name, BootID: fmt.Sprint(chance.IntN(3))}}
	case 1:
		return api.Delta{DropNode: name}
	case 2:
		return api.Delta{DropPod: &pod}
	case 3:
		return api.Delta{PutPin: []api.ImagePin{{Ref: name, Pinned: fmt.Sprint(chance.IntN(3))}}}
	case 4:
		return api.Delta{Record: &api.ApplyRecord{}}
	}
	return api.Delta{PutPod: &api.PodState{Address: pod, UID: name, Ready: chance.IntN(2) == 0}}
}
