package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// observeTimeout bounds one host: it has answered by then, or counts as not reachable.
const observeTimeout = 2 * time.Minute

// Observe asks every node's host what is on it, all at once. A host that cannot be asked says why in Unreachable and is no
// error: the others' answers count. When the context ends, so do those still asked.
func Observe(ctx context.Context, o Options, nodes []*api.Node) *api.Observation {
	o = o.complete()
	obs := &api.Observation{Nodes: make([]*api.NodeObservation, len(nodes))}
	turn := make(chan struct{}, o.Parallelism)
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			obs.Nodes[i] = o.observeNode(ctx, n)
		})
	}
	all.Wait()
	slices.SortFunc(obs.Nodes, func(a, b *api.NodeObservation) int { return strings.Compare(a.Name, b.Name) })
	return obs
}

func (o Options) observeNode(ctx context.Context, n *api.Node) *api.NodeObservation {
	late := fmt.Errorf("%w: it did not answer within %s", providers.ErrUnreachable, observeTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, observeTimeout, late)
	defer cancel()
	began := time.Now()
	obs, err := o.look(ctx, n)
	if err != nil && ctx.Err() == nil && obs != nil && isTransient(err) {
		o.Log.Debug("observe again", "node", n.Name, "error", err)
		obs, err = o.look(ctx, n) // the connection was lost half way: a new one may do
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		o.Log.Debug("not observed", "node", n.Name, "error", err)
		return &api.NodeObservation{Name: n.Name, Unreachable: unreachableFor(err), Problems: refusal(err)}
	}
	o.Log.Debug("observed", "node", n.Name, "took", time.Since(began))
	return obs
}

// look asks each provider in turn. The observation is nil when there was no connection to ask over.
func (o Options) look(ctx context.Context, n *api.Node) (*api.NodeObservation, error) {
	h, err := o.Hosts.Host(ctx, n)
	if err != nil {
		return nil, err
	}
	obs := &api.NodeObservation{Name: n.Name}
	for _, p := range o.Registry {
		if err := p.Observe(ctx, h, obs); err != nil {
			return obs, fmt.Errorf("observe %s on %s: %w", p.Name(), n.Name, err)
		}
	}
	obs.Problems.Sort()
	return obs, nil
}

// refusal is what somebody has to correct before the host can be asked: a host key, a login, a setting. Of a host that may
// come back by itself there is none.
func refusal(err error) api.Diagnostics {
	var r interface {
		Permanent() bool
		Diagnostic() api.Diagnostic
	}
	if !errors.As(err, &r) || !r.Permanent() {
		return nil
	}
	return api.Diagnostics{r.Diagnostic()}
}

// unreachableFor is why a host was not reached, in the words in which every command says so: those for people, where the transport has some.
func unreachableFor(err error) string {
	var d interface{ Diagnostic() api.Diagnostic }
	if errors.As(err, &d) && !errors.Is(err, context.Canceled) {
		return strings.Join(strings.Fields(d.Diagnostic().Detail), " ")
	}
	return reason(err)
}

// reason is an error's text in one line; of an interrupt, a plain word.
func reason(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
