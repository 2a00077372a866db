package statefile

import (
	"context"
	"errors"
	"time"
)

// Store is where one state lives: a document, the journal of a run in progress, and the lock that makes one
// writer at a time. It knows nothing of what they mean.
//
// What callers owe: they write only through a [Lease] and only while it lasts; they call no method of a
// lease after Unlock; they pass to Put the version they last saw.
//
// What implementers owe: every error says which place it concerns ("write /srv/berth.state: no space left on
// device"); waiting ends with the context; a Store may be used from several goroutines and makes no
// connection before its first call. statetest.Run checks the rest.
type Store interface {
	// Get returns the document and its version, which is "" exactly when there is none. A document of no
	// bytes is a document. It takes no lock and never sees half of a Put.
	Get(ctx context.Context) (data []byte, version string, err error)

	// Journal returns the bytes appended since the journal was last cleared; nil when there is none. It takes
	// no lock, so the end of the last line may be missing. A reader asks for the journal before the
	// document: see load.
	Journal(ctx context.Context) ([]byte, error)

	// Lock takes the lock once, without waiting for it. When another has it the error is a *LockedError with
	// that one's info. When it returns an error, also because ctx ended, no lock is left behind.
	Lock(ctx context.Context, info LockInfo) (Lease, error)
}

// Lease is the lock while it is held, and the only way to write. Of a lease that was lost every writing
// method returns ErrLockLost and writes nothing.
type Lease interface {
	// Context is derived from the one given to Lock. It ends when the lock is released or lost, in the
	// latter case with ErrLockLost as its cause. All work that needs the lock runs under it.
	Context() context.Context

	// Fence returns a number greater than that of every earlier lease, as far as the store can tell; 0 when
	// it cannot.
	Fence() uint64

	// Put replaces the document if its version is still ifVersion ("" means: if there is none), durably and
	// as a whole, and returns the new version; else it returns ErrConflict.
	Put(ctx context.Context, data []byte, ifVersion string) (version string, err error)

	// Append adds a line, which ends in its only newline, to the journal. Lines keep the order of the calls.
	// What was appended survives the end of this process, at the latest 200 ms later, and a crash of the machine
	// once Sync returned. An error leaves no part of the line behind, or breaks the journal for good.
	Append(ctx context.Context, line []byte) error

	// Sync makes every line whose Append returned before durable. Calls at the same time share the work.
	Sync(ctx context.Context) error

	// ClearJournal removes the journal.
	ClearJournal(ctx context.Context) error

	// Unlock releases the lock. The caller gives a context that outlives the interrupt that ended the work.
	Unlock(ctx context.Context) error
}

// Amender is a Lease of a Keeper that can replace a document without keeping it.
type Amender interface {
	// Amend is Put of a document after which nobody would want the one before it back.
	Amend(ctx context.Context, data []byte, ifVersion string) (version string, err error)
}

// Waiter is a Store that knows how long to wait between attempts to lock: first this long, then twice as
// long each time up to most. Without it one second and sixteen are used.
type Waiter interface {
	LockInterval() (first, most time.Duration)
}

// Keeper is a Store that keeps documents that were replaced.
type Keeper interface {
	// Backups returns them, the newest first.
	Backups(ctx context.Context) ([]Backup, error)
}

// Backup is a document that was replaced.
type Backup struct {
	Name string    // how a person finds it
	At   time.Time // when it was replaced; zero where that is not known
	Read func(ctx context.Context) ([]byte, error)
}

// Retainer is a Keeper that can be told how much to keep. Without that it keeps as much as api.DefaultRetention says.
type Retainer interface {
	// Retain bounds the number of documents that stay after the next Put, and, if maxAge is not 0, their age. The newest always stays.
	Retain(n int, maxAge time.Duration)
}

// Sealed is a Store that encrypts.
type Sealed interface {
	// Seals reports whether what is written is encrypted.
	Seals() bool
	// Rewrite reports whether the document that Get returned last was not written as the next one will be: with another key, or
	// not encrypted.
	Rewrite() bool
	// Seal encrypts a copy that is kept elsewhere, and Unseal decrypts one; one that is not encrypted it returns as it is.
	Seal(ctx context.Context, data []byte) ([]byte, error)
	Unseal(ctx context.Context, data []byte) ([]byte, error)
}

// Wrapper is a Store around another one.
type Wrapper interface {
	Unwrap() Store
}

// Find returns the first of a store and those that it is wrapped around which can do more: Find[Unlocker](store).
func Find[T any](s Store) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		w, ok := s.(Wrapper)
		if !ok {
			break
		}
		s = w.Unwrap()
	}
	var none T
	return none, false
}

// Unlocker is a Store whose lock can stay when its holder is gone.
type Unlocker interface {
	// ForceUnlock takes the lock from the holder with that ID, and from no other.
	ForceUnlock(ctx context.Context, id string) error
}

// Namer is a Store that can say where it keeps things, for messages to people.
type Namer interface {
	Names() Names
}

// Names are the names of a store's parts, such as file names.
type Names struct{ State, Journal string }

var (
	// ErrConflict means that the document is no longer the one that the caller read. What was to be
	// written is not: read again and decide again.
	ErrConflict = errors.New("the state was changed by another")

	// ErrLockLost means that the lock is no longer held. Nothing more may be done in its name, on hosts
	// least of all.
	ErrLockLost = errors.New("the lock on the state was lost")
)

func namesOf(s Store) Names {
	if n, ok := Find[Namer](s); ok {
		return n.Names()
	}
	return Names{"state", "journal"}
}
