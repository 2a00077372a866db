package executor_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/providers"
)

// TestRulesDoNotWaitForPods: a host's rules change while its only place is taken by a pod that takes long.
func TestRulesDoNotWaitForPods(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		began := time.Now()
		var took time.Duration
		w.apply = func(_ context.Context, work *providers.Work, _ int) error {
			switch work.Step.Op {
			case api.OpPodEnsure:
				time.Sleep(time.Minute)
			case api.OpServiceSet:
				took = time.Since(began)
			}
			return nil
		}
		steps := []api.Step{step(api.OpPodEnsure, "n1"), step(api.OpPodEnsure, "n1"), step(api.OpImageEnsure, "n2"), step(api.OpServiceSet, "n1", 2)}
		out, err := executor.Apply(t.Context(), w.options(executor.Options{Parallelism: 2, PerHost: 1}), w.input(plan(steps...)))
		if err != nil || out.Done != 4 {
			t.Fatalf("outcome %+v, %v", out, err)
		}
		if took > time.Second {
			t.Errorf("rules waited %s for pods", took)
		}
	})
}

// TestRulesGoTogether: all changes of rules that wait for a host are on their way to it at once, on as many hosts as may be worked on.
func TestRulesGoTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 300
		w := newWorld()
		var steps []api.Step
		for i := range 3 * n {
			steps = append(steps, step(api.OpServiceSet, []string{"n1", "n2", "n3"}[i%3]))
		}
		var mu sync.Mutex
		busy, most := map[string]int{}, 0
		w.apply = func(_ context.Context, work *providers.Work, _ int) error {
			mu.Lock()
			busy[work.Step.Node]++
			hosts := 0
			for _, k := range busy {
				hosts += min(k, 1)
			}
			most = max(most, hosts)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			busy[work.Step.Node]--
			mu.Unlock()
			return nil
		}
		out, err := executor.Apply(t.Context(), w.options(executor.Options{Parallelism: 2, PerHost: 1}), w.input(plan(steps...)))
		if err != nil || out.Done != 3*n {
			t.Fatalf("outcome %+v, %v", out, err)
		}
		for _, host := range []string{"n1", "n2", "n3"} {
			if w.maxBusy[host] != n {
				t.Errorf("%d of %d changes were on their way to %s at once", w.maxBusy[host], n, host)
			}
		}
		if most != 2 {
			t.Errorf("%d hosts were worked on at once, want 2", most)
		}
	})
}
