package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"berth.dev/berth/executor"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime"
	"berth.dev/berth/watchdog"
)

// watchSight sees hosts over the connections that everything else of the watchdog uses, too.
type watchSight struct {
	hosts executor.Dialer
	goal  *watchGoal

	leader *watchLeader
	visit  func(ctx context.Context, h providers.Host) error // tells a node that looks after itself that somebody is there; nil on such a node
	log    *slog.Logger
}

// listTimeout bounds one look at everything on a host.
const listTimeout = 30 * time.Second

// greetTimeout bounds what a host is told before it is followed: writing that takes longer hangs.
var greetTimeout = 10 * time.Second

func (s *watchSight) host(ctx context.Context, name string) (providers.Host, error) {
	n, err := s.goal.node(name)
	if err != nil {
		return nil, err
	}
	return s.hosts.Host(ctx, n)
}

// Follow tells what happens on a node.
func (s *watchSight) Follow(ctx context.Context, node string, opened func(), tell func(watchdog.Hint)) error {
	h, err := s.host(ctx, node)
	if err != nil {
		var known interface{ Permanent() bool }
		return &watchdog.LostError{Refused: errors.As(err, &known) && known.Permanent(), Err: err}
	}
	if hangs, err := greet(ctx, func(ctx context.Context) error { return s.announce(ctx, node, h) }); err != nil {
		return &watchdog.LostError{Reached: errors.Is(err, providers.ErrFenced) || hangs && answers(ctx, h) == nil, Err: err}
	}
	if err := s.visited(ctx, h); err != nil {
		return &watchdog.LostError{Err: err}
	}
	err = runtime.Follow(ctx, h, opened, func(e runtime.Happening) {
		tell(watchdog.Hint{ID: e.ID, Kind: watchdog.HintKind(e.What), Code: e.Code, At: e.At})
	})
	silence := answers(ctx, h)
	lost := &watchdog.LostError{Reached: silence == nil, Err: err}
	var silent interface{ Silent() time.Duration }
	if errors.As(silence, &silent) {
		lost.Silent = silent.Silent()
	}
	return lost
}

// greet tells a host something within its time, and reports whether that was over.
func greet(parent context.Context, tell func(context.Context) error) (hangs bool, err error) {
	ctx, cancel := context.WithTimeoutCause(parent, greetTimeout, fmt.Errorf("it did not take what it was told within %s", greetTimeout))
	defer cancel()
	err = tell(ctx)
	hangs = err != nil && ctx.Err() != nil && parent.Err() == nil
	if hangs && !errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return hangs, err
}

// visited tells a node that looks after itself that somebody is there. Only that it cannot be reached is an error: a node is watched also when its /run is full.
func (s *watchSight) visited(ctx context.Context, h providers.Host) error {
	if s.visit == nil {
		return nil
	}
	_, err := greet(ctx, func(ctx context.Context) error { return s.visit(ctx, h) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, providers.ErrUnreachable) || ctx.Err() != nil:
		return err
	}
	s.log.Warn("a node may not know that a watchdog is there", "node", h.Name(), "error", err.Error())
	return nil
}

// stay tells a node that somebody is there, at once and while something takes long, until that has ended. Chores do, too, but may wait for each other.
func (s *watchSight) stay(ctx context.Context, h providers.Host) (end func()) {
	ended := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		again := time.NewTicker(greetTimeout)
		defer again.Stop()
		for {
			_ = s.visited(ctx, h) // that it cannot be reached is found by what takes long
			select {
			case <-ctx.Done():
				return
			case <-ended:
				return
			case <-again.C:
			}
		}
	})
	return func() { close(ended); all.Wait() }
}

// announce tells a host which watchdog leads from now on, before anything else: it refuses those that led before.
func (s *watchSight) announce(ctx context.Context, node string, h providers.Host) error {
	w := s.goal.work(node)
	w.Fence, w.Term = 0, s.leader.number() // runs have numbers of their own
	return s.leader.heed(runtime.Announce(ctx, h, &w))
}

// answers returns nil when a host does, though its containerd may not.
func answers(ctx context.Context, h providers.Host) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := h.Run(ctx, providers.Command{Script: ":"})
	return err
}

// List looks at everything on a node.
func (s *watchSight) List(ctx context.Context, node string) (*watchdog.Listing, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, listTimeout, fmt.Errorf("it did not list its pods within %s", listTimeout))
	defer cancel()
	h, err := s.host(ctx, node)
	if err != nil {
		return nil, err
	}
	if s.visit != nil {
		defer s.stay(ctx, h)()
	}
	boot, pods, err := runtime.ListAll(ctx, h)
	if err != nil {
		return nil, &watchdog.LostError{Reached: answers(context.WithoutCancel(ctx), h) == nil, Err: err}
	}
	over, err := runtime.Overuse(ctx, h, s.goal.boundedOn(node))
	if err != nil {
		return nil, err
	}
	lineage := s.goal.lineage()
	l := &watchdog.Listing{BootID: boot, Pods: make(map[string]watchdog.PodListing, len(pods))}
	for uid, p := range pods {
		l.Pods[uid] = watchdog.PodListing{Digest: p.Digest, IDs: p.IDs, Foreign: p.Lineage != lineage, Evict: over[uid]}
	}
	return l, nil
}
