// Package crown makes one of several watchdogs lead, for backends that can replace a small record only if it is still the one that was
// read. A leader writes its record anew every moment. Who finds it unchanged for long enough, by his own clock, or knows that the
// leader's session has ended, replaces it by his own with a greater number; the former leader cannot write any more.
package crown

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"berth.dev/berth/statefile"
)

// Home is where the record lies.
type Home interface {
	// Load reads it.
	Load(ctx context.Context) (Record, error)
	// Take replaces it by data, which takes the greatest number that the home knows of besides the record's, if it is still as seen. Else
	// it returns statefile.ErrConflict. It begins the session of its writer.
	Take(ctx context.Context, seen Record, data func(before uint64) ([]byte, error)) (h Hold, tag string, err error)
}

// Record is what was read.
type Record struct {
	Data []byte // nil when there is none
	Tag  string // differs with every writing of it
	// Ended says that the session of its writer has ended, as far as the home knows of sessions.
	Ended bool
}

// Hold is the record while it is ours.
type Hold interface {
	// Renew writes it anew if it still has the tag, and returns the new one; else it returns statefile.ErrConflict.
	Renew(ctx context.Context, data []byte, tag string) (string, error)
	// Release ends the session.
	Release(ctx context.Context) error
	// Lost is closed when the session has ended by itself; nil where there are no sessions.
	Lost() <-chan struct{}
}

// Seat is a home as one who would lead sees it. Its zero value is ready.
type Seat struct {
	mu    sync.Mutex
	tag   string
	since time.Time // when the record was first seen as it is
}

// Watcher reads a record. What cannot be understood, because a crash of the machine cut it short, says nothing.
func Watcher(data []byte) *statefile.Watcher {
	var w statefile.Watcher
	if len(data) == 0 || json.Unmarshal(data, &w) != nil {
		return nil
	}
	return &w
}

// Try is Crown of statefile.Crowner.
func (s *Seat) Try(ctx context.Context, h Home, w statefile.Watcher, above uint64) (statefile.Crown, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := h.Load(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("lead the watchdogs: %w", err)
	}
	before := Watcher(r.Data)
	if before != nil && !before.Stopped && !r.Ended && !s.silent(r.Tag) {
		return nil, true, nil
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, false, fmt.Errorf("lead the watchdogs: %w", err)
	}
	w.ID = id.String()
	fence := uint64(0)
	began := time.Now()
	hold, tag, err := h.Take(ctx, r, func(least uint64) ([]byte, error) {
		fence = max(above, least) + 1
		if before != nil {
			fence = max(fence, before.Fence+1)
		}
		w.Fence = fence
		return json.Marshal(w)
	})
	s.tag = ""
	switch {
	case errors.Is(err, statefile.ErrConflict):
		return nil, true, nil // another was faster
	case err != nil:
		return nil, false, fmt.Errorf("lead the watchdogs: %w", err)
	}
	c := &Crown{home: h, hold: hold, tag: tag, id: w.ID, fence: fence, last: w, renewed: began, quit: make(chan struct{})}
	c.ctx, c.end = context.WithCancelCause(ctx)
	c.all.Go(c.watch)
	return c, false, nil
}

// silent reports whether the record has not changed for too long.
func (s *Seat) silent(tag string) bool {
	if tag != s.tag || s.since.IsZero() {
		s.tag, s.since = tag, time.Now()
		return false
	}
	return time.Since(s.since) >= statefile.CrownTTL
}

// Crown is a record that is ours.
type Crown struct {
	home  Home
	hold  Hold
	id    string
	fence uint64
	ctx   context.Context
	end   context.CancelCauseFunc
	all   sync.WaitGroup
	quit  chan struct{}

	saying  sync.Mutex // one writing at a time; guards tag and over
	tag     string
	over    bool
	mu      sync.Mutex // guards what follows
	last    statefile.Watcher
	renewed time.Time // when the last writing that succeeded began
}

// Context ends with the crown.
func (c *Crown) Context() context.Context { return c.ctx }

// Fence is its number.
func (c *Crown) Fence() uint64 { return c.fence }

// unsure is for how long the crown was not known to be ours: the greater one by the two clocks.
func (c *Crown) unsure() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return max(now.Sub(c.renewed), now.Round(0).Sub(c.renewed.Round(0)).Abs())
}

// watch ends the context when the session has ended, or when nothing could be written for too long.
func (c *Crown) watch() {
	tick := time.NewTicker(statefile.CrownBeat / 4)
	defer tick.Stop()
	for {
		select {
		case <-c.quit:
			return
		case <-c.ctx.Done():
			return
		case <-c.hold.Lost():
			c.end(statefile.ErrCrownLost)
			return
		case <-tick.C:
		}
		if c.unsure() > statefile.CrownSure {
			c.end(statefile.ErrCrownLost)
		}
	}
}

// Say writes what the watchdog says of itself.
func (c *Crown) Say(ctx context.Context, w statefile.Watcher) error {
	c.saying.Lock()
	defer c.saying.Unlock()
	return c.say(ctx, w)
}

func (c *Crown) say(ctx context.Context, w statefile.Watcher) error {
	if c.over || errors.Is(context.Cause(c.ctx), statefile.ErrCrownLost) {
		return statefile.ErrCrownLost
	}
	w.Fence, w.ID = c.fence, c.id
	data, err := json.Marshal(w)
	if err != nil {
		return err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, statefile.CrownTTL)
	defer cancel()
	tag, err := c.hold.Renew(ctx, data, c.tag)
	if errors.Is(err, statefile.ErrConflict) {
		// The answer to what we wrote last may have been lost.
		r, lerr := c.home.Load(ctx)
		if lerr != nil {
			return lerr
		}
		if there := Watcher(r.Data); there != nil && there.ID == c.id && r.Tag != c.tag {
			tag, err = c.hold.Renew(ctx, data, r.Tag)
		}
	}
	if errors.Is(err, statefile.ErrConflict) {
		c.end(statefile.ErrCrownLost)
		return statefile.ErrCrownLost
	}
	if err != nil {
		return err
	}
	c.tag = tag
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.renewed = w, began
	return nil
}

// Held makes sure that the crown is held.
func (c *Crown) Held(ctx context.Context) error {
	if cause := context.Cause(c.ctx); cause != nil {
		return cause
	}
	if c.unsure() < statefile.CrownSure/2 {
		return nil
	}
	c.saying.Lock()
	defer c.saying.Unlock()
	if c.unsure() < statefile.CrownSure/2 {
		return nil // another has just asked
	}
	c.mu.Lock()
	w := c.last
	c.mu.Unlock()
	w.Seen = time.Now().UTC()
	return c.say(ctx, w)
}

// Abdicate says that the watchdog has stopped, and gives the crown back.
func (c *Crown) Abdicate(ctx context.Context) error {
	c.saying.Lock()
	defer c.saying.Unlock()
	if c.over {
		return nil
	}
	c.mu.Lock()
	w := c.last
	c.mu.Unlock()
	w.Stopped, w.Seen = true, time.Now().UTC()
	err := c.say(ctx, w)
	if errors.Is(err, statefile.ErrCrownLost) {
		err = nil // by now it is another's
	}
	c.over = true
	close(c.quit)
	c.all.Wait()
	c.end(context.Canceled)
	return errors.Join(err, c.hold.Release(ctx))
}
