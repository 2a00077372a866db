package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime"
	"berth.dev/berth/statefile"
	"berth.dev/berth/watchdog"
)

// How long a heartbeat, and one node's try to reach another, may take.
const (
	beatTimeout = 2 * time.Second
	lookTimeout = 1500 * time.Millisecond
)

// Beat asks how long a node has been up, and renews leases there.
func (s *watchSight) Beat(ctx context.Context, node string, l *watchdog.Lease) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, beatTimeout, fmt.Errorf("it did not answer within %s", beatTimeout))
	defer cancel()
	h, err := s.host(ctx, node)
	if err != nil {
		return 0, err
	}
	if l == nil {
		return runtime.Uptime(ctx, h)
	}
	if err := s.leader.held(ctx); err != nil {
		return 0, err
	}
	w := s.goal.work(node)
	w.Fence, w.Term = 0, s.leader.number() // as announced
	up, err := runtime.RenewLeases(ctx, h, &w, runtime.Leases{Pods: l.Pods, Until: l.Until})
	return up, s.leader.heed(err)
}

// Look has one node try to reach another one's SSH port over its own network. The two tries go on at once; a refusal is an answer, too.
func (s *watchSight) Look(ctx context.Context, node, by, control string) watchdog.Sightedness {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout+beatTimeout)
	defer cancel()
	h, err := s.host(ctx, by)
	if err != nil {
		return watchdog.Blind
	}
	others := make(chan bool, 1)
	go func() { // ends with its try
		if control == "" {
			others <- answers(ctx, h) == nil
			return
		}
		others <- s.reaches(ctx, h, control) == nil
	}()
	err = s.reaches(ctx, h, node)
	switch sees := <-others; {
	case err == nil:
		return watchdog.Reached
	case errors.Is(err, errNobodyAsked) || errors.Is(err, providers.ErrUnreachable) || !sees:
		return watchdog.Blind
	}
	return watchdog.NotReached
}

// errNobodyAsked means that a node could not even try.
var errNobodyAsked = errors.New("the node could not try")

// reaches has a host connect to a node's SSH port; nil when something answered.
func (s *watchSight) reaches(ctx context.Context, h providers.Host, node string) error {
	address, err := s.goal.nodeAddress(node)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	c, err := h.Dial(ctx, "tcp", address)
	switch {
	case err == nil:
		return c.Close()
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return nil
	case errors.Is(err, providers.ErrForwardingRefused):
		return errNobodyAsked
	}
	return err
}

// nodeAddress is where others of the cluster reach a node's SSH server.
func (w *watchGoal) nodeAddress(name string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.state.Node(name)
	if n == nil || n.Node == nil || n.IP == "" {
		return "", fmt.Errorf("the address of node %s is not known", name)
	}
	port := n.Node.SSH.Port
	if port == 0 {
		port = 22
	}
	return net.JoinHostPort(n.IP, strconv.Itoa(port)), nil
}

// losses are what the watchdog has to know of lost nodes.
func (w *watchGoal) losses(a *watchdog.Applied) {
	a.Lost = slices.Clone(w.state.Lost)
	for _, p := range w.state.Left {
		if a.Left == nil {
			a.Left = map[string][]string{}
		}
		a.Left[p.Node] = append(a.Left[p.Node], p.UID)
	}
}

func zoneOf(n *api.Node) string { return n.Labels[corev1.LabelTopologyZone] }

// lossesDiffer reports whether the state is to say something else of lost nodes or leases.
func lossesDiffer(s *api.State, q watchdog.Request) bool {
	return len(q.Leases) > 0 || !slices.EqualFunc(s.Lost, q.Lost, sameLoss)
}

func sameLoss(a, b api.LostNode) bool {
	same := func(a, b *time.Time) bool { return a == nil && b == nil || a != nil && b != nil && a.Equal(*b) }
	return a.Name == b.Name && a.Ready == b.Ready && a.LeaseOver == b.LeaseOver && same(a.Evict, b.Evict) && same(a.LeaseEnd, b.LeaseEnd)
}

// recordLosses writes down which nodes are lost, and which pods have leases. What somebody else has dropped of nodes that left stays dropped.
func recordLosses(f *statefile.File, q watchdog.Request) error {
	wanted := map[string]bool{}
	for _, l := range q.Lost {
		wanted[l.Name] = true
		if had := f.State().LostNode(l.Name); f.State().Node(l.Name) == nil || had != nil && sameLoss(*had, l) {
			continue
		}
		if err := f.Record(api.Delta{PutLost: &l}); err != nil {
			return err
		}
	}
	for _, l := range slices.Clone(f.State().Lost) {
		if !wanted[l.Name] {
			if err := f.Record(api.Delta{DropLost: l.Name}); err != nil {
				return err
			}
		}
	}
	for _, p := range slices.Clone(f.State().Pods) {
		if d, ok := q.Leases[p.UID]; ok && p.LeaseSeconds != int32(d/time.Second) {
			p.LeaseSeconds = int32(d / time.Second)
			if err := f.Record(api.Delta{PutPod: &p}); err != nil {
				return err
			}
		}
	}
	return nil
}

// back removes what was given up from nodes that are back.
func (w *watchRounds) back(ctx context.Context, q watchdog.Request) (out watchdog.Outcome, err error) {
	f, ctx, unlock, err := w.lock(ctx)
	if err != nil {
		return out, err
	}
	defer func() { err = unlock(err) }()
	out.Changed = true
	plan, diags := planner.Back(f.State(), q.Back)
	if diags.HasErrors() {
		return out, diags.Err()
	}
	for _, s := range plan.Steps {
		w.log.Info("remove what was given up", "pod", s.Address.String(), "node", s.Node)
	}
	outcome, err := w.walk(ctx, f, plan, nil)
	out.Steps = outcome.Done
	return out, err
}

// unseen are the nodes that a round does not look at, with why: nobody reaches them.
func unseen(q watchdog.Request) map[string]string {
	out := map[string]string{}
	for _, l := range q.Lost {
		out[l.Name] = l.Message
	}
	return out
}

// sayWarnings tells what a plan warns of, each once for as long as it lasts.
func (w *watchRounds) sayWarnings(plan *api.Plan) {
	now := map[string]struct{}{}
	for _, d := range plan.Warnings {
		text := d.Summary + ": " + d.Detail
		now[text] = struct{}{}
		if _, said := w.warned[text]; said {
			continue
		}
		w.log.Log(context.Background(), slog.LevelWarn, d.Detail, "reason", d.Summary, "object", d.Address, "node", d.Node)
	}
	w.warned = maps.Clone(now)
}
