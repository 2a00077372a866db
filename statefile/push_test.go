package statefile_test

import (
	"errors"
	"strings"
	"testing"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/statetest"
)

func runSteps(t *testing.T, s statefile.Store, from, to int) {
	t.Helper()
	f, err := statefile.Open(t.Context(), s, statefile.LockInfo{}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for n := from; n < to; n++ {
		if err := errors.Join(f.Begin(statetest.Step(n)), f.Done(statetest.Step(n), statetest.Delta(n))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func export(t *testing.T, s statefile.Store) []byte {
	t.Helper()
	data, err := statefile.Export(t.Context(), s, "test")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPush(t *testing.T) {
	t.Parallel()
	home, other := statetest.NewMemory(), statetest.NewMemory()
	if data := export(t, home); data != nil {
		t.Errorf("nothing exports as %q", data)
	}
	runSteps(t, home, 0, 2)
	runSteps(t, other, 0, 1)
	old := export(t, home)
	runSteps(t, home, 2, 3)
	newer, foreign := export(t, home), export(t, other)
	push := func(s statefile.Store, data []byte, force bool) (bool, error) {
		return statefile.Push(t.Context(), s, data, statefile.LockInfo{}, statefile.OpenOptions{}, force)
	}
	empty := statetest.NewMemory()
	if written, err := push(empty, old, false); err != nil || !written {
		t.Fatalf("to an empty store: %v, %v", written, err)
	}
	if written, err := push(empty, old, false); err != nil || written {
		t.Errorf("the same again: written %v, %v", written, err)
	}
	if written, err := push(empty, newer, false); err != nil || !written {
		t.Errorf("a newer one: %v, %v", written, err)
	}
	for want, data := range map[string][]byte{"it is older": old, "they are of two clusters": foreign} {
		var refused *statefile.RefusedError
		if _, err := push(empty, data, false); !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	before, err := statefile.Read(t.Context(), empty)
	if err != nil || len(before.Pods) != 3 {
		t.Fatalf("%d pods, want 3: %v", len(before.Pods), err)
	}
	if _, err := push(empty, old, true); err != nil {
		t.Fatal(err)
	}
	after, err := statefile.Read(t.Context(), empty)
	if err != nil || len(after.Pods) != 2 || after.Serial <= before.Serial {
		t.Errorf("forced: %d pods, serial %d after %d: %v", len(after.Pods), after.Serial, before.Serial, err)
	}
	if _, err := push(empty, []byte("{}"), true); err == nil {
		t.Error("what is no state is pushed")
	}
}

// A run goes on with greater fencing numbers after a push: hosts remember those of the former home.
func TestPushKeepsTheFence(t *testing.T) {
	t.Parallel()
	home, next := statetest.NewMemory(), statetest.NewMemory()
	for n := range 5 {
		runSteps(t, home, n, n+1)
	}
	f, err := statefile.Open(t.Context(), home, statefile.LockInfo{}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	last := f.Fence()
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := statefile.Push(t.Context(), next, export(t, home), statefile.LockInfo{}, statefile.OpenOptions{}, false); err != nil {
		t.Fatal(err)
	}
	g, err := statefile.Open(t.Context(), next, statefile.LockInfo{}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close(t.Context()) //nolint:errcheck // nothing was written
	if g.Fence() < last {
		t.Errorf("fencing number %d, but hosts may have seen %d", g.Fence(), last)
	}
}

// What a killed run has left in the journal is exported too.
func TestExportCountsTheJournal(t *testing.T) {
	t.Parallel()
	s := statetest.NewMemory()
	f, err := statefile.Open(t.Context(), s, statefile.LockInfo{}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Begin(statetest.Step(0)), f.Done(statetest.Step(0), statetest.Delta(0))); err != nil {
		t.Fatal(err)
	}
	got, err := statefile.Decode(export(t, s))
	if err != nil || len(got.Pods) != 1 {
		t.Errorf("%v, want one pod", err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
