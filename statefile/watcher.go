package statefile

import (
	"context"
	"time"
)

// Watcher is what a watchdog says of itself beside the state that it watches over.
type Watcher struct {
	Who     string    `json:"who"` // user@host
	PID     int       `json:"pid"`
	Version string    `json:"version"` // of Berth
	Since   time.Time `json:"since"`   // when it began to lead
	Seen    time.Time `json:"seen"`    // when it last said so
	Listen  string    `json:"listen,omitempty"`
	Fence   uint64    `json:"fence,omitempty"` // of its term
	// Stopped says that it has ended by itself.
	Stopped bool `json:"stopped,omitempty"`
}

// Crowner is a Store through which one of several watchdogs becomes the one that acts.
type Crowner interface {
	// Crown tries once to make the caller the one; held is true when another is. The crown goes with its process.
	Crown(ctx context.Context, w Watcher) (c Crown, held bool, err error)
	// Watcher returns what the last one has said of itself, nil when there was none. It takes no lock.
	Watcher(ctx context.Context) (*Watcher, error)
}

// Crown is what the watchdog that acts has and no other.
type Crown interface {
	// Context ends when the crown is lost or given back.
	Context() context.Context
	// Fence is greater than that of every crown before.
	Fence() uint64
	// Say writes what the watchdog says of itself.
	Say(ctx context.Context, w Watcher) error
	// Abdicate gives it back.
	Abdicate(ctx context.Context) error
}

// CrownerOf returns what a store, or the one below it, can do about watchdogs; nil for nothing.
func CrownerOf(s Store) Crowner {
	for {
		if c, ok := s.(Crowner); ok {
			return c
		}
		below, ok := s.(interface{ Unwrap() Store })
		if !ok {
			return nil
		}
		s = below.Unwrap()
	}
}
