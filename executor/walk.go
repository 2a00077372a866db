package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// walk is one apply on its way through the plan's steps. One goroutine, that of run, owns everything in it but facts and
// events; each running step has a goroutine of its own that ends with a result. The cost per step does not grow with
// their number.
type walk struct {
	opts      Options
	in        ApplyInput
	lineage   string
	objects   map[api.Address]*api.Object
	services  map[string][]api.Address    // of the plan, by namespace
	endpoints *api.Endpoints              // who is behind services at each step
	known     map[api.Address]*api.Object // those of the state and those to be recorded, for their names
	told      *told
	facts     *facts
	events    *events

	nodes   map[string]*api.Node
	jobRoom map[string]chan struct{} // places on a host for the pods of jobs

	actions    []action
	missing    []int   // by step: how many of those it waits for are not done
	dependents [][]int // by step: those that wait for it
	state      []stepState

	lanes    map[string]*lane // by node; "" for steps in the state alone
	rules    map[string]*lane // those of steps that are joined, by node
	runnable queue            // steps that have a place on their host and wait for one in the whole
	joinable []*lane          // those of joined steps that have some to start
	joining  int              // hosts on which such steps run, which are at most as many as Parallelism
	waits    queue            // steps that need no place
	busy     int              // steps that count against Parallelism
	running  map[int]*running
	results  chan result
	turns    chan turn // from steps that rest

	outcome  Outcome
	stopping bool  // nothing new starts
	fatal    error // why, when it was not an interrupt
}

type stepState uint8

const (
	pending stepState = iota
	ended             // done, failed, skipped or stopped
)

// lane is what runs and waits on one host.
type lane struct {
	limit, busy int
	queue       queue
	out         *queue // where its steps wait that have a place on their host
	lost        error  // the host cannot be reached: its other steps are not tried. It stands in the lane of all but the joined ones
	started     int    // of a lane of joined steps: how many run
	listed      bool   // likewise: it is among those that have some to start
}

// running is a step that runs.
type running struct {
	began  time.Time
	said   time.Time // when a progress event was last due
	cancel context.CancelCauseFunc
	gaveUp bool          // it was a wait, and the first interrupt ended it
	placed bool          // it takes a place on its host and in the whole
	resume chan struct{} // of a step that has rested and waits for a place; nil otherwise
}

type result struct {
	id  int
	err error
}

func newWalk(o Options, in ApplyInput) (*walk, error) {
	steps := in.Plan.Steps
	w := &walk{
		opts: o, in: in, lineage: or(in.State.Lineage, in.Plan.Lineage), objects: make(map[api.Address]*api.Object, len(in.Plan.Objects)),
		services: map[string][]api.Address{}, endpoints: api.NewEndpoints(in.Plan),
		known: make(map[api.Address]*api.Object, len(in.State.Objects)), told: newTold(in.State, steps),
		facts: newFacts(in.Plan.Cluster, in.State, in.Observed), events: newEvents(o.Emit, steps),
		actions: make([]action, len(steps)), missing: make([]int, len(steps)), dependents: make([][]int, len(steps)),
		state: make([]stepState, len(steps)), lanes: map[string]*lane{}, rules: map[string]*lane{},
		running: map[int]*running{}, results: make(chan result), turns: make(chan turn), outcome: Outcome{Total: len(steps)},
	}
	w.lanes[""] = &lane{limit: o.Parallelism, out: &w.runnable}
	for _, obj := range in.Plan.Objects {
		w.objects[obj.Address] = obj
		if obj.Address.Kind == api.KindService {
			w.services[obj.Namespace()] = append(w.services[obj.Namespace()], obj.Address)
		}
	}
	for _, obj := range in.State.Objects {
		w.known[obj.Address] = obj
	}
	nodes := make(map[string]*api.Node, len(in.Plan.Nodes))
	for _, n := range in.Plan.Nodes {
		nodes[n.Name] = n
	}
	w.nodes, w.jobRoom = nodes, make(map[string]chan struct{}, len(nodes))
	for name := range nodes {
		w.jobRoom[name] = make(chan struct{}, o.perHost(name, in))
	}
	for i := range steps {
		if obj := steps[i].Delta.PutObject; obj != nil {
			w.known[obj.Address] = obj
		}
		a, err := actionOf(&steps[i], i, nodes, o.Registry)
		if err != nil {
			return nil, fmt.Errorf("the plan cannot be carried out: %w", err)
		}
		w.actions[i], w.missing[i] = a, len(a.step.After)
		for _, before := range a.step.After {
			w.dependents[before] = append(w.dependents[before], i)
		}
		if a.node != nil && w.lanes[a.node.Name] == nil {
			w.lanes[a.node.Name] = &lane{limit: o.perHost(a.node.Name, in), out: &w.runnable}
			w.rules[a.node.Name] = &lane{limit: joinedAtOnce(len(nodes)), out: &queue{}}
		}
	}
	return w, nil
}

// run starts what can start and takes results until nothing runs and nothing can start.
func (w *walk) run(ctx context.Context) (Outcome, error) {
	for i := range w.actions {
		if w.missing[i] == 0 {
			w.ready(i)
		}
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	stop, done := w.in.Stop, ctx.Done()
	for {
		select { // an interrupt goes before the next start
		case <-stop:
			stop = nil
			w.stop()
		case <-done:
			done = nil
			w.stopping = true
		default:
		}
		w.fill(ctx)
		if len(w.running) == 0 {
			break
		}
		select {
		case r := <-w.results:
			w.finish(ctx, r)
		case t := <-w.turns:
			w.turned(t)
		case <-stop:
			stop = nil
			w.stop()
		case <-done: // the running steps have the same context
			done = nil
			w.stopping = true
		case now := <-tick.C:
			w.progress(now)
		}
	}
	return w.end(ctx)
}

// end sums up.
func (w *walk) end(ctx context.Context) (Outcome, error) {
	sortFailed(w.outcome.Failed)
	w.outcome.Interrupted = w.outcome.Done+w.outcome.Skipped+len(w.outcome.Failed) < w.outcome.Total
	if w.fatal != nil {
		return w.outcome, w.fatal
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return w.outcome, cause
	}
	return w.outcome, nil
}

// ready takes a step whose turn has come: all that it waits for is done.
func (w *walk) ready(i int) {
	a := &w.actions[i]
	l := w.lane(a)
	switch {
	case a.waits():
		w.waits.push(i)
	case l.busy < l.limit:
		l.busy++
		w.place(l, i)
	default:
		l.queue.push(i)
	}
}

// lane is where a step has its place.
func (w *walk) lane(a *action) *lane {
	if a.joins() {
		return w.rules[a.node.Name]
	}
	return w.host(a)
}

// host is the lane that knows whether a step's host is lost.
func (w *walk) host(a *action) *lane {
	if a.node == nil {
		return w.lanes[""]
	}
	return w.lanes[a.node.Name]
}

// fill starts runnable steps up to the limit, and waits without one. On a host that was lost nothing starts.
func (w *walk) fill(ctx context.Context) {
	for !w.stopping && !w.waits.empty() {
		i := w.waits.pop()
		if a := &w.actions[i]; w.host(a).lost != nil {
			w.skip(i, unreachable(a))
			continue
		}
		w.start(ctx, i)
	}
	w.join(ctx)
	for !w.stopping && w.busy < w.opts.Parallelism && !w.runnable.empty() {
		i := w.runnable.pop()
		a, r := &w.actions[i], w.running[i]
		switch lost := w.host(a).lost; {
		case lost != nil:
			w.free(w.lane(a))
			if r != nil { // it has rested
				r.cancel(lost)
			} else {
				w.skip(i, unreachable(a))
			}
		case r != nil:
			w.busy++
			r.goOn()
		default:
			w.busy++
			w.start(ctx, i)
		}
	}
}

func unreachable(a *action) string { return a.node.Name + " cannot be reached" }

// free gives back a place on a host, to the next that waits for one there.
func (w *walk) free(l *lane) {
	if l.queue.empty() {
		l.busy--
		return
	}
	w.place(l, l.queue.pop())
}

// place takes a step that has a place on its host.
func (w *walk) place(l *lane, i int) {
	l.out.push(i)
	if w.actions[i].joins() && !l.listed {
		l.listed = true
		w.joinable = append(w.joinable, l)
	}
}

func (w *walk) start(ctx context.Context, i int) {
	a := &w.actions[i]
	ctx, cancel := context.WithCancelCause(ctx)
	now := time.Now()
	w.running[i] = &running{began: now, said: now, cancel: cancel, placed: !a.waits()}
	w.events.start(i, now)
	go func() { // ends with the step; run takes every result
		err := w.carryOut(ctx, a)
		cancel(nil)
		w.results <- result{i, err}
	}()
}

// finish takes a result: it frees the step's place, and starts or skips what waited for it.
func (w *walk) finish(ctx context.Context, r result) {
	a, run := &w.actions[r.id], w.running[r.id]
	w.unplace(r.id)
	delete(w.running, r.id)
	switch {
	case r.err == nil:
		w.outcome.Done++
		w.state[r.id] = ended
		w.events.done(r.id)
		for _, next := range w.dependents[r.id] {
			if w.missing[next]--; w.missing[next] == 0 && w.state[next] == pending {
				w.ready(next)
			}
		}
	case fatal(r.err) != nil:
		w.fail(r)
		w.abandon(StepError{a.step, fatal(r.err)})
	case ctx.Err() != nil || run.gaveUp:
		w.state[r.id] = ended // stopped: neither done nor failed, and the next plan finds it so
		w.events.stopped(r.id)
	default:
		if errors.Is(r.err, providers.ErrUnreachable) && a.node != nil {
			w.host(a).lost = r.err
		}
		w.fail(r)
		w.skipDependents(r.id)
	}
}

func (w *walk) fail(r result) {
	w.state[r.id] = ended
	w.outcome.Failed = append(w.outcome.Failed, StepError{w.actions[r.id].step, r.err})
	w.events.failed(r.id, r.err)
}

// skip passes over a step and everything that waits for it.
func (w *walk) skip(i int, why string) {
	if w.state[i] != pending {
		return
	}
	w.state[i] = ended
	w.outcome.Skipped++
	w.events.skipped(i, why)
	w.skipDependents(i)
}

func (w *walk) skipDependents(cause int) {
	todo := []int{cause}
	why := "it waits for " + describe(w.actions[cause].step) + ", which was not done"
	for len(todo) > 0 {
		for _, next := range w.dependents[todo[0]] {
			if w.state[next] == pending {
				w.state[next] = ended
				w.outcome.Skipped++
				w.events.skipped(next, why)
				todo = append(todo, next)
			}
		}
		todo = todo[1:]
	}
}

// stop is the first interrupt. Waits and rests change nothing, so there is nothing of them to finish.
func (w *walk) stop() {
	w.stopping = true
	w.events.stopping()
	for _, i := range w.runningSteps() {
		if !w.running[i].placed {
			w.running[i].gaveUp = true
			w.running[i].cancel(errStopped)
		}
	}
}

// errStopped ends a wait at the first interrupt.
var errStopped = errors.New("stopped by an interrupt")

// abandon ends everything because going on is not safe. A lost lock stops the running steps too: another may act now.
func (w *walk) abandon(why error) {
	w.stopping = true
	if w.fatal == nil {
		w.fatal = why
	}
	for _, i := range w.runningSteps() {
		if errors.Is(why, providers.ErrFenced) || !w.running[i].placed {
			w.running[i].gaveUp = true
			w.running[i].cancel(why)
		}
	}
}

// progress says of every step that has run for a while that it goes on.
func (w *walk) progress(now time.Time) {
	for _, i := range w.runningSteps() {
		if r := w.running[i]; now.Sub(r.said) >= progressEvery {
			r.said = now
			w.events.still(i)
		}
	}
}

func (w *walk) runningSteps() []int {
	ids := make([]int, 0, len(w.running))
	for i := range w.running {
		ids = append(ids, i)
	}
	slices.Sort(ids)
	return ids
}

func (w *walk) reporter(id int) func(string) {
	return func(message string) { w.events.report(id, message) }
}
