package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"berth.dev/berth/statefile"
	"berth.dev/berth/watchdog"
)

// watchLeader makes one of several watchdogs lead, through the home of the state where that can tell.
type watchLeader struct {
	store  statefile.Store
	proc   *Process
	listen string
	log    *slog.Logger

	mu     sync.Mutex
	waited bool
}

// How often a watchdog says that it is there, and how often one that does not lead asks.
const (
	beatEvery = 5 * time.Second
	askEvery  = 500 * time.Millisecond
)

// Lead waits until this process leads.
func (l *watchLeader) Lead(ctx context.Context) (watchdog.Term, error) {
	c := statefile.CrownerOf(l.store)
	if c == nil {
		l.log.Warn("this backend cannot tell several watchdogs apart: run only one")
		return newLoneTerm(ctx), nil
	}
	for {
		w := l.watcher()
		crown, held, err := c.Crown(ctx, w)
		if err != nil {
			return nil, err
		}
		if !held {
			l.setWaiting(false)
			l.log.Info("leads", "fence", crown.Fence())
			t := &crownTerm{Crown: crown, leader: l, last: w, stop: make(chan struct{}), done: make(chan struct{})}
			go t.beat()
			return t, nil
		}
		if !l.setWaiting(true) {
			l.log.Info("another watchdog leads: standing by")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(askEvery):
		}
	}
}

// setWaiting returns what was before.
func (l *watchLeader) setWaiting(now bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.waited
	l.waited = now
	return before
}

// standsBy reports whether another leads.
func (l *watchLeader) standsBy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waited
}

func (l *watchLeader) watcher() statefile.Watcher {
	now := l.proc.Now().UTC()
	return statefile.Watcher{Who: whoami(l.proc), PID: os.Getpid(), Version: l.proc.Version, Since: now, Seen: now, Listen: l.listen}
}

// crownTerm is a term by a crown.
type crownTerm struct {
	statefile.Crown
	leader *watchLeader
	last   statefile.Watcher // what was said last; of beat until done is closed
	stop   chan struct{}
	done   chan struct{}
}

// beat says now and then that the watchdog is there.
func (t *crownTerm) beat() {
	defer close(t.done)
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.Context().Done():
			return
		case <-t.stop:
			return
		case <-tick.C:
		}
		t.last.Seen = t.leader.proc.Now().UTC()
		if err := t.Say(t.Context(), t.last); err != nil && t.Context().Err() == nil {
			t.leader.log.Warn("cannot say that the watchdog is there", "error", err)
		}
	}
}

// Resign says that the watchdog has stopped, and lets another lead.
func (t *crownTerm) Resign(ctx context.Context) error {
	close(t.stop)
	<-t.done
	t.last.Seen, t.last.Stopped = t.leader.proc.Now().UTC(), true
	return errors.Join(t.Say(ctx, t.last), t.Abdicate(ctx))
}

// loneTerm is a term that nobody disputes.
type loneTerm struct {
	ctx context.Context
	end context.CancelFunc
}

func newLoneTerm(ctx context.Context) loneTerm {
	ctx, end := context.WithCancel(ctx)
	return loneTerm{ctx, end}
}

// Context ends when the term does.
func (t loneTerm) Context() context.Context { return t.ctx }

// Fence is not known.
func (t loneTerm) Fence() uint64 { return 0 }

// Resign ends the term.
func (t loneTerm) Resign(context.Context) error {
	t.end()
	return nil
}
