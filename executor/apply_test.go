package executor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/providers"
)

func TestStepsRunInOrderWithinTheLimits(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				var steps []api.Step
				for i := range 300 {
					s := step(api.OpPodEnsure, fmt.Sprintf("n%d", r.IntN(5)))
					if r.IntN(10) == 0 {
						s = step(api.OpRecord, "")
					}
					for range r.IntN(3) {
						if i > 0 {
							s.After = append(s.After, r.IntN(i))
						}
					}
					steps = append(steps, s)
				}
				w := newWorld()
				w.apply = func(_ context.Context, work *providers.Work, _ int) error {
					time.Sleep(time.Duration(work.Step.ID*7%50) * time.Millisecond)
					return nil
				}
				out, err := executor.Apply(t.Context(), w.options(executor.Options{Parallelism: 6, PerHost: 2}), w.input(plan(steps...)))
				if err != nil || out.Done != 300 || out.Interrupted || len(out.Failed) > 0 {
					t.Fatalf("outcome %+v, %v", out, err)
				}
				for i, s := range steps {
					for _, before := range s.After {
						if w.at("done", before) > w.at("begin", i) {
							t.Errorf("step %d began before step %d, for which it waits, was in the journal", i, before)
						}
					}
				}
				if w.maxBusy[""] != 6 {
					t.Errorf("%d steps ran at once, not 6", w.maxBusy[""])
				}
				for n := range 5 {
					if got := w.maxBusy[fmt.Sprintf("n%d", n)]; got != 2 {
						t.Errorf("%d steps ran at once on n%d, not 2", got, n)
					}
				}
			})
		})
	}
}

func TestHostLimitFollowsItsProcessors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var steps []api.Step
		for _, n := range []string{"seen", "known", "unknown"} {
			for range 20 {
				steps = append(steps, step(api.OpPodEnsure, n))
			}
		}
		w.state.Nodes = []api.NodeState{{Name: "known", Facts: api.NodeFacts{CPUs: 1}}, {Name: "seen", Facts: api.NodeFacts{CPUs: 1}}}
		in := w.input(plan(steps...))
		in.Observed = &api.Observation{Nodes: []*api.NodeObservation{{Name: "seen", Facts: api.NodeFacts{CPUs: 3}}}}
		if _, err := executor.Apply(t.Context(), w.options(executor.Options{}), in); err != nil {
			t.Fatal(err)
		}
		want := map[string]int{"seen": 6, "known": 2, "unknown": 4, "": 12}
		if d := cmp.Diff(want, w.maxBusy); d != "" {
			t.Errorf("steps at once (-want +got):\n%s", d)
		}
	})
}

func TestWaitsTakeNoPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var steps []api.Step
		for i := range 10 {
			steps = append(steps, step(api.OpPodEnsure, "n1"), step(api.OpPodReady, "n1", 2*i))
		}
		w.apply = func(ctx context.Context, work *providers.Work, _ int) error {
			if work.Step.Op == api.OpPodReady {
				time.Sleep(time.Minute)
			}
			return nil
		}
		began := time.Now()
		out, err := executor.Apply(t.Context(), w.options(executor.Options{Parallelism: 1, PerHost: 1}), w.input(plan(steps...)))
		if err != nil || out.Done != 20 {
			t.Fatalf("outcome %+v, %v", out, err)
		}
		if took := time.Since(began); took > 62*time.Second {
			t.Errorf("ten waits of a minute took %s: one waited for another", took)
		}
	})
}

func TestFailureStopsOnlyWhatDependsOnIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.apply = func(_ context.Context, work *providers.Work, _ int) error {
			if work.Step.ID == 1 {
				return errBroken
			}
			return nil
		}
		var events []string
		o := w.options(executor.Options{Emit: func(e api.Event) {
			if e.Type != api.EventStart {
				count := ""
				if e.Type == api.EventDone {
					count = fmt.Sprintf("%d/%d", e.Done, e.Total)
				}
				events = append(events, fmt.Sprintf("%s %d %s%s", e.Type, e.Step.ID, e.Message, count))
			}
		}})
		out, err := executor.Apply(t.Context(), o, w.input(plan(
			step(api.OpPodEnsure, "n1"),
			step(api.OpPodEnsure, "n1"),
			step(api.OpPodEnsure, "n2", 0),
			step(api.OpPodEnsure, "n2", 1),
			step(api.OpRecord, "", 0, 3),
			step(api.OpRecord, "", 2),
		)))
		if err != nil {
			t.Fatal(err)
		}
		if out.Done != 3 || out.Skipped != 2 || out.Interrupted || len(out.Failed) != 1 {
			t.Fatalf("outcome %+v", out)
		}
		if got := out.Failed[0].Error(); got != "pod.ensure deployment.web on n1: broken" {
			t.Errorf("error %q", got)
		}
		w.has(t, "done", 0, 2, 5)
		w.has(t, "failed", 1)
		w.lacks(t, "begin", 3, 4)
		why := "it waits for pod.ensure deployment.web on n1, which was not done"
		text := strings.Join(events, "\n") + "\n"
		for _, want := range []string{"failed 1 ", "skipped 3 " + why, "skipped 4 " + why, "done 5 3/6"} {
			if !strings.Contains(text, want+"\n") {
				t.Errorf("no event %q in:\n%s", want, text)
			}
		}
	})
}

func TestLostHostIsTriedOnceMoreAndThenLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.dial = func(node string, attempt int) error {
			if node == "dead" {
				return fmt.Errorf("connect to dead: %w", providers.ErrUnreachable)
			}
			return nil
		}
		var steps []api.Step
		for range 50 {
			steps = append(steps, step(api.OpPodEnsure, "dead"), step(api.OpPodEnsure, "fine"))
		}
		steps = append(steps, step(api.OpPodReady, "dead", 0))
		began := time.Now()
		out := w.applies(t, plan(steps...))
		if out.Done != 50 || len(out.Failed) != 4 || out.Skipped != 47 || out.Interrupted {
			t.Errorf("outcome: %d done, %d failed, %d skipped", out.Done, len(out.Failed), out.Skipped)
		}
		if w.dials["dead"] != 8 {
			t.Errorf("the dead host was dialled %d times: each of the 4 first steps may try twice", w.dials["dead"])
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestConnectionLostOnceIsMadeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.apply = func(_ context.Context, _ *providers.Work, attempt int) error {
			if attempt == 1 {
				return fmt.Errorf("run: %w", providers.ErrUnreachable)
			}
			return nil
		}
		if out := w.applies(t, plan(step(api.OpPodEnsure, "n1"))); out.Done != 1 || w.dials["n1"] != 2 {
			t.Errorf("outcome %+v after %d connections", out, w.dials["n1"])
		}
		if d := cmp.Diff([]string{"begin 0", "done 0"}, w.log); d != "" {
			t.Errorf("journal (-want +got):\n%s", d)
		}
	})
}

func TestRetries(t *testing.T) {
	t.Parallel()
	unavailable := status.Error(codes.Unavailable, "containerd restarts")
	for _, c := range []struct {
		name     string
		err      error
		failures int
		attempts int
		done     int
		took     time.Duration
	}{
		{"unavailable, then not", fmt.Errorf("create: %w", unavailable), 3, 4, 1, 3500 * time.Millisecond},
		{"unavailable for long", unavailable, 99, 4, 0, 3500 * time.Millisecond},
		{"unreachable for long", providers.ErrUnreachable, 99, 2, 0, time.Second},
		{"refused for good", permanent{}, 99, 1, 0, 0},
		{"any other error", errBroken, 99, 1, 0, 0},
		{"not found", status.Error(codes.NotFound, "no such"), 99, 1, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.takes = 0
				w.apply = func(_ context.Context, _ *providers.Work, attempt int) error {
					if attempt <= c.failures {
						return c.err
					}
					return nil
				}
				began := time.Now()
				out := w.applies(t, plan(step(api.OpPodEnsure, "n1")))
				if out.Done != c.done || w.attempts[0] != c.attempts || time.Since(began) != c.took {
					t.Errorf("%d done after %d attempts in %s", out.Done, w.attempts[0], time.Since(began))
				}
				if c.done == 0 && !errors.Is(out.Failed[0], c.err) {
					t.Errorf("failed with %v, not with %v", out.Failed[0], c.err)
				}
			})
		})
	}
}

type permanent struct{}

func (permanent) Error() string   { return "changed host key" }
func (permanent) Unwrap() error   { return providers.ErrUnreachable }
func (permanent) Permanent() bool { return true }

func TestFirstInterruptFinishesWhatRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.takes = time.Minute
		stop := make(chan struct{})
		var events []api.EventType
		in := w.input(plan(
			step(api.OpPodEnsure, "n1"),
			step(api.OpPodEnsure, "n1", 0),
			step(api.OpPodReady, "n2"),
			step(api.OpPodEnsure, "n2"),
		))
		in.Stop = stop
		go func() {
			time.Sleep(time.Second)
			close(stop)
		}()
		began := time.Now()
		out, err := executor.Apply(t.Context(), w.options(executor.Options{Emit: func(e api.Event) { events = append(events, e.Type) }}), in)
		if err != nil || !out.Interrupted || out.Done != 2 || len(out.Failed) > 0 || out.Skipped > 0 {
			t.Errorf("outcome %+v, %v", out, err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it took %s, not the minute of the running steps", took)
		}
		w.has(t, "done", 0, 3)
		w.lacks(t, "begin", 1)
		w.has(t, "failed", 2) // the wait was given up
		if n := strings.Count(fmt.Sprint(events), string(api.EventStopping)); n != 1 {
			t.Errorf("%d stopping events in %v", n, events)
		}
	})
}

func TestInterruptBeforeTheFirstStepStartsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	stop := make(chan struct{})
	close(stop)
	in := w.input(plan(step(api.OpPodEnsure, "n1"), step(api.OpPodReady, "n1"), step(api.OpRecord, "")))
	in.Stop = stop
	out, err := executor.Apply(t.Context(), w.options(executor.Options{}), in)
	if err != nil || !out.Interrupted || len(w.log) > 0 {
		t.Errorf("outcome %+v, %v, journal %v", out, err, w.log)
	}
}

func TestSecondInterruptStopsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.takes = time.Hour
		w.apply = func(_ context.Context, work *providers.Work, _ int) error {
			if work.Step.ID == 1 {
				return providers.ErrUnreachable // it waits to be tried again
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(500 * time.Millisecond)
			cancel()
		}()
		began := time.Now()
		out, err := executor.Apply(ctx, w.options(executor.Options{}), w.input(plan(
			step(api.OpPodEnsure, "n1"), step(api.OpPodEnsure, "n2"), step(api.OpPodReady, "n1"), step(api.OpPodEnsure, "n1", 0))))
		if err != nil || !out.Interrupted || out.Done != 0 || len(out.Failed) > 0 {
			t.Errorf("outcome %+v, %v", out, err)
		}
		if took := time.Since(began); took != 500*time.Millisecond {
			t.Errorf("it took %s to stop", took)
		}
		w.has(t, "failed", 0, 1, 2)
		w.lacks(t, "begin", 3)
	})
}

func TestLostLockIsAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.takes = time.Hour
		lost := errors.New("the lock is lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			time.Sleep(time.Second)
			cancel(lost)
		}()
		out, err := executor.Apply(ctx, w.options(executor.Options{}), w.input(plan(step(api.OpPodEnsure, "n1"))))
		if !errors.Is(err, lost) || !out.Interrupted {
			t.Errorf("outcome %+v, %v", out, err)
		}
	})
}

func TestFencedHostStopsEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.takes = time.Hour
		w.apply = func(_ context.Context, work *providers.Work, _ int) error {
			if work.Step.ID == 0 {
				time.Sleep(time.Second)
				return fmt.Errorf("mark n1: %w", providers.ErrFenced)
			}
			return nil
		}
		began := time.Now()
		out, err := executor.Apply(t.Context(), w.options(executor.Options{}), w.input(plan(
			step(api.OpNodeSet, "n1"), step(api.OpPodEnsure, "n2"), step(api.OpPodEnsure, "n1", 0))))
		if !errors.Is(err, providers.ErrFenced) || !out.Interrupted || out.Done != 0 || time.Since(began) != time.Second {
			t.Errorf("outcome %+v, %v after %s", out, err, time.Since(began))
		}
	})
}

func TestJournalThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"begin", "done", "failed"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.journal = func(is string, s *api.Step) error {
					if s.ID == 0 && is == what {
						return errBroken
					}
					return nil
				}
				w.apply = func(_ context.Context, work *providers.Work, _ int) error {
					switch {
					case work.Step.ID == 0 && what == "failed":
						return errors.New("no such image")
					case work.Step.ID == 1:
						time.Sleep(time.Second)
					}
					return nil
				}
				out, err := executor.Apply(t.Context(), w.options(executor.Options{}), w.input(plan(
					step(api.OpPodEnsure, "n1"), step(api.OpPodEnsure, "n2"), step(api.OpPodEnsure, "n1", 0), step(api.OpRecord, "", 1))))
				if !errors.Is(err, errBroken) || len(out.Failed) != 1 || out.Done != 1 || !out.Interrupted {
					t.Errorf("outcome %+v, %v", out, err)
				}
				if acted := w.works[0] != nil; acted != (what != "begin") {
					t.Errorf("acted: %v", acted)
				}
				w.has(t, "done", 1) // what ran is finished
				w.lacks(t, "begin", 2, 3)
			})
		})
	}
}

func TestPlansThatCannotBeCarriedOut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		bend func(*api.Plan)
		want string
	}{
		{"unknown node", func(p *api.Plan) { p.Nodes = nil }, `node "n1", which the plan does not know`},
		{"unknown operation", func(p *api.Plan) { p.Steps[1].Op = "fly" }, "no provider carries out fly"},
		{"waits for a later one", func(p *api.Plan) { p.Steps[0].After = []int{1} }, "waits for step 1, which does not come before it"},
		{"waits for itself", func(p *api.Plan) { p.Steps[1].After = []int{1} }, "waits for step 1"},
		{"wrong number", func(p *api.Plan) { p.Steps[1].ID = 7 }, "step 1 has the number 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			p := plan(step(api.OpPodEnsure, "n1"), step(api.OpPodEnsure, "n1", 0))
			c.bend(p)
			_, err := executor.Apply(t.Context(), w.options(executor.Options{}), w.input(p))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if len(w.log) > 0 {
				t.Errorf("something was done: %v", w.log)
			}
		})
	}
}

func TestLinksAreResolvedWhenTheStepRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		web := api.Address{Kind: "deployment", Name: "web"}
		secret := &api.Object{Address: api.Address{Kind: "secret", Name: "s"}, Value: &corev1.Secret{}}
		made, old := web.WithPod("new"), web.WithPod("old")
		w := newWorld()
		again := web.WithPod("again") // a run that was killed has made its sandbox anew
		w.state.Pods = []api.PodState{{Address: again, IP: "10.244.1.2", SandboxID: "s0", UID: "3"}, {Address: old, IP: "10.244.1.9", UID: "1"}}
		w.state.Nodes = []api.NodeState{{Name: "n1", IP: "192.0.2.1", PodCIDR: "10.244.0.0/24", Facts: api.NodeFacts{CPUs: 2}}}
		w.result = func(work *providers.Work) providers.Result {
			switch work.Step.Op {
			case api.OpPodEnsure:
				return providers.Result{Pod: &api.PodState{SandboxID: "s1", IP: "10.244.0.7"}}
			case api.OpPodReady:
				return providers.Result{Pod: &api.PodState{Ready: true}}
			}
			return providers.Result{}
		}
		ensure, ready, set := step(api.OpPodEnsure, "n1"), step(api.OpPodReady, "n1", 0), step(api.OpServiceSet, "n1", 1)
		ensure.Pod = &api.PodWork{Objects: []api.Address{secret.Address}}
		ensure.Delta.PutPod = &api.PodState{Address: made, UID: "2", Node: "n1"}
		ready.Delta.PutPod = &api.PodState{Address: made, UID: "2", Node: "n1"}
		set.Service = &api.ServiceWork{Endpoints: []api.EndpointLink{
			{Pod: made, Node: "n1", Ports: map[string]int32{"http": 80}}, {Pod: old, Node: "n2"}, {Pod: again, Node: "n2"},
		}}
		p := plan(ensure, ready, set)
		p.Objects = []*api.Object{secret}
		p.Cluster.Name = "prod"
		in := w.input(p)
		in.Fence = 7
		in.Observed = &api.Observation{Nodes: []*api.NodeObservation{{Name: "n2", Pods: []api.ObservedPod{
			{Address: again, UID: "3", SandboxID: "s3", IP: "10.244.1.3"}, {Address: old, UID: "an orphan", IP: "10.244.1.4"},
		}}}}
		if out, err := executor.Apply(t.Context(), w.options(executor.Options{}), in); err != nil || out.Done != 3 {
			t.Fatalf("outcome %+v, %v", out, err)
		}
		if w.works[0].Objects[secret.Address] != secret || len(w.works[0].Objects) != 1 {
			t.Errorf("objects %v", w.works[0].Objects)
		}
		want := []providers.Endpoint{
			{Pod: made, Node: "n1", IP: "10.244.0.7", Ports: map[string]int32{"http": 80}}, {Pod: old, Node: "n2", IP: "10.244.1.9"}, {Pod: again, Node: "n2", IP: "10.244.1.3"},
		}
		if d := cmp.Diff(want, w.works[2].Endpoints); d != "" {
			t.Errorf("endpoints (-want +got):\n%s", d)
		}
		if k := w.works[2]; k.Fence != 7 || k.Lineage != "lineage" || k.Cluster.Name != "prod" || k.NodeIP != "192.0.2.1" {
			t.Errorf("work %+v", k)
		}
		wantPod := &api.PodState{Address: made, UID: "2", Node: "n1", SandboxID: "s1", IP: "10.244.0.7", Ready: true}
		if d := cmp.Diff(wantPod, w.state.Pod(made)); d != "" {
			t.Errorf("state of the pod (-want +got):\n%s", d)
		}
	})
}

func TestEndpointThatNobodyMadeRun(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := step(api.OpServiceSet, "n1")
	s.Service = &api.ServiceWork{Endpoints: []api.EndpointLink{{Pod: api.Address{Kind: "pod", Name: "x", Pod: "x"}}}}
	out := w.applies(t, plan(s))
	if len(out.Failed) != 1 || !strings.Contains(out.Failed[0].Error(), "pod.x/x") || w.works[0] != nil {
		t.Errorf("outcome %+v", out)
	}
}

func TestDeltaKeepsWhatNobodyKnows(t *testing.T) {
	t.Parallel()
	a := api.Address{Kind: "pod", Name: "x", Pod: "x"}
	before := api.PodState{Address: a, UID: "1", SandboxID: "s", IP: "10.0.0.1", Ready: true}
	joined := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	node := api.NodeState{Name: "n1", PodCIDR: "10.244.0.0/24", VTEPMAC: "02:00", IP: "192.0.2.1", BootID: "b1", Facts: api.NodeFacts{CPUs: 2}, JoinedAt: &joined}
	for _, c := range []struct {
		name   string
		delta  api.Delta
		result providers.Result
		pod    api.PodState
		node   api.NodeState
	}{
		{"same pod, nothing new", api.Delta{PutPod: &api.PodState{Address: a, UID: "1", Ready: true}}, providers.Result{}, before, node},
		{"same pod, new sandbox", api.Delta{PutPod: &api.PodState{Address: a, UID: "1"}}, providers.Result{Pod: &api.PodState{SandboxID: "t", IP: "10.0.0.2"}},
			api.PodState{Address: a, UID: "1", SandboxID: "t", IP: "10.0.0.2"}, node},
		{"another pod of the name", api.Delta{PutPod: &api.PodState{Address: a, UID: "2"}}, providers.Result{}, api.PodState{Address: a, UID: "2"}, node},
		{"node, nothing new", api.Delta{PutNode: &api.NodeState{Name: "n1"}}, providers.Result{}, before, node},
		{"node, new facts", api.Delta{PutNode: &api.NodeState{Name: "n1", BootID: "b2"}}, providers.Result{Node: &api.NodeState{Facts: api.NodeFacts{CPUs: 4}}}, before,
			api.NodeState{Name: "n1", PodCIDR: "10.244.0.0/24", VTEPMAC: "02:00", IP: "192.0.2.1", BootID: "b2", Facts: api.NodeFacts{CPUs: 4}, JoinedAt: &joined}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.takes = 0
			w.state.Pods, w.state.Nodes = []api.PodState{before}, []api.NodeState{node}
			w.result = func(*providers.Work) providers.Result { return c.result }
			s := step(api.OpPodEnsure, "n1")
			s.Delta = c.delta
			if out := w.applies(t, plan(s)); out.Done != 1 {
				t.Fatalf("outcome %+v", out)
			}
			if d := cmp.Diff([]api.PodState{c.pod}, w.state.Pods); d != "" {
				t.Errorf("pods (-want +got):\n%s", d)
			}
			if d := cmp.Diff([]api.NodeState{c.node}, w.state.Nodes); d != "" {
				t.Errorf("nodes (-want +got):\n%s", d)
			}
		})
	}
}

func TestLongStepsSayThatTheyGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.takes = 35 * time.Second
		w.apply = func(_ context.Context, work *providers.Work, _ int) error {
			if work.Step.ID == 1 {
				work.Report("pulling")
				work.Report("pulling") // nothing new
			}
			return nil
		}
		var said []string
		o := w.options(executor.Options{Emit: func(e api.Event) {
			if e.Type == api.EventProgress {
				said = append(said, fmt.Sprintf("%d %q %s", e.Step.ID, e.Message, e.Elapsed))
			}
		}})
		if _, err := executor.Apply(t.Context(), o, w.input(plan(step(api.OpPodEnsure, "n1"), step(api.OpPodEnsure, "n2")))); err != nil {
			t.Fatal(err)
		}
		want := []string{`1 "pulling" 0s`, `0 "" 10s`, `1 "pulling" 10s`, `0 "" 20s`, `1 "pulling" 20s`, `0 "" 30s`, `1 "pulling" 30s`}
		if d := cmp.Diff(want, said); d != "" {
			t.Errorf("progress (-want +got):\n%s", d)
		}
	})
}

// bigPlan is n steps in chains of ten, on a hundred hosts.
func bigPlan(n int) *api.Plan {
	steps := make([]api.Step, n)
	for i := range steps {
		steps[i] = step(api.OpPodEnsure, fmt.Sprintf("n%d", i%100))
		if i >= n/10 {
			steps[i].After = []int{i - n/10}
		}
	}
	return plan(steps...)
}

func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := bigPlan(n)
			for b.Loop() {
				w := newWorld()
				w.takes = 0
				out, err := executor.Apply(b.Context(), w.options(executor.Options{}), w.input(p))
				if err != nil || out.Done != n {
					b.Fatalf("outcome %+v, %v", out, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/step")
		})
	}
}

func TestObjectsKeepTheirAge(t *testing.T) {
	t.Parallel()
	born := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	old, young := api.Address{Kind: api.KindConfigMap, Name: "old"}, api.Address{Kind: api.KindConfigMap, Name: "young"}
	w := newWorld()
	w.state.Objects = []*api.Object{{Address: old, CreatedAt: &born}}
	a, b := step(api.OpRecord, ""), step(api.OpRecord, "")
	a.Delta.PutObject, b.Delta.PutObject = &api.Object{Address: old}, &api.Object{Address: young}
	start := time.Now().Add(-time.Second)
	if out := w.applies(t, plan(a, b)); out.Done != 2 {
		t.Fatalf("outcome %+v", out)
	}
	if at := w.state.Object(old).CreatedAt; at == nil || !at.Equal(born) {
		t.Errorf("an object that was there is now from %v", at)
	}
	if at := w.state.Object(young).CreatedAt; at == nil || at.Before(start) {
		t.Errorf("a new object is from %v", at)
	}
}
