package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// NextJob decides what a job wants done now: planner/rollout has it. pods are those that run, in the order in which they were made,
// and those that have ended since the decision before.
type NextJob func(w *api.JobWork, state api.JobState, pods []api.JobPod, now time.Time) api.JobDecision

// job carries one run of a job to its end: a loop around the decision that makes pods in free slots, waits for them, and takes away
// those that are not wanted any more. Every decision that changed something is in the journal before anything is done about it, and
// a pod that has ended is counted in the same record as it is marked: whoever goes on after a kill neither counts it again nor runs
// again what has succeeded.
type job struct {
	w    *walk
	a    *action
	work *api.JobWork

	acting context.Context // of what changes hosts: the first interrupt does not end it
	state  api.JobState
	next   api.JobDecision
	pods   []*jobPod // that run or are being taken away, in the order in which they were made
	events chan jobEvent
	begun  sync.WaitGroup
	flying int    // ensures and removals that are not done
	said   string // the progress that was told last
	last   string // what the last failed pod said

	failed error // a pod could not be made, or a host cannot be reached
}

type jobPod struct {
	api.JobPod
	stopped bool               // it is being taken away
	cancel  context.CancelFunc // of the wait for its end
	last    chan struct{}      // closed when what was begun with it last has ended: one thing at a time
}

func newJobPod(p api.JobPod) *jobPod {
	begun := make(chan struct{})
	close(begun)
	return &jobPod{JobPod: p, cancel: func() {}, last: begun}
}

// turn makes what is begun next with a pod wait for what was begun before. It returns that one's end, and what ends the next.
func (p *jobPod) turn() (before <-chan struct{}, end func()) {
	before, own := p.last, make(chan struct{})
	p.last = own
	return before, func() { close(own) }
}

// jobEvent is something that happened to one pod.
type jobEvent struct {
	pod      *jobPod
	made     bool
	gone     bool // it was taken away
	restarts int32
	end      *providers.PodEnd
	err      error
}

// runJob is the step job.run.
func (w *walk) runJob(ctx context.Context, a *action) error {
	if w.opts.NextJob == nil {
		return errors.New("nobody decides what the job wants: Options.NextJob is not set")
	}
	acting, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abandon(nil)
	stop := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); !errors.Is(cause, errStopped) {
			abandon(cause)
		}
	})
	defer stop()
	j := &job{w: w, a: a, work: a.step.Job, acting: acting, state: a.step.Job.State, events: make(chan jobEvent, 16)}
	err := j.run(ctx)
	for j.flying > 0 { // what changes hosts is finished
		if e := j.take(<-j.events); fatal(e) != nil {
			err = errors.Join(err, e)
		}
	}
	for _, p := range j.pods {
		p.cancel()
	}
	go func() { // takes what the waits for pods still say, until the last of them has ended
		j.begun.Wait()
		close(j.events)
	}()
	for range j.events { //nolint:revive // emptied
	}
	return err
}

func (j *job) run(ctx context.Context) error {
	counted := []api.JobPod{}
	for _, p := range j.work.Present {
		if p.Phase != corev1.PodRunning {
			counted = append(counted, p)
			continue
		}
		pod := newJobPod(p)
		j.pods = append(j.pods, pod)
		j.await(ctx, pod)
	}
	if err := j.decide(ctx, counted, nil); err != nil {
		return err
	}
	for {
		d, err := j.settled()
		if d || err != nil {
			return err
		}
		timer := time.NewTimer(j.pause())
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
			err = j.decide(ctx, nil, nil)
		case e := <-j.events:
			timer.Stop()
			if err = j.take(e); err == nil {
				err = j.after(ctx, e)
			}
		}
		if err != nil {
			return err
		}
	}
}

// pause is the time until the last decision wants another one.
func (j *job) pause() time.Duration {
	if j.next.Again.IsZero() {
		return time.Hour
	}
	return max(time.Until(j.next.Again), 10*time.Millisecond)
}

// settled reports whether the job is over, or has been begun where nobody waits for it.
func (j *job) settled() (bool, error) {
	if j.failed != nil {
		return true, j.failed
	}
	if j.next.Over && len(j.pods) == 0 {
		if j.state.Failed() {
			return true, j.failure()
		}
		return true, nil
	}
	uncounted := slices.ContainsFunc(j.pods, func(p *jobPod) bool { return p.Ended && !p.stopped })
	return j.work.NoWait && j.flying == 0 && len(j.next.Delete) == 0 && !uncounted, nil
}

// take brings the books up to date with an event.
func (j *job) take(e jobEvent) error {
	switch {
	case e.made || e.gone:
		j.flying--
		if e.err != nil && j.failed == nil {
			j.failed = e.err
		}
		if e.gone && e.err == nil {
			j.pods = slices.DeleteFunc(j.pods, func(p *jobPod) bool { return p == e.pod })
		}
	case e.err != nil && !e.pod.stopped && j.failed == nil:
		j.failed = e.err
	}
	return fatal(e.err)
}

// after does what follows from an event.
func (j *job) after(ctx context.Context, e jobEvent) error {
	switch {
	case e.err != nil:
		return nil
	case e.made:
		if !e.pod.stopped {
			j.await(ctx, e.pod)
		}
		return nil
	case e.gone:
		return j.decide(ctx, nil, nil)
	case e.end == nil:
		e.pod.Restarts = e.restarts
		return j.decide(ctx, nil, nil)
	case e.pod.stopped:
		return nil
	}
	p := e.pod
	p.Phase, p.Finished, p.Containers = e.end.Phase, e.end.Finished, e.end.Containers
	if e.end.Gone {
		p.Conditions = []string{string(corev1.DisruptionTarget)}
	}
	j.pods = slices.DeleteFunc(j.pods, func(o *jobPod) bool { return o == p })
	if p.Phase == corev1.PodFailed {
		j.last = fmt.Sprintf("The last one that failed was %s on %s: %s.%s", p.Name, p.Node, e.end.Reason, e.end.Log)
		j.tell(corev1.EventTypeWarning, "PodFailed", fmt.Sprintf("Pod %s failed: %s", p.Name, e.end.Reason))
	}
	return j.decide(ctx, []api.JobPod{p.JobPod}, p)
}

// decide asks what to do now, records the answer, and begins to do it. ended is the pod that is counted with it, if any.
func (j *job) decide(ctx context.Context, counted []api.JobPod, ended *jobPod) error {
	pods := counted
	for _, p := range j.pods {
		pods = append(pods, p.JobPod)
	}
	before := j.state
	d := j.w.opts.NextJob(j.work, j.state, pods, time.Now().UTC())
	j.next, j.state = d, d.State
	if err := j.record(&before, ended); err != nil {
		return err
	}
	j.say()
	for _, name := range d.Delete {
		if i := slices.IndexFunc(j.pods, func(p *jobPod) bool { return p.Name == name }); i >= 0 && !j.pods[i].stopped {
			j.remove(j.pods[i])
		}
	}
	for _, p := range d.Create {
		j.create(p)
	}
	return nil
}

// record journals a decision that changed the job, with the pod that it has counted.
func (j *job) record(before *api.JobState, ended *jobPod) error {
	delta := api.Delta{PutJob: &j.state}
	if ended != nil {
		if s, ok := j.w.facts.pod(j.address(ended)); ok {
			s.Ended = ended.Phase
			delta.PutPod = &s
		}
	}
	if ended == nil && before.Pods == j.state.Pods && sameStatus(before, &j.state) {
		return nil
	}
	if err := j.w.in.Journal.Done(j.a.step, delta); err != nil {
		return &journalError{err}
	}
	j.w.facts.take(delta)
	for _, t := range newConditions(before, &j.state) {
		j.tell(corev1.EventTypeNormal, t.reason, t.message)
	}
	return nil
}

// say reports how far the job is, once for each thing.
func (j *job) say() {
	s := &j.state
	text := fmt.Sprintf("%d completed", s.Status.Succeeded)
	if s.Spec.Completions != nil {
		text = fmt.Sprintf("%d of %d completed", s.Status.Succeeded, *s.Spec.Completions)
	}
	if s.Status.Failed > 0 {
		text += fmt.Sprintf(", %d failed", s.Status.Failed)
	}
	if j.next.Delayed != "" {
		text += ", " + j.next.Delayed
	}
	if text != j.said && (s.Status.Succeeded > 0 || s.Status.Failed > 0) {
		j.said = text
		j.w.reporter(j.a.step.ID)(text)
	}
}

func (j *job) address(p *jobPod) api.Address { return j.a.step.Address.WithPod(p.Name) }

// step is one operation on a pod of the job, as if the plan had it.
func (j *job) step(op api.Op, p *jobPod) (*action, error) {
	whole := j.work.PodFor(p.JobPod)
	s := &api.Step{ID: j.a.step.ID, Op: op, Address: j.address(p), Node: p.Node, Pod: &api.PodWork{
		Pod: whole, Hash: j.work.Hash, Objects: j.work.Objects, Claims: j.work.Claims, ToEnd: true, DeadlineSeconds: 1<<31 - 1,
	}}
	switch op {
	case api.OpPodEnsure:
		s.Delta.PutPod = &api.PodState{Address: s.Address, Namespace: whole.Namespace, UID: p.UID, Node: p.Node, Hash: j.work.Hash, Spec: &whole.Spec, Labels: whole.Labels, Sensitive: j.work.Sensitive}
	case api.OpPodRemove:
		s.Delta.DropPod = &s.Address
	}
	a := &action{step: s, node: j.w.nodes[p.Node], provider: j.w.opts.Registry.For(op)}
	if a.node == nil || a.provider == nil {
		return nil, fmt.Errorf("pod %s of the job is for node %q, which the plan does not know", p.Name, p.Node)
	}
	return a, nil
}

// create makes a pod in its slot. On one host no more are made at once than other steps would be.
func (j *job) create(p api.JobPod) {
	pod := newJobPod(p)
	j.pods = append(j.pods, pod)
	j.act(api.OpPodEnsure, pod, jobEvent{pod: pod, made: true})
}

// remove takes a pod away, once nobody waits for its end any more: that it ends now is no end to be counted.
func (j *job) remove(pod *jobPod) {
	pod.stopped, pod.Deleting = true, true
	pod.cancel()
	j.act(api.OpPodRemove, pod, jobEvent{pod: pod, gone: true})
}

func (j *job) act(op api.Op, pod *jobPod, e jobEvent) {
	j.flying++
	a, err := j.step(op, pod)
	before, end := pod.turn()
	j.begun.Go(func() {
		defer end()
		<-before
		if err == nil {
			room := j.w.jobRoom[pod.Node]
			room <- struct{}{}
			err = j.w.carryOut(j.acting, a)
			<-room
		}
		e.err = err
		j.events <- e
	})
}

// await waits for the end of a pod.
func (j *job) await(ctx context.Context, pod *jobPod) {
	ctx, cancel := context.WithCancel(ctx)
	pod.cancel = cancel
	a, err := j.step(api.OpPodFinish, pod)
	before, end := pod.turn()
	j.begun.Go(func() {
		defer end()
		defer cancel()
		<-before
		var res providers.Result
		if err == nil {
			a.restarted = func(n int32) {
				if n > 0 {
					j.events <- jobEvent{pod: pod, restarts: n}
				}
			}
			res, err = j.w.act(ctx, a)
		}
		if ctx.Err() != nil {
			return // nobody asks any more
		}
		j.events <- jobEvent{pod: pod, end: res.End, err: err}
	})
}

// failure is the error of a job that has failed.
func (j *job) failure() error {
	c := j.state.Finished()
	detail := fmt.Sprintf("Job %s/%s: %s (%s). %s", j.work.Pod.Namespace, j.state.Name, strings.TrimSuffix(c.Message, "."), c.Reason, failures(&j.state))
	if j.last != "" {
		detail += " " + j.last
	}
	detail += "\nIts pods stay, so that their logs can be read. Correct the job or what it needs, and apply again: it is made anew."
	return (api.Diagnostics{{Severity: api.SeverityError, Summary: "Job failed", Detail: detail, Address: j.a.step.Address.String()}}).Err()
}

func failures(s *api.JobState) string {
	switch s.Status.Failed {
	case 0:
		return "None of its pods has failed."
	case 1:
		return "One of its pods has failed."
	}
	return fmt.Sprintf("%d of its pods have failed.", s.Status.Failed)
}

// tell keeps an event about the job.
func (j *job) tell(t, reason, message string) {
	j.w.happened(j.a, api.ObjectEvent{Type: t, Reason: reason, Message: message, Source: "job-controller"})
}

type transition struct{ reason, message string }

// newConditions are those that a decision has brought, in Kubernetes' words for them.
func newConditions(before, now *api.JobState) []transition {
	var out []transition
	for _, c := range now.Status.Conditions {
		if c.Status != corev1.ConditionTrue || before.Condition(c.Type) != nil {
			continue
		}
		switch string(c.Type) {
		case "Complete":
			out = append(out, transition{"Completed", "Job completed"})
		case "Suspended":
			out = append(out, transition{"Suspended", "Job suspended"})
		case "Failed":
			out = append(out, transition{c.Reason, c.Message})
		}
	}
	return out
}

// sameStatus reports whether two states of a job say the same.
func sameStatus(a, b *api.JobState) bool {
	return a.Status.Succeeded == b.Status.Succeeded && a.Status.Failed == b.Status.Failed && a.Status.Active == b.Status.Active &&
		a.Failures == b.Failures && len(a.Status.Conditions) == len(b.Status.Conditions) && (a.Status.StartTime == nil) == (b.Status.StartTime == nil) &&
		slices.EqualFunc(a.Status.Conditions, b.Status.Conditions, func(x, y batchv1.JobCondition) bool { return x.Type == y.Type && x.Status == y.Status })
}
