package statefile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/local"
	"berth.dev/berth/statefile/statetest"
)

// filled returns the path of a local state with that many pods.
func filled(b *testing.B, pods int) *local.Store {
	b.Helper()
	store, err := local.New(filepath.Join(b.TempDir(), "berth.state"))
	if err != nil {
		b.Fatal(err)
	}
	f := openBench(b, store)
	// All in one: the journal is not what is measured here.
	f.View(func(s *api.State) {
		for n := range pods {
			s.Apply(statetest.Delta(n))
		}
	})
	if err := errors.Join(f.Begin(statetest.Step(0)), f.Close(b.Context())); err != nil {
		b.Fatal(err)
	}
	return store
}

func openBench(b *testing.B, s statefile.Store) *statefile.File {
	b.Helper()
	f, err := statefile.Open(b.Context(), s, statefile.LockInfo{}, statefile.OpenOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return f
}

func sizes(b *testing.B, run func(b *testing.B, pods int)) {
	for _, pods := range []int{0, 1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) { run(b, pods) })
	}
}

// BenchmarkStep is the cost of journaling one step, begin and end, on states of several sizes.
func BenchmarkStep(b *testing.B) {
	sizes(b, func(b *testing.B, pods int) {
		f := openBench(b, filled(b, pods))
		step, delta := statetest.Step(pods/2), statetest.Delta(pods/2)
		for b.Loop() {
			if err := errors.Join(f.Begin(step), f.Done(step, delta)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkNewPod is the same for steps that put a new pod in the middle and take it away again.
func BenchmarkNewPod(b *testing.B) {
	sizes(b, func(b *testing.B, pods int) {
		f := openBench(b, filled(b, pods))
		step, put := statetest.Step(pods/2), statetest.Delta(pods/2)
		put.PutPod.Address.Pod += "-new"
		drop := api.Delta{DropPod: &put.PutPod.Address}
		for b.Loop() {
			if err := errors.Join(f.Done(step, put), f.Done(step, drop)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkStepParallel has 32 steps in flight, which share the disk's writes.
func BenchmarkStepParallel(b *testing.B) {
	f := openBench(b, filled(b, 1_000))
	var next atomic.Int64
	b.SetParallelism(16) // times GOMAXPROCS
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := int(next.Add(1)) % 1_000
			if err := errors.Join(f.Begin(statetest.Step(n)), f.Done(statetest.Step(n), statetest.Delta(n))); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSync is the floor: one line of the same size, written and synced.
func BenchmarkSync(b *testing.B) {
	file, err := os.Create(filepath.Join(b.TempDir(), "journal"))
	if err != nil {
		b.Fatal(err)
	}
	line := make([]byte, 500)
	for b.Loop() {
		if _, err := file.Write(line); err != nil {
			b.Fatal(err)
		}
		if err := file.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads a whole state.
func BenchmarkRead(b *testing.B) {
	sizes(b, func(b *testing.B, pods int) {
		store := filled(b, pods)
		for b.Loop() {
			if _, err := statefile.Read(b.Context(), store); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReadOn reads a state again after each record of a run in progress: what a watchdog does beside an apply.
func BenchmarkReadOn(b *testing.B) {
	sizes(b, func(b *testing.B, pods int) {
		store := filled(b, pods)
		f := openBench(b, store)
		r := statefile.NewReader(store)
		n := 0
		for b.Loop() {
			n++
			if err := f.Record(api.Delta{PutPin: []api.ImagePin{{Ref: "x", Pinned: strconv.Itoa(n)}}}); err != nil {
				b.Fatal(err)
			}
			if _, err := r.Look(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		if err := f.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkClose writes a whole state: what a run pays once, and what rewriting the file would cost for each
// step.
func BenchmarkClose(b *testing.B) {
	sizes(b, func(b *testing.B, pods int) {
		store := filled(b, pods)
		for b.Loop() {
			f := openBench(b, store)
			if err := errors.Join(f.Begin(statetest.Step(0)), f.Close(b.Context())); err != nil {
				b.Fatal(err)
			}
		}
	})
}
