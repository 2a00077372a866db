package executor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/providers"
)

// world is a set of fake hosts: what was done on each, and how it misbehaves. It is Dialer, Provider and Journal at once, and
// keeps what it is told as a real one would.
type world struct {
	mu    sync.Mutex
	log   []string // "begin 3", "done 3", "failed 3": the journal
	state *api.State

	busy, maxBusy map[string]int // steps at work: by host, and "" for all
	dials         map[string]int
	works         map[int]*providers.Work

	takes    time.Duration                                             // how long a step takes
	apply    func(context.Context, *providers.Work, int) error         // misbehaviour; the number counts attempts from 1
	result   func(*providers.Work) providers.Result                    // what the host decides
	dial     func(node string, attempt int) error                      // likewise for connections
	journal  func(what string, s *api.Step) error                      // likewise for the journal
	observe  func(context.Context, string, *api.NodeObservation) error // likewise for observing
	attempts map[int]int
}

func newWorld() *world {
	return &world{
		state: &api.State{Lineage: "lineage"}, busy: map[string]int{}, maxBusy: map[string]int{}, dials: map[string]int{},
		works: map[int]*providers.Work{}, attempts: map[int]int{}, takes: 100 * time.Millisecond,
	}
}

type fakeHost struct {
	providers.Host // what a step does on a host is not the executor's business
	name           string
}

func (h fakeHost) Name() string { return h.name }

func (w *world) Host(_ context.Context, n *api.Node) (providers.Host, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials[n.Name]++
	if w.dial != nil {
		if err := w.dial(n.Name, w.dials[n.Name]); err != nil {
			return nil, err
		}
	}
	return fakeHost{name: n.Name}, nil
}

func (w *world) Name() string { return "fake" }

func (w *world) Ops() []api.Op {
	return []api.Op{api.OpPodEnsure, api.OpPodReady, api.OpPodFinish, api.OpPodRemove, api.OpServiceSet, api.OpNodeSet, api.OpImageEnsure}
}

func (w *world) Observe(ctx context.Context, h providers.Host, obs *api.NodeObservation) error {
	if w.observe != nil {
		return w.observe(ctx, h.Name(), obs)
	}
	return nil
}

func (w *world) Apply(ctx context.Context, h providers.Host, work *providers.Work) (providers.Result, error) {
	if h.Name() != work.Step.Node {
		return providers.Result{}, fmt.Errorf("step for %s came to %s", work.Step.Node, h.Name())
	}
	attempt := w.enter(work)
	defer w.leave(work)
	if w.apply != nil {
		if err := w.apply(ctx, work, attempt); err != nil {
			return providers.Result{}, err
		}
	}
	select {
	case <-time.After(w.takes):
	case <-ctx.Done():
		return providers.Result{}, ctx.Err()
	}
	if w.result != nil {
		return w.result(work), nil
	}
	return providers.Result{}, nil
}

func (w *world) enter(work *providers.Work) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := work.Step.ID
	w.works[id] = work
	w.attempts[id]++
	if work.Step.Op != api.OpPodReady {
		for _, k := range []string{"", work.Step.Node} {
			w.busy[k]++
			w.maxBusy[k] = max(w.maxBusy[k], w.busy[k])
		}
	}
	return w.attempts[id]
}

func (w *world) leave(work *providers.Work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if work.Step.Op != api.OpPodReady {
		w.busy[""]--
		w.busy[work.Step.Node]--
	}
}

func (w *world) Begin(s *api.Step) error               { return w.note("begin", s, api.Delta{}) }
func (w *world) Done(s *api.Step, d api.Delta) error   { return w.note("done", s, d) }
func (w *world) Failed(s *api.Step, cause error) error { return w.note("failed", s, api.Delta{}) }
func (w *world) Event(e api.ObjectEvent) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.Number = w.state.NextEvent()
	w.state.Happened(e)
	return nil
}

func (w *world) note(what string, s *api.Step, d api.Delta) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.journal != nil {
		if err := w.journal(what, s); err != nil {
			return err
		}
	}
	w.log = append(w.log, fmt.Sprintf("%s %d", what, s.ID))
	w.state.Apply(d)
	return nil
}

// at returns the place of an entry in the journal, or -1.
func (w *world) at(what string, id int) int {
	return slices.Index(w.log, fmt.Sprintf("%s %d", what, id))
}

func (w *world) has(t *testing.T, what string, ids ...int) {
	t.Helper()
	for _, id := range ids {
		if w.at(what, id) < 0 {
			t.Errorf("the journal lacks %q of step %d: %v", what, id, w.log)
		}
	}
}

func (w *world) lacks(t *testing.T, what string, ids ...int) {
	t.Helper()
	for _, id := range ids {
		if w.at(what, id) >= 0 {
			t.Errorf("the journal has %q of step %d: %v", what, id, w.log)
		}
	}
}

// plan makes steps with numbers and the nodes that they name.
func plan(steps ...api.Step) *api.Plan {
	p := &api.Plan{Steps: steps}
	seen := map[string]bool{"": true}
	for i := range steps {
		steps[i].ID = i
		if n := steps[i].Node; !seen[n] {
			seen[n] = true
			p.Nodes = append(p.Nodes, &api.Node{Name: n, Address: n})
		}
	}
	return p
}

func step(op api.Op, node string, after ...int) api.Step {
	return api.Step{Op: op, Node: node, After: after, Address: api.Address{Kind: "deployment", Name: "web"}}
}

func (w *world) options(o executor.Options) executor.Options {
	o.Hosts, o.Registry = w, providers.Registry{w}
	return o
}

func (w *world) input(p *api.Plan) executor.ApplyInput {
	return executor.ApplyInput{Plan: p, State: w.state, Journal: w}
}

func (w *world) applies(t *testing.T, p *api.Plan) executor.Outcome {
	t.Helper()
	out, err := executor.Apply(t.Context(), w.options(executor.Options{}), w.input(p))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var errBroken = errors.New("broken")
