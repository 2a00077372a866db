package statefile_test

import (
	"path/filepath"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/local"
	"berth.dev/berth/statefile/statetest"
)

// A watchdog writes the state often. What it says of pods and events pushes no backup of an apply out.
func TestBackupsOfApplies(t *testing.T) {
	t.Parallel()
	s, err := local.New(filepath.Join(t.TempDir(), "berth.state"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(do func(f *statefile.File) error) uint64 {
		t.Helper()
		f, err := statefile.Open(t.Context(), s, statefile.LockInfo{}, statefile.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := do(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		return f.State().Serial
	}
	apply := func(n int) uint64 {
		return run(func(f *statefile.File) error { return f.Done(statetest.Step(n), statetest.Delta(n)) })
	}
	first := apply(0)
	for n := range 10 {
		run(func(f *statefile.File) error { return f.Event(api.ObjectEvent{Reason: "Started"}) })
		run(func(f *statefile.File) error {
			f.Minor(true)
			return f.Done(statetest.Step(n), statetest.Delta(n))
		})
	}
	list, err := s.Backups(t.Context())
	if err != nil || len(list) != 0 {
		t.Errorf("%d backups of one apply (%v)", len(list), err)
	}
	second := apply(1)
	list, err = s.Backups(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%d backups of two applies (%v)", len(list), err)
	}
	data, err := list[0].Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := statefile.Decode(data)
	if err != nil || kept.Serial != second-1 || kept.Serial <= first {
		t.Errorf("serial %d is kept, before %d (%v)", kept.Serial, second, err)
	}
}
