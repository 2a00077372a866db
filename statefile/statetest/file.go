package statetest

import (
	"fmt"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
)

// Step returns a step that makes pod n.
func Step(n int) *api.Step {
	return &api.Step{ID: n, Op: api.OpPodEnsure, Address: podAddress(n), Node: "a1", Delta: Delta(n)}
}

// Delta returns what that step changes.
func Delta(n int) api.Delta {
	return api.Delta{PutPod: &api.PodState{Address: podAddress(n), Namespace: "default", UID: fmt.Sprintf("uid-%d", n), Node: "a1", Hash: "6d4cf56db6"}}
}

func podAddress(n int) api.Address {
	return api.Address{Kind: api.KindDeployment, Name: "web", Pod: fmt.Sprintf("web-%06d", n)}
}

// testFile walks a state through its life on the store.
func testFile(t *testing.T, open func() statefile.Store) {
	f, err := statefile.Open(t.Context(), open(), info("a"), statefile.OpenOptions{})
	check(t, "Open", err)
	lineage, fence := f.State().Lineage, f.Fence()
	for n := range 3 {
		check(t, "Begin", f.Begin(Step(n)))
		check(t, "Done", f.Done(Step(n), Delta(n)))
	}
	seen, err := statefile.Read(t.Context(), open())
	check(t, "Read", err)
	if len(seen.Pods) != 3 || seen.Lineage != lineage || seen.Serial != 3 {
		t.Errorf("a reader sees %d pods, lineage %s, serial %d", len(seen.Pods), seen.Lineage, seen.Serial)
	}
	check(t, "Close", f.Close(t.Context()))
	wantJournal(t, open(), "")

	f, err = statefile.Open(t.Context(), open(), info("b"), statefile.OpenOptions{})
	check(t, "Open", err)
	if s := f.State(); len(s.Pods) != 3 || s.Lineage != lineage || s.Serial != 3 || f.Fence() <= fence || !f.Recovery().IsZero() {
		t.Errorf("opened again: %d pods, lineage %s, serial %d, fence %d after %d, recovery %+v", len(s.Pods), s.Lineage, s.Serial, f.Fence(), fence, f.Recovery())
	}
	check(t, "Close", f.Close(t.Context()))
}
