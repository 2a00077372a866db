// Package turn has locks that are waited for as long as a context lasts. They are for what waits for a host while it holds them: who gives up
// need not wait for it, and in the virtual time of testing/synctest they hold nothing up.
package turn

import (
	"context"
	"sync"
)

// Turn is a lock. Its zero value is free.
type Turn struct {
	once sync.Once
	free chan struct{} // holds one value while the lock is free
}

func (t *Turn) place() chan struct{} {
	t.once.Do(func() {
		t.free = make(chan struct{}, 1)
		t.free <- struct{}{}
	})
	return t.free
}

// Take waits for the lock. The error is the context's.
func (t *Turn) Take(ctx context.Context) error {
	select {
	case <-t.place():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Give gives it back.
func (t *Turn) Give() { t.place() <- struct{}{} }

// Shared is a lock that many may share, or one has alone. Its zero value is free.
type Shared struct {
	mu      sync.Mutex
	sharing int
	alone   chan struct{} // closed when who has it alone gives it back; nil while nobody has
}

// Share waits until nobody has the lock alone. The error is the context's.
func (s *Shared) Share(ctx context.Context) error {
	for {
		s.mu.Lock()
		alone := s.alone
		if alone == nil {
			s.sharing++
		}
		s.mu.Unlock()
		if alone == nil {
			return nil
		}
		select {
		case <-alone:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Leave ends sharing it.
func (s *Shared) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sharing--
}

// TryAlone takes the lock alone if nobody has it.
func (s *Shared) TryAlone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sharing > 0 || s.alone != nil {
		return false
	}
	s.alone = make(chan struct{})
	return true
}

// Give gives back what TryAlone took.
func (s *Shared) Give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.alone)
	s.alone = nil
}
