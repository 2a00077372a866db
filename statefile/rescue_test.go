package statefile_test

import (
	"errors"
	"strings"
	"testing"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/statetest"
)

// TestRescue has the backend go away in the middle of a run, in every way that a call can fail from then on, and heals it with
// the file that was kept.
func TestRescue(t *testing.T) {
	t.Parallel()
	gone := errors.New("connection refused")
	for _, tt := range []struct {
		name   string
		cut    func(m *statetest.Memory)
		mended bool // the next run does not need the file
	}{
		{"everything", func(m *statetest.Memory) { m.Fail(func(string) error { return gone }) }, false},
		{"journal", func(m *statetest.Memory) {
			m.Fail(func(call string) error {
				if call == "Append" || call == "Put" {
					return gone
				}
				return nil
			})
		}, false},
		{"document", func(m *statetest.Memory) {
			m.Fail(func(call string) error {
				if call == "Put" {
					return gone
				}
				return nil
			})
		}, true},
		{"lock", func(m *statetest.Memory) { m.Break() }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := statetest.NewMemory()
			var kept []byte
			opts := statefile.OpenOptions{Rescue: func(data []byte) (string, error) { kept = data; return "errored.berthstate", nil }}
			f, err := statefile.Open(t.Context(), m, statefile.LockInfo{Version: "1.0"}, opts)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(f.Begin(statetest.Step(0)), f.Done(statetest.Step(0), statetest.Delta(0)), f.Begin(statetest.Step(1)), f.Begin(statetest.Step(2))); err != nil {
				t.Fatal(err)
			}
			tt.cut(m)
			// These were under way: they are done, whatever becomes of the record.
			for n := 1; n < 3; n++ {
				if err := f.Done(statetest.Step(n), statetest.Delta(n)); (err == nil) != tt.mended {
					t.Errorf("Done: %v", err)
				}
			}
			if err := f.Begin(statetest.Step(3)); (err == nil) != tt.mended {
				t.Errorf("another step begins: %v", err)
			}
			err = f.Close(t.Context())
			var rescued *statefile.RescuedError
			if !errors.As(err, &rescued) || rescued.Name != "errored.berthstate" || !strings.Contains(rescued.Diagnostic().Detail, "berth state push errored.berthstate") {
				t.Fatalf("Close: %v", err)
			}
			m.Fail(nil)
			m.Break()
			written, err := statefile.Push(t.Context(), m, kept, statefile.LockInfo{Version: "1.0"}, statefile.OpenOptions{}, false)
			if err != nil || written == tt.mended {
				t.Fatalf("Push: written %v, %v", written, err)
			}
			state, err := statefile.Read(t.Context(), m)
			if err != nil || len(state.Pods) != 3 {
				t.Fatalf("healed: %v, %d pods", err, len(state.Pods))
			}
			if again, err := statefile.Push(t.Context(), m, kept, statefile.LockInfo{Version: "1.0"}, statefile.OpenOptions{}, false); again || err != nil {
				t.Errorf("pushed twice: %v, %v", again, err)
			}
		})
	}
}

// TestRescueAfterAnother does not let what was kept undo a later run.
func TestRescueAfterAnother(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	var kept []byte
	f, err := statefile.Open(t.Context(), m, statefile.LockInfo{}, statefile.OpenOptions{Rescue: func(data []byte) (string, error) { kept = data; return "f", nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Begin(statetest.Step(0)), f.Done(statetest.Step(0), statetest.Delta(0))); err != nil {
		t.Fatal(err)
	}
	m.Break()
	for n := range 20 {
		if f.Done(statetest.Step(n), statetest.Delta(n)) == nil {
			t.Fatal("a record without a lock")
		}
	}
	if f.Close(t.Context()) == nil {
		t.Fatal("closed without a lock")
	}
	other, err := statefile.Open(t.Context(), m, statefile.LockInfo{}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(other.Begin(statetest.Step(50)), other.Done(statetest.Step(50), statetest.Delta(50)), other.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	var refused *statefile.RefusedError
	if _, err := statefile.Push(t.Context(), m, kept, statefile.LockInfo{}, statefile.OpenOptions{}, false); !errors.As(err, &refused) || !strings.Contains(err.Error(), "a later one") {
		t.Errorf("Push: %v", err)
	}
}
