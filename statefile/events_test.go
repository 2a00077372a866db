package statefile_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/statetest"
)

// tell records an event of a reason that says which it is.
func tell(t *testing.T, f *statefile.File, n int) {
	t.Helper()
	if err := f.Event(api.ObjectEvent{Object: api.NodeEventObject("a1"), Reason: fmt.Sprint("Reason", n), Message: "x"}); err != nil {
		t.Fatal(err)
	}
}

func reasons(events []api.ObjectEvent) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.Reason)
	}
	return out
}

// TestEventsAreKept looks at events during a run, after one that was killed, and after it was taken over: they are there, once,
// and no serial is raised for them.
func TestEventsAreKept(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	do(t, f, 0, 1)
	tell(t, f, 0)
	closeFile(t, f)

	f = open(t, m)
	tell(t, f, 1)
	tell(t, f, 2)
	want := []string{"Reason0", "Reason1", "Reason2"}
	check := func(when string, s *api.State) {
		t.Helper()
		if d := cmp.Diff(want, reasons(s.Events)); d != "" || s.Serial != 1 {
			t.Errorf("%s: serial %d\n%s", when, s.Serial, d)
		}
	}
	check("during", read(t, m))
	m.Break() // killed
	check("after", read(t, m))
	g := open(t, m)
	check("taken over", g.State())
	closeFile(t, g)
	check("at the end", read(t, m))
}

// TestEventsSurviveEveryDeath kills a run that tells of events before every call of its store, and the takeover likewise: no
// event that was reported as kept is lost, and none counts twice.
func TestEventsSurviveEveryDeath(t *testing.T) {
	t.Parallel()
	for k := range 20 {
		m := statetest.NewMemory()
		f := open(t, m)
		do(t, f, 0, 1)
		closeFile(t, f)
		died := dieAt(m, k)
		kept := 0
		if f, err := statefile.Open(t.Context(), m, statefile.LockInfo{}, statefile.OpenOptions{}); err == nil {
			for n := range 3 {
				if f.Event(api.ObjectEvent{Object: api.NodeEventObject("a1"), Reason: fmt.Sprint("Reason", n)}) != nil {
					break
				}
				kept++
			}
			_ = f.Close(t.Context())
		}
		dead := died()
		for _, again := range []int{1, 2, 3, 100} {
			died := dieAt(m, again)
			if f, err := statefile.Open(t.Context(), m, statefile.LockInfo{}, statefile.OpenOptions{}); err == nil {
				_ = f.Close(t.Context())
			}
			died()
		}
		s := read(t, m)
		if len(s.Events) < kept {
			t.Errorf("killed before call %d: %d events were kept, %d are there", k, kept, len(s.Events))
		}
		for _, e := range s.Events {
			if e.Count != 1 {
				t.Errorf("killed before call %d: %s counts %d", k, e.Reason, e.Count)
			}
		}
		if !dead {
			return
		}
	}
	t.Error("the run never came to its end")
}

// TestFollow has one process tell and another follow, over the end of a run and the next one.
func TestFollow(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	tell(t, f, 0)
	follower := statefile.Follow(m, read(t, m))
	look := func(want ...string) {
		t.Helper()
		var got []string
		for range 9 { // a look at the document comes after some that find no journal
			events, err := follower.Look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, reasons(events)...)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	look()
	tell(t, f, 1)
	tell(t, f, 2)
	look("Reason1", "Reason2")
	tell(t, f, 1)
	look("Reason1")
	tell(t, f, 3)
	closeFile(t, f)
	look("Reason3")
	f = open(t, m)
	tell(t, f, 4)
	closeFile(t, f) // came and went between two looks
	look("Reason4")
	f = open(t, m)
	do(t, f, 0, 2)
	tell(t, f, 4)
	look("Reason4")
	closeFile(t, f)
	look()
}
