package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"berth.dev/berth/providers"
	"berth.dev/berth/statefile"
	"berth.dev/berth/watchdog"
)

// watchLeader makes one of several watchdogs lead, through the home of the state.
type watchLeader struct {
	store  statefile.Store
	proc   *Process
	listen string
	log    *slog.Logger
	alone  bool // somebody makes sure that there is no other

	mu     sync.Mutex
	waited bool
	above  uint64 // a number that hosts have seen
	term   *crownTerm
}

// askEvery is how often a watchdog that does not lead asks.
const askEvery = 500 * time.Millisecond

// check refuses a home that cannot tell watchdogs apart.
func (l *watchLeader) check() error {
	if l.alone || statefile.CrownerOf(l.store) != nil {
		return nil
	}
	return fail("This backend cannot tell watchdogs apart",
		"Terraform's HTTP protocol has one lock that never ends by itself, and no conditional write: when the watchdog that acts is killed, no other can take its place safely. "+
			"Keep the state in another backend (postgres, etcd, s3, ssh or local). Or run just one watchdog, make sure of it yourself, and give --alone.")
}

// Lead waits until this process leads.
func (l *watchLeader) Lead(ctx context.Context) (watchdog.Term, error) {
	for {
		t, err := l.try(ctx)
		if t != nil {
			l.setTerm(t)
			l.log.Info("leads", "fence", t.Fence())
			return t, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			l.log.Warn("cannot ask who leads", "error", err)
		} else if !l.setWaiting(true) {
			l.log.Info("another watchdog leads: standing by")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(askEvery):
		}
	}
}

// try asks once; nil when another leads.
func (l *watchLeader) try(ctx context.Context) (*crownTerm, error) {
	w := l.watcher()
	l.mu.Lock()
	above := l.above
	l.mu.Unlock()
	var c statefile.Crown
	if crowner := statefile.CrownerOf(l.store); crowner != nil && !l.alone {
		var held bool
		var err error
		if c, held, err = crowner.Crown(ctx, w, above); err != nil || held {
			return nil, err
		}
	} else {
		c = newLoneCrown(ctx, max(above+1, uint64(w.Since.Unix()))) //nolint:gosec // after 1970
	}
	t := &crownTerm{Crown: c, leader: l, last: w, stop: make(chan struct{}), done: make(chan struct{})}
	t.ctx, t.end = context.WithCancelCause(c.Context())
	go t.beat()
	return t, nil
}

func (l *watchLeader) setTerm(t *crownTerm) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term, l.waited = t, l.waited && t == nil
}

// held makes sure that this watchdog leads: what it does to hosts and to the state it does only then.
func (l *watchLeader) held(ctx context.Context) error {
	l.mu.Lock()
	t := l.term
	l.mu.Unlock()
	if t == nil {
		return statefile.ErrCrownLost
	}
	if cause := context.Cause(t.ctx); cause != nil {
		return cause
	}
	err := t.Held(ctx)
	if errors.Is(err, statefile.ErrCrownLost) {
		t.end(err)
	}
	return err
}

// number is that of the present term; 0 for none.
func (l *watchLeader) number() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == nil {
		return 0
	}
	return l.term.Fence()
}

// heed ends the term when a host has refused it because of another watchdog: whoever leads has a greater number then. It returns the error.
func (l *watchLeader) heed(err error) error {
	var refused *providers.OutrankedError
	if !errors.As(err, &refused) {
		return err
	}
	l.mu.Lock()
	l.above = max(l.above, refused.Term)
	t := l.term
	l.mu.Unlock()
	if t != nil && t.Fence() < refused.Term {
		t.end(err)
	}
	return err
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
	ctx    context.Context
	end    context.CancelCauseFunc
	last   statefile.Watcher // what was said last; of beat until done is closed
	stop   chan struct{}
	done   chan struct{}
}

// Context ends with the crown, or when a host has refused it.
func (t *crownTerm) Context() context.Context { return t.ctx }

// beat says now and then that the watchdog is there.
func (t *crownTerm) beat() {
	defer close(t.done)
	tick := time.NewTicker(statefile.CrownBeat)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-t.stop:
			return
		case <-tick.C:
		}
		t.last.Seen = t.leader.proc.Now().UTC()
		err := t.Say(t.ctx, t.last)
		if err != nil && !failing && t.ctx.Err() == nil {
			t.leader.log.Warn("cannot say that the watchdog is there", "error", err)
		}
		failing = err != nil
	}
}

// Resign lets another lead.
func (t *crownTerm) Resign(ctx context.Context) error {
	if cause := context.Cause(t.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		t.leader.log.Warn("leads no more", "fence", t.Fence(), "reason", cause.Error())
	}
	close(t.stop)
	<-t.done
	t.leader.setTerm(nil)
	t.end(context.Canceled)
	return t.Abdicate(ctx)
}

// loneCrown is that of a watchdog of which somebody has made sure that it is the only one.
type loneCrown struct {
	ctx    context.Context
	cancel context.CancelFunc
	fence  uint64
}

func newLoneCrown(ctx context.Context, fence uint64) loneCrown {
	ctx, cancel := context.WithCancel(ctx)
	return loneCrown{ctx, cancel, fence}
}

// Context ends when it is given back.
func (c loneCrown) Context() context.Context { return c.ctx }

// Fence is the time at which the watchdog has begun: one that begins later outranks it.
func (c loneCrown) Fence() uint64 { return c.fence }

// Say has nobody to tell.
func (c loneCrown) Say(context.Context, statefile.Watcher) error { return nil }

// Held is true.
func (c loneCrown) Held(context.Context) error { return context.Cause(c.ctx) }

// Abdicate ends it.
func (c loneCrown) Abdicate(context.Context) error {
	c.cancel()
	return nil
}
