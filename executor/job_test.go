package executor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/planner/rollout"
	"berth.dev/berth/providers"
)

// jobWorld is a world whose hosts have the pods of one job. A pod runs for a second, unless a script says otherwise, and stays where it
// was when it has ended.
type jobWorld struct {
	*world
	t    *testing.T
	spec *batchv1.JobSpec

	mu     sync.Mutex
	pods   map[string]*hostPod // by name
	order  []string            // names, as they were made
	alive  int
	most   int                                   // that ran at once
	script func(number int) (int, time.Duration) // exit code and time of the pod made as the n-th
}

type hostPod struct {
	node    string
	uid     string
	code    int
	ends    time.Time
	stopped bool // it was taken away
}

var jobAddress = api.Address{Kind: api.KindJob, Name: "mig"}

func newJobWorld(t *testing.T, change func(*batchv1.JobSpec)) *jobWorld {
	spec := &batchv1.JobSpec{}
	spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	change(spec)
	rollout.JobDefaults(spec)
	w := &jobWorld{world: newWorld(), t: t, spec: spec, pods: map[string]*hostPod{}}
	w.takes = time.Millisecond
	w.script = func(int) (int, time.Duration) { return 0, time.Second }
	w.world.apply, w.world.result = w.act, w.ended
	return w
}

// act is what a host does for one pod.
func (w *jobWorld) act(ctx context.Context, work *providers.Work, _ int) error {
	name := work.Step.Address.Pod
	switch work.Step.Op {
	case api.OpPodEnsure:
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.pods[name] != nil {
			w.t.Errorf("pod %s is made twice", name)
		}
		code, takes := w.script(len(w.order))
		w.pods[name] = &hostPod{node: work.Step.Node, uid: string(work.Step.Pod.Pod.UID), code: code, ends: time.Now().Add(takes)}
		w.order = append(w.order, name)
		if job := w.job(); job == nil || job.Pods < len(w.order) {
			w.t.Errorf("pod %s is made before the decision is in the journal", name)
		}
		w.alive++
		w.most = max(w.most, w.alive)
		time.AfterFunc(takes, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if !w.pods[name].stopped {
				w.alive--
			}
		})
	case api.OpPodFinish:
		w.mu.Lock()
		p := w.pods[name]
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(p.ends)):
		}
		w.mu.Lock()
		stopped := p.stopped
		w.mu.Unlock()
		if stopped { // nobody hears of an end that is not its own
			<-ctx.Done()
			return ctx.Err()
		}
	case api.OpPodRemove:
		w.mu.Lock()
		defer w.mu.Unlock()
		if p := w.pods[name]; p == nil {
			w.t.Errorf("pod %s is taken away before it was made", name)
		} else if !p.stopped && time.Now().Before(p.ends) {
			p.stopped = true
			w.alive--
		}
	}
	return nil
}

func (w *jobWorld) ended(work *providers.Work) providers.Result {
	if work.Step.Op != api.OpPodFinish {
		return providers.Result{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pods[work.Step.Address.Pod]
	end := &providers.PodEnd{Phase: corev1.PodSucceeded, Finished: p.ends, Containers: []api.ContainerEnd{{Name: "app", ExitCode: int32(p.code)}}}
	if p.code != 0 {
		end.Phase, end.Reason, end.Log = corev1.PodFailed, fmt.Sprintf("container app ended with exit code %d", p.code), " Its last words: no space left"
	}
	return providers.Result{End: end}
}

// job is the run as the state knows it.
func (w *jobWorld) job() *api.JobState {
	w.world.mu.Lock()
	defer w.world.mu.Unlock()
	if jobs := w.state.JobsOf(jobAddress); len(jobs) > 0 {
		return &jobs[0]
	}
	return nil
}

// plan is what the planner would make of what there is.
func (w *jobWorld) plan(noWait bool, slots ...string) *api.Plan {
	work := &api.JobWork{Pod: &corev1.Pod{Spec: w.spec.Template.Spec}, Hash: "h", Seed: "seed", NoWait: noWait, State: api.JobState{Address: jobAddress, Name: "mig", UID: "seed"}}
	work.Pod.Namespace = "dev"
	if j := w.job(); j != nil {
		work.State = *j
	}
	work.State.Spec = w.spec
	for _, name := range w.order {
		p := w.pods[name]
		if s := w.state.Pod(jobAddress.WithPod(name)); p.stopped || s != nil && s.Ended != "" {
			continue
		}
		j := api.JobPod{Name: name, UID: p.uid, Node: p.node, Slot: len(work.Slots), Index: -1, Phase: corev1.PodRunning, Ended: !time.Now().Before(p.ends)}
		work.Slots, work.Present = append(work.Slots, p.node), append(work.Present, j)
	}
	for i := len(work.Slots); i < len(slots); i++ {
		work.Slots = append(work.Slots, slots[i])
	}
	p := plan(api.Step{Op: api.OpJobRun, Address: jobAddress, Job: work})
	for _, n := range []string{"a", "b"} {
		p.Nodes = append(p.Nodes, &api.Node{Name: n, Address: n})
	}
	return p
}

func (w *jobWorld) run(in executor.ApplyInput) (executor.Outcome, error) {
	return executor.Apply(w.t.Context(), w.options(executor.Options{NextJob: rollout.NextJob}), in)
}

// carriesOut applies one plan; its step must be done.
func (w *jobWorld) carriesOut(noWait bool, slots ...string) {
	w.t.Helper()
	out, err := w.run(w.input(w.plan(noWait, slots...)))
	if err != nil || out.Done != 1 {
		w.t.Fatalf("outcome %+v, %v", out, err)
	}
}

func twenty(s *batchv1.JobSpec) { s.Completions, s.Parallelism = new(int32(20)), new(int32(4)) }

// A job makes its pods in its slots, no more at once than it may, each after its decision is in the journal, and counts each in the
// record that marks it as ended.
func TestJobRunsInItsSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newJobWorld(t, twenty)
		w.script = func(n int) (int, time.Duration) {
			return map[int]int{3: 7, 20: 7}[n], time.Duration(1+n%3) * time.Second
		}
		w.world.journal = func(string, *api.Step) error {
			counted := map[corev1.PodPhase]int32{}
			for _, p := range w.state.Pods {
				counted[p.Ended]++
			}
			for _, j := range w.state.Jobs {
				if counted[corev1.PodSucceeded] != j.Status.Succeeded || counted[corev1.PodFailed] != j.Status.Failed {
					t.Errorf("the job counts %d and %d, its pods are marked %v", j.Status.Succeeded, j.Status.Failed, counted)
				}
			}
			return nil
		}
		w.carriesOut(false, "a", "b", "a", "b")
		if j := w.job(); j.Status.Succeeded != 20 || j.Status.Failed != 2 || j.Finished() == nil || j.Failed() {
			t.Errorf("in the end %+v", j.Status)
		}
		if len(w.order) != 22 || w.most != 4 {
			t.Errorf("%d pods were made, %d ran at once", len(w.order), w.most)
		}
		on := map[string]int{}
		for _, p := range w.pods {
			on[p.node]++
		}
		if on["a"] == 0 || on["b"] == 0 || len(on) != 2 {
			t.Errorf("pods by host: %v", on)
		}
	})
}

// An apply that dies between any two records loses nothing: what has succeeded is counted once and does not run again.
func TestJobSurvivesADeathAnywhere(t *testing.T) {
	t.Parallel()
	for dies := 1; ; dies++ {
		ended := false
		synctest.Test(t, func(t *testing.T) {
			w := newJobWorld(t, func(s *batchv1.JobSpec) { s.Completions, s.Parallelism = new(int32(5)), new(int32(2)) })
			notes := 0
			w.world.journal = func(string, *api.Step) error {
				if notes++; notes == dies {
					return errBroken
				}
				return nil
			}
			_, err := w.run(w.input(w.plan(false, "a", "b")))
			ended = err == nil
			if !ended && !errors.Is(err, errBroken) {
				t.Fatalf("record %d: %v", dies, err)
			}
			w.world.journal = nil
			time.Sleep(1500 * time.Millisecond) // what runs runs on
			if !ended {
				w.carriesOut(false, "a", "b")
			}
			if j := w.job(); j.Status.Succeeded != 5 || j.Status.Failed != 0 {
				t.Errorf("after a death at record %d: %+v", dies, j.Status)
			}
			if len(w.order) != 5 {
				t.Errorf("after a death at record %d %d pods ran, want 5", dies, len(w.order))
			}
		})
		if ended || t.Failed() {
			return
		}
	}
}

// A job that fails says why, with the last words of its last pod, after its other pods were taken away.
func TestJobThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newJobWorld(t, func(s *batchv1.JobSpec) {
			s.Completions, s.Parallelism, s.BackoffLimit = new(int32(3)), new(int32(3)), new(int32(0))
		})
		w.script = func(n int) (int, time.Duration) {
			if n == 1 {
				return 9, time.Second
			}
			return 0, time.Hour
		}
		began := time.Now()
		out, err := w.run(w.input(w.plan(false, "a", "b", "a")))
		if err != nil || len(out.Failed) != 1 {
			t.Fatalf("outcome %+v, %v", out, err)
		}
		text := out.Failed[0].Error()
		for _, want := range []string{"Job dev/mig", "Job has reached the specified backoff limit (BackoffLimitExceeded)", "One of its pods has failed", w.order[1] + " on " + w.pods[w.order[1]].node, "exit code 9", "no space left"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing in %s", want, text)
			}
		}
		if w.alive != 0 || time.Since(began) > time.Minute {
			t.Errorf("%d pods run on after %s", w.alive, time.Since(began))
		}
	})
}

// A deadline stops what runs, and is measured from the job's start.
func TestJobDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newJobWorld(t, func(s *batchv1.JobSpec) { s.ActiveDeadlineSeconds = new(int64(30)) })
		w.script = func(int) (int, time.Duration) { return 0, time.Hour }
		began := time.Now()
		out, err := w.run(w.input(w.plan(false, "a")))
		if err != nil || len(out.Failed) != 1 || !strings.Contains(out.Failed[0].Error(), "DeadlineExceeded") {
			t.Fatalf("outcome %+v, %v", out, err)
		}
		if took := time.Since(began).Round(time.Second); took != 30*time.Second || w.alive != 0 {
			t.Errorf("ended after %s with %d pods that run", took, w.alive)
		}
	})
}

// A job that nobody waits for is begun, resized, suspended and counted by one apply after the other, none of which takes longer than
// it must.
func TestJobThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newJobWorld(t, func(s *batchv1.JobSpec) { s.Completions, s.Parallelism = new(int32(4)), new(int32(3)) })
		w.script = func(int) (int, time.Duration) { return 0, time.Minute }
		round := func(alive, succeeded int, slots ...string) {
			t.Helper()
			began := time.Now()
			w.carriesOut(true, slots...)
			if took := time.Since(began); took > time.Second {
				t.Errorf("took %s", took)
			}
			if j := w.job(); w.alive != alive || int(j.Status.Succeeded) != succeeded {
				t.Errorf("%d pods run, want %d; %d have succeeded, want %d", w.alive, alive, j.Status.Succeeded, succeeded)
			}
		}
		round(3, 0, "a", "b", "a")
		w.spec.Parallelism = new(int32(1))
		round(1, 0)
		if w.pods[w.order[0]].stopped {
			t.Error("the oldest pod was stopped")
		}
		w.spec.Suspend = new(true)
		round(0, 0)
		w.spec.Suspend, w.spec.Parallelism = new(false), new(int32(2))
		round(2, 0, "a", "b")
		time.Sleep(time.Minute)
		round(2, 2, "a", "b")
		time.Sleep(time.Minute)
		round(0, 4, "a", "b")
		if w.job().Finished() == nil {
			t.Error("it has not ended")
		}
	})
}

// The first interrupt leaves the pods as they are, and finishes those that are being made.
func TestJobIsInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newJobWorld(t, twenty)
		w.script = func(int) (int, time.Duration) { return 0, time.Minute }
		in := w.input(w.plan(false, "a", "b", "a", "b"))
		stop := make(chan struct{})
		in.Stop = stop
		time.AfterFunc(30*time.Second, func() { close(stop) })
		out, err := w.run(in)
		if err != nil || !out.Interrupted || len(out.Failed) > 0 || out.Done != 0 {
			t.Fatalf("outcome %+v, %v", out, err)
		}
		if w.alive != 4 {
			t.Errorf("%d pods run on, want 4", w.alive)
		}
		w.carriesOut(false, "a", "b", "a", "b")
		if j := w.job(); j.Status.Succeeded != 20 || len(w.order) != 20 {
			t.Errorf("%d have succeeded of %d pods", j.Status.Succeeded, len(w.order))
		}
	})
}

// A host that is lost fails the step: its pods may run on, and are no failures of the job.
func TestJobLosesAHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newJobWorld(t, twenty)
		lost := false
		w.world.apply = func(ctx context.Context, work *providers.Work, n int) error {
			if lost && work.Step.Node == "b" {
				return providers.ErrUnreachable
			}
			return w.act(ctx, work, n)
		}
		time.AfterFunc(2500*time.Millisecond, func() { lost = true })
		out, err := w.run(w.input(w.plan(false, "a", "b", "a", "b")))
		if err != nil || len(out.Failed) != 1 || !errors.Is(out.Failed[0], providers.ErrUnreachable) {
			t.Fatalf("outcome %+v, %v", out, err)
		}
		if j := w.job(); j.Status.Failed != 0 || j.Finished() != nil {
			t.Errorf("the job counts %+v", j.Status)
		}
		lost = false
		w.carriesOut(false, "a", "b", "a", "b")
		made := slices.Compact(slices.Sorted(slices.Values(w.order)))
		if j := w.job(); j.Status.Succeeded != 20 || len(made) != len(w.order) {
			t.Errorf("%d have succeeded of %d pods", j.Status.Succeeded, len(w.order))
		}
	})
}
