package main

import (
	"context"
	"errors"
	"fmt"
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
}

// listTimeout bounds one look at everything on a host.
const listTimeout = 30 * time.Second

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
	if err := s.announce(ctx, node, h); err != nil {
		return &watchdog.LostError{Reached: errors.Is(err, providers.ErrFenced), Err: err}
	}
	if s.visit != nil {
		if err := s.visit(ctx, h); err != nil {
			return &watchdog.LostError{Err: err}
		}
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
