package local_test

import (
	"path/filepath"
	"testing"
	"time"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/statetest"
)

func TestOneWatchdogLeads(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "berth.state")
	one, two := newStore(t, path), newStore(t, path)
	if w, err := one.Watcher(t.Context()); w != nil || err != nil {
		t.Fatalf("before the first: %+v, %v", w, err)
	}
	ann := statefile.Watcher{Who: "ann@ws1", PID: 7, Seen: time.Unix(100, 0).UTC()}
	c, held, err := one.Crown(t.Context(), ann)
	if err != nil || held || c.Fence() != 1 {
		t.Fatalf("held %v, %v", held, err)
	}
	if _, held, err := two.Crown(t.Context(), statefile.Watcher{Who: "bob@ws2"}); !held || err != nil {
		t.Fatalf("two lead: held %v, %v", held, err)
	}
	ann.Seen = time.Unix(105, 0).UTC()
	if err := c.Say(t.Context(), ann); err != nil {
		t.Fatal(err)
	}
	if w, err := two.Watcher(t.Context()); err != nil || w.Who != "ann@ws1" || !w.Seen.Equal(ann.Seen) || w.Fence != 1 {
		t.Errorf("the one that leads says %+v (%v)", w, err)
	}
	if err := c.Abdicate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Context().Err() == nil {
		t.Error("its work goes on")
	}
	next, held, err := two.Crown(t.Context(), statefile.Watcher{Who: "bob@ws2"})
	if err != nil || held || next.Fence() != 2 {
		t.Fatalf("the next: held %v, %v", held, err)
	}
	if err := next.Abdicate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPeekSeesEveryChange(t *testing.T) {
	t.Parallel()
	s := newStore(t, filepath.Join(t.TempDir(), "berth.state"))
	seen := map[string]string{}
	look := func(when string) {
		t.Helper()
		p, err := statefile.Peek(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if before, again := seen[p]; again {
			t.Errorf("%s looks as %s", when, before)
		}
		seen[p] = when
		if q, err := statefile.Peek(t.Context(), s); q != p || err != nil {
			t.Errorf("%s: another look says %q, then %q (%v)", when, p, q, err)
		}
	}
	look("nothing")
	for n := range 3 {
		f := open(t, s)
		if err := f.Begin(statetest.Step(n)); err != nil {
			t.Fatal(err)
		}
		look("a step has begun")
		if err := f.Done(statetest.Step(n), statetest.Delta(n)); err != nil {
			t.Fatal(err)
		}
		look("it is done")
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		look("the run is over")
	}
}
