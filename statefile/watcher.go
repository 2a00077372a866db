package statefile

import (
	"context"
	"errors"
	"time"
)

// Watcher is what a watchdog says of itself beside the state that it watches over.
type Watcher struct {
	ID      string    `json:"id,omitempty"` // of its crown, by chance
	Who     string    `json:"who"`          // user@host
	PID     int       `json:"pid"`
	Version string    `json:"version"` // of Berth
	Since   time.Time `json:"since"`   // when it began to lead
	Seen    time.Time `json:"seen"`    // when it last said so
	Listen  string    `json:"listen,omitempty"`
	Fence   uint64    `json:"fence,omitempty"` // of its term
	// Stopped says that it has ended by itself.
	Stopped bool `json:"stopped,omitempty"`
}

// The times of a crown. A leader says every CrownBeat that it is there; one that has not managed to for CrownSure acts no more; who has
// not heard of it for CrownTTL, by his own clock, takes its place.
const (
	CrownBeat = 1500 * time.Millisecond
	CrownSure = 4 * time.Second
	CrownTTL  = 6 * time.Second
)

// ErrCrownLost means that another watchdog leads by now, or may.
var ErrCrownLost = errors.New("another watchdog leads by now, or may")

// Crowner is a Store through which one of several watchdogs becomes the one that acts. statetest.RunCrown checks one.
type Crowner interface {
	// Crown tries once to make the caller the one; held is true when another is. Callers try again every second or sooner: that the other has
	// fallen silent is told by comparing what is there with what was there before. The number of the crown will be greater than above.
	Crown(ctx context.Context, w Watcher, above uint64) (c Crown, held bool, err error)
	// Watcher returns what the last one has said of itself, nil when there was none. It takes no lock.
	Watcher(ctx context.Context) (*Watcher, error)
}

// Crown is what the watchdog that acts has and no other. One that was asleep finds that it has lost it: what it still sends to hosts they
// refuse by its number.
type Crown interface {
	// Context ends when the crown is given back or lost, in the latter case with ErrCrownLost as its cause.
	Context() context.Context
	// Fence is greater than that of every crown before.
	Fence() uint64
	// Say writes what the watchdog says of itself, which keeps the crown: it is called every CrownBeat. ErrCrownLost says that it is another's.
	Say(ctx context.Context, w Watcher) error
	// Held makes sure that the crown is held, asking the store when that was not told for a while by either clock of the process.
	Held(ctx context.Context) error
	// Abdicate gives it back, so that another can have it at once.
	Abdicate(ctx context.Context) error
}

// CrownerOf returns what a store, or the one below it, can do about watchdogs; nil for nothing.
func CrownerOf(s Store) Crowner {
	c, _ := Find[Crowner](s)
	return c
}
