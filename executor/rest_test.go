package executor_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/providers"
)

// TestRestingStepsTakeNoPlace has images that rest in turns of a minute on hosts with one place: the pods beside them do not wait, and
// never more act at once than there are places.
func TestRestingStepsTakeNoPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.takes = time.Second
		var steps []api.Step
		for range 5 {
			steps = append(steps, step(api.OpImageEnsure, "n1"))
		}
		for range 5 {
			steps = append(steps, step(api.OpPodEnsure, "n1"))
		}
		w.apply = func(ctx context.Context, work *providers.Work, _ int) error {
			if work.Step.Op != api.OpImageEnsure {
				return nil
			}
			for range 2 {
				w.leave(work)
				if err := work.Rest(ctx, time.Minute); err != nil {
					return err
				}
				w.enter(work)
			}
			return nil
		}
		began := time.Now()
		out, err := executor.Apply(t.Context(), w.options(executor.Options{Parallelism: 2, PerHost: 1}), w.input(plan(steps...)))
		if err != nil || out.Done != 10 {
			t.Fatalf("outcome %+v, %v", out, err)
		}
		if took := time.Since(began); took > 2*time.Minute+10*time.Second {
			t.Errorf("it took %s: one rested while others waited for its place", took)
		}
		if w.maxBusy["n1"] != 1 {
			t.Errorf("%d steps acted at once on a host with one place", w.maxBusy["n1"])
		}
	})
}

// TestInterruptEndsRests checks that whoever only waits is given up at the first interrupt, also when the rest begins after it.
func TestInterruptEndsRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		stop := make(chan struct{})
		in := w.input(plan(step(api.OpImageEnsure, "n1"), step(api.OpImageEnsure, "n2"), step(api.OpPodEnsure, "n1", 0)))
		in.Stop = stop
		w.apply = func(ctx context.Context, work *providers.Work, _ int) error {
			if work.Step.ID == 1 {
				time.Sleep(10 * time.Second) // it acts when the interrupt comes
			}
			return work.Rest(ctx, time.Hour)
		}
		go func() {
			time.Sleep(5 * time.Second)
			close(stop)
		}()
		began := time.Now()
		out, err := executor.Apply(t.Context(), w.options(executor.Options{}), in)
		if err != nil || !out.Interrupted || out.Done+len(out.Failed)+out.Skipped != 0 {
			t.Errorf("outcome %+v, %v", out, err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it took %s, not the 10 s of what was not to be interrupted", took)
		}
	})
}

// TestRestOnAHostThatIsLost checks that a step that comes back to a host that was lost meanwhile fails for that.
func TestRestOnAHostThatIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.apply = func(ctx context.Context, work *providers.Work, _ int) error {
			if work.Step.Op == api.OpImageEnsure {
				return work.Rest(ctx, time.Minute)
			}
			return providers.ErrUnreachable
		}
		out := w.applies(t, plan(step(api.OpImageEnsure, "n1"), step(api.OpPodEnsure, "n1"), step(api.OpPodEnsure, "n1", 0)))
		if len(out.Failed) != 2 || out.Skipped != 1 {
			t.Errorf("outcome %+v", out)
		}
	})
}

// TestPatience: an image is worth as much time as the pods that wait for it have; other steps are tried as the executor tries all.
func TestPatience(t *testing.T) {
	t.Parallel()
	pod := func(deadline int32, after int) api.Step {
		s := step(api.OpPodEnsure, "n1", after)
		s.Pod = &api.PodWork{DeadlineSeconds: deadline}
		return s
	}
	w := newWorld()
	w.takes = 0
	w.applies(t, plan(step(api.OpImageEnsure, "n1"), step(api.OpImageEnsure, "n1"), step(api.OpImageEnsure, "n1"), pod(20, 0), pod(90, 0), pod(0, 1)))
	for id, want := range map[int]time.Duration{0: 90 * time.Second, 1: 10 * time.Minute, 2: 0, 3: 0} {
		if got := w.works[id].Patience; got != want {
			t.Errorf("step %d has a patience of %s, not %s", id, got, want)
		}
	}
}

// TestLeavingPods: who removes a pod is told that an earlier run has begun it; who makes one of that address is not.
func TestLeavingPods(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.takes = 0
	in := w.input(plan(step(api.OpPodRemove, "n1"), step(api.OpPodEnsure, "n1", 0)))
	in.Leaving = map[api.Address]providers.Leaving{in.Plan.Steps[0].Address: {Grace: new(int64(5))}}
	if _, err := executor.Apply(t.Context(), w.options(executor.Options{}), in); err != nil {
		t.Fatal(err)
	}
	if l := w.works[0].Leaving; l == nil || *l.Grace != 5 {
		t.Errorf("removal: %+v", l)
	}
	if w.works[1].Leaving != nil {
		t.Error("what is made is not about to leave")
	}
}
