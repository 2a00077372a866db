package ssh

import (
	"context"
	"sync"
	"time"
)

// connection is what a slot keeps: something that lives until it ends.
type connection interface {
	lives() bool // false as soon as anything on it has noticed its end
	close()      // ends it and waits until all that ran on it has noticed
}

// slot keeps one connection, makes it when it is wanted, and makes it again when it has ended. One caller at a time
// connects, under its own context; the others wait for the outcome.
type slot[C connection] struct {
	turn chan struct{} // holds one token: who has it may connect

	mu       sync.Mutex
	conn     C
	have     bool
	closed   bool
	err      error // of the last attempt
	failures int
	again    time.Time // before this the last error stands
}

// After a failed attempt the error stands for firstPause, doubled at each further failure up to lastPause.
const (
	firstPause = 500 * time.Millisecond
	lastPause  = 5 * time.Second
)

func newSlot[C connection]() *slot[C] {
	s := &slot[C]{turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

func (s *slot[C]) get(ctx context.Context, connect func() (C, error)) (C, error) {
	if c, ok, err := s.now(); ok || err != nil {
		return c, err
	}
	select {
	case <-s.turn:
	case <-ctx.Done():
		var none C
		return none, context.Cause(ctx)
	}
	defer func() { s.turn <- struct{}{} }()
	if c, ok, err := s.now(); ok || err != nil { // another caller connected meanwhile
		return c, err
	}
	c, err := connect()
	if err != nil && ctx.Err() != nil {
		return c, context.Cause(ctx) // says nothing about the host
	}
	return s.keep(c, err)
}

// now returns the connection if it lives, or the last error if it still stands.
func (s *slot[C]) now() (c C, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return c, false, errClosed
	}
	if s.have {
		if s.conn.lives() {
			return s.conn, true, nil
		}
		s.have = false
	}
	if s.err != nil && time.Now().Before(s.again) {
		return c, false, s.err
	}
	return c, false, nil
}

func (s *slot[C]) keep(c C, err error) (C, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	if err != nil {
		s.again = time.Now().Add(min(firstPause<<min(s.failures, 8), lastPause))
		s.failures++
		return c, err
	}
	if s.closed {
		c.close()
		return c, errClosed
	}
	s.conn, s.have, s.failures = c, true, 0
	return c, nil
}

func (s *slot[C]) shut() {
	s.mu.Lock()
	s.closed = true
	c, have := s.conn, s.have
	s.mu.Unlock()
	if have {
		c.close()
	}
}
