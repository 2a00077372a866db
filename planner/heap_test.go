package planner

import (
	"fmt"
	"runtime"
	"testing"
)

// TestPlanMemory plans another image for 10,000 pods on 100 nodes and looks at what the plan leaves on the heap.
func TestPlanMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("plans 10,000 pods")
	}
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("n%02d", i))
	}
	w := newWorld(t, nodes(names...))
	w.run(w.plan(benchConfig(nodes(names...), 10000, "nginx:1"), Options{}))
	in := w.input(benchConfig(nodes(names...), 10000, "nginx:2"), Options{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p, ds := Plan(in)
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if mb := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) >> 20; mb > 200 {
		t.Errorf("a plan of %d steps takes %d MB, want at most 200", len(p.Steps), mb)
	} else {
		t.Logf("a plan of %d steps takes %d MB", len(p.Steps), mb)
	}
	runtime.KeepAlive(p)
}
