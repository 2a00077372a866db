package statefile_test

import (
	"cmp"
	"context"
	"errors"
	"testing"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/statetest"
)

// story is two runs on one store. It returns the steps that were reported as finished, and the lineage once a
// step had begun, up to the first error.
func story(ctx context.Context, m *statetest.Memory, from int) (finished []int, lineage string) {
	for run := range 2 {
		f, err := statefile.Open(ctx, m, statefile.LockInfo{}, statefile.OpenOptions{})
		if err != nil {
			return finished, lineage
		}
		for n := from + 3*run; n < from+3*run+3; n++ {
			if f.Begin(statetest.Step(n)) != nil {
				return finished, lineage
			}
			lineage = f.State().Lineage
			if n%3 == 1 {
				if f.Failed(statetest.Step(n), errors.New("x")) != nil {
					return finished, lineage
				}
				continue
			}
			if f.Done(statetest.Step(n), statetest.Delta(n)) != nil {
				return finished, lineage
			}
			finished = append(finished, n)
		}
		if f.Close(ctx) != nil {
			return finished, lineage
		}
	}
	return finished, lineage
}

// dieAt makes every call from the k-th on fail, as for a process that was killed before it. It reports whether
// there was a k-th call.
func dieAt(m *statetest.Memory, k int) (died func() bool) {
	dead := false
	m.Fail(func(string) error {
		if k--; k < 0 {
			dead = true
			return errors.New("killed")
		}
		return nil
	})
	return func() bool {
		m.Fail(nil)
		m.Break()
		return dead
	}
}

// TestCrashMatrix kills two runs before each of their calls to the store, and whoever takes over before each of
// his. Whatever is finished is there in the end, in a state of the same lineage.
func TestCrashMatrix(t *testing.T) {
	t.Parallel()
	cases := 0
	for first := 0; ; first++ {
		m := statetest.NewMemory()
		died := dieAt(m, first)
		finished, lineage := story(t.Context(), m, 0)
		if !died() {
			break
		}
		data, _, _ := m.Get(t.Context())
		journal, _ := m.Journal(t.Context())
		for second := 0; ; second++ {
			m := statetest.NewMemory()
			if data != nil || journal != nil {
				m.Set(data, journal)
			}
			died := dieAt(m, second)
			more, lineage2 := story(t.Context(), m, 100)
			again := died()
			cases++
			s := read(t, m)
			for _, n := range append(more, finished...) {
				if s.Pod(statetest.Step(n).Address) == nil {
					t.Fatalf("killed at call %d and at call %d: step %d was finished and is lost", first, second, n)
				}
			}
			if want := cmp.Or(lineage, lineage2); want != "" && s.Lineage != want {
				t.Fatalf("killed at call %d and at call %d: lineage %s became %s", first, second, want, s.Lineage)
			}
			if !again {
				break
			}
		}
	}
	t.Logf("%d cases", cases)
	if cases < 500 {
		t.Errorf("only %d cases: the runs make fewer calls than they should", cases)
	}
}
