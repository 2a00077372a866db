package runtime_test

import (
	"context"
	"errors"
	"testing"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime"
)

// A watchdog that has been asleep goes on where it was, and nothing tells it that another leads, or that a run has come: the host refuses whatever
// it would do to a pod, in the sandbox that is there or in a new one.
func TestTendIsRefused(t *testing.T) {
	f := host(t)
	j := f.take(t, f.pod(t))
	j.must(api.OpPodEnsure, api.OpPodReady)
	f.sh(t, `mkdir -p /var/lib/berth/network; printf '{"lineage":"%s","cluster":"test","node":"n","term":3,"fence":7}\n' "$1" >`+api.MarkFile, lineage)
	t.Cleanup(func() {
		if _, err := f.Run(context.WithoutCancel(t.Context()), providers.Command{Script: `rm -f ` + api.MarkFile}); err != nil {
			t.Error(err)
		}
	})
	w := j.work
	w.Term = 3
	known := uint64(7)
	var tender runtime.Tender
	t.Cleanup(tender.Close)
	tend := func() error {
		_, err := tender.Tend(t.Context(), f, &w, runtime.TendOptions{Look: true, May: func(context.Context) (uint64, error) { return known, nil }})
		return err
	}
	if err := tend(); err != nil {
		t.Fatal(err)
	}
	ended := func(id string) {
		t.Helper()
		f.eventually(t, "the end of the container", func() bool { return !j.seen().Running() })
		if now := j.id("app"); now != id {
			t.Fatalf("it is container %s, was %s", now, id)
		}
	}

	// Another leads since.
	f.sh(t, `sed -i 's/"term":3/"term":4/' `+api.MarkFile)
	id := j.kill("app")
	ended(id)
	err := tend()
	var refused *providers.OutrankedError
	if !errors.As(err, &refused) || refused.Term != 4 || !errors.Is(err, providers.ErrFenced) {
		t.Errorf("who led before is let in: %v", err)
	}
	boxes := func() []*runtimev1.PodSandbox {
		t.Helper()
		list, err := f.cri.Runtime.ListPodSandbox(t.Context(), &runtimev1.ListPodSandboxRequest{Filter: &runtimev1.PodSandboxFilter{LabelSelector: map[string]string{"io.kubernetes.pod.uid": string(j.pod.UID)}}})
		if err != nil {
			t.Fatal(err)
		}
		return list.GetItems()
	}
	if _, err := f.cri.Runtime.StopPodSandbox(t.Context(), &runtimev1.StopPodSandboxRequest{PodSandboxId: boxes()[0].GetId()}); err != nil {
		t.Fatal(err)
	}
	if err := tend(); !errors.As(err, &refused) {
		t.Errorf("who led before makes a sandbox: %v", err)
	}
	ended(id)
	if n := len(boxes()); n != 1 {
		t.Errorf("there are %d sandboxes", n)
	}

	// It leads still, but a run has come of which it does not know.
	f.sh(t, `sed -i 's/"term":4,"fence":7/"term":3,"fence":8/' `+api.MarkFile)
	if err := tend(); !errors.Is(err, providers.ErrFenced) || errors.As(err, new(*providers.OutrankedError)) {
		t.Errorf("who does not know of the run is let in: %v", err)
	}
	ended(id)
	known = 8
	f.eventually(t, "the restart", func() bool {
		if err := tend(); err != nil {
			t.Fatal(err)
		}
		return j.seen().Running()
	})
}
