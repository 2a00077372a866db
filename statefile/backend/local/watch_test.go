package local_test

import (
	"path/filepath"
	"testing"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/statetest"
)

func TestOneWatchdogLeads(t *testing.T) {
	t.Parallel()
	statetest.RunCrown(t, func(t *testing.T) func() statefile.Store {
		path := filepath.Join(t.TempDir(), "berth.state")
		return func() statefile.Store { return newStore(t, path) }
	})
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
