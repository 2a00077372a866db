// Package statefile keeps the state: one document under one lock, with a journal beside it while a run is in
// progress. Every finished step is journaled, at a cost that does not depend on the size of the state; the
// end of the run folds the journal into the document. A process killed at any instant loses no finished
// step: the next one finds the journal and replays it.
//
// The package knows the format (version1.go) and what to believe after a crash (recover.go). Where the bytes
// live is the business of a [Store], one folder each below backend. What is in the state, and what a step
// changes in it, is api's.
//
// docs/statefile.md specifies all of it. Start with Open and Close, then journal.go.
package statefile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"berth.dev/berth/api"
)

// writeTimeout bounds what must still be written after the work was interrupted.
const writeTimeout = 30 * time.Second

// OpenOptions say how to open a state.
type OpenOptions struct {
	// LockTimeout is how long to wait for another to release the lock; 0 gives up at once.
	LockTimeout time.Duration
	// OnWait is called when there is something to wait for: once for every holder of the lock.
	OnWait func(LockInfo)
	// Rescue keeps a document that could not be written to the store, encrypted if the store's are, and returns its name. It is
	// called by Close when the store does not answer any more, or the lock was lost. Nil keeps none.
	Rescue func(data []byte) (name string, err error)
	// Copies keeps a copy elsewhere. It is called by Close after the state was written with another serial, while the lock is held, and bounds
	// itself. Nil keeps none.
	Copies func(ctx context.Context, c Copy)
}

// File is a state that is locked for this process.
type File struct {
	store    Store
	lease    Lease
	info     LockInfo
	fence    uint64
	recovery Recovery
	rescue   func([]byte) (string, error)
	copies   func(context.Context, Copy)

	mu      sync.Mutex // guards what follows and the order of journal lines
	state   *api.State
	version string // of the document as read or last written
	written uint64 // the greatest fencing number of a run that began a step
	base    uint64 // serial of the document that the journal continues
	begun   bool   // the journal has its header
	acted   bool   // the journal has more than events
	minor   bool   // what the document says besides will not be wanted back
	seq     int    // of the last journal line
	broken  error  // the journal cannot be written; nothing more may begin
	closed  bool
}

// Open locks the state, reads it, and takes over the journal of a run that was killed. The error is a
// *LockedError when another has the lock, a *DamagedError or *NewerError when what is there cannot be used.
// An empty store opens as an empty state with a lineage of its own, of which nothing is written before
// the first step begins.
//
// The caller calls Close, whatever happens in between.
func Open(ctx context.Context, store Store, info LockInfo, opts OpenOptions) (*File, error) {
	info, err := info.complete()
	if err != nil {
		return nil, err
	}
	if info.Path == "" {
		info.Path = namesOf(store).State
	}
	lease, err := acquire(ctx, store, info, opts)
	if err != nil {
		return nil, err
	}
	f := &File{store: store, lease: lease, info: info, rescue: opts.Rescue, copies: opts.Copies}
	if err := f.read(ctx); err != nil {
		wctx, cancel := outlive(ctx)
		defer cancel()
		return nil, errors.Join(err, lease.Unlock(wctx))
	}
	return f, nil
}

// read loads the document and settles the journal that a killed run has left behind.
func (f *File) read(ctx context.Context) error {
	l, err := load(ctx, f.store)
	if err != nil {
		return err
	}
	f.state, f.version, f.base, f.recovery, f.acted = l.state, l.version, l.base, l.recovery, l.acted
	f.fence, f.written = max(f.lease.Fence(), l.fence+1), l.fence
	if f.state.Lineage == "" {
		id, err := uuid.NewRandom()
		if err != nil {
			return fmt.Errorf("make a lineage: %w", err)
		}
		f.state.Lineage = id.String()
	}
	switch l.journal {
	case journalLive:
		if err := f.fold(ctx); err != nil {
			return fmt.Errorf("take over the journal of an interrupted run: %w", err)
		}
	case journalFolded:
		return f.lease.ClearJournal(ctx)
	}
	return nil
}

// State returns the state as it is now: after Open what was last applied, then with every finished step. It is
// the live value, which Done and Record change: while steps are under way read it through View.
func (f *File) State() *api.State { return f.state }

// View calls fn with the state while no step can change it.
func (f *File) View(fn func(*api.State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(f.state)
}

// Context ends with the lock: all work on hosts runs under it. When the lock was lost its cause is
// ErrLockLost.
func (f *File) Context() context.Context { return f.lease.Context() }

// Fence returns a number that is greater than that of every run before which began a step. Hosts remember
// the greatest they have seen, and refuse a writer with a smaller one.
func (f *File) Fence() uint64 { return f.fence }

// Minor says whether what this run changes is only how things stand, so that nobody would want the document before it back: no backup is
// kept of that, as of one to which only events are added. It counts from the next time that the document is written.
func (f *File) Minor(yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.minor = yes
}

// LockInfo returns what others see of the lock.
func (f *File) LockInfo() LockInfo { return f.info }

// Recovery says what Open found of an interrupted run.
func (f *File) Recovery() Recovery { return f.recovery }

// Close folds the journal into the document and releases the lock, also when ctx has ended. A run that began
// no step writes nothing. When the document cannot be written the journal stays, and the next Open takes
// it over. Calls after the first do nothing.
func (f *File) Close(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	ctx, cancel := outlive(ctx)
	defer cancel()
	var err error
	switch {
	case f.begun:
		was := f.base
		if err = f.fold(ctx); err != nil {
			err = f.save(ctx, err)
		} else if f.copies != nil && f.base != was {
			err = f.copyOut(ctx)
		}
	case f.version != "" && sealedOf(f.store).Rewrite():
		f.acted = true // servers that keep versions take no serial twice
		if err = f.fold(ctx); err != nil {
			err = fmt.Errorf("encrypt the state anew: %w", err)
		}
	}
	return errors.Join(err, f.lease.Unlock(ctx))
}

// save keeps what could not be written where the caller of Open wants it.
func (f *File) save(ctx context.Context, cause error) error {
	if f.rescue == nil {
		return cause
	}
	data, err := encode(f.state, f.fence, f.info.Version, sealedOf(f.store).Seals())
	if err == nil {
		data, err = sealedOf(f.store).Seal(ctx, data)
	}
	var name string
	if err == nil {
		name, err = f.rescue(data)
	}
	if err != nil {
		return errors.Join(cause, fmt.Errorf("keep a copy of the state: %w", err))
	}
	return &RescuedError{Name: name, cause: cause}
}

// RescuedError means that the state could not be written to its home, and that all of it is in a file.
type RescuedError struct {
	Name  string
	cause error
}

func (e *RescuedError) Error() string {
	return fmt.Sprintf("%v; the whole state is in %s", e.cause, e.Name)
}

// Unwrap returns why it could not be written.
func (e *RescuedError) Unwrap() error { return e.cause }

// Diagnostic says it to people.
func (e *RescuedError) Diagnostic() api.Diagnostic {
	return api.Diagnostic{Severity: api.SeverityError, Summary: "State could not be written", Detail: fmt.Sprintf(
		"%s. Everything that this run did is in the file %s. When the backend answers again, and before anything else is applied: berth state push %s", capital(e.cause.Error()), e.Name, e.Name)}
}

// As makes api.DiagnosticsOf find the diagnostic.
func (e *RescuedError) As(target any) bool { return asDiagnostics(target, e) }

// sealedOf returns what a store does to documents: nothing when it does not encrypt.
func sealedOf(s Store) Sealed {
	if t, ok := Find[Sealed](s); ok {
		return t
	}
	return unsealed{}
}

type unsealed struct{}

func (unsealed) Seals() bool                                           { return false }
func (unsealed) Rewrite() bool                                         { return false }
func (unsealed) Seal(_ context.Context, data []byte) ([]byte, error)   { return data, nil }
func (unsealed) Unseal(_ context.Context, data []byte) ([]byte, error) { return data, nil }

// fold writes the state as a document and drops the journal, in this order. A crash in between leaves a
// journal that continues an older document than the one that is there: it is dropped by the next Open.
func (f *File) fold(ctx context.Context) error {
	if f.state.Serial == f.base && (f.acted || f.base == 0) {
		f.state.Serial++ // steps began and none changed the state: what they did on hosts is not known
	}
	fence := f.written // the document of a run that was killed keeps its number
	if f.begun || fence == 0 {
		fence = f.fence
	}
	data, err := encode(f.state, fence, f.info.Version, sealedOf(f.store).Seals())
	if err != nil {
		return err
	}
	put := f.lease.Put
	if a, ok := f.lease.(Amender); ok && f.begun && (f.minor || !f.acted) {
		put = a.Amend
	}
	version, err := put(ctx, data, f.version)
	switch {
	case errors.Is(err, ErrConflict):
		return fmt.Errorf("write the state: %w while it was locked; what this run did is kept in %s", err, namesOf(f.store).Journal)
	case err != nil && f.broken == nil:
		return fmt.Errorf("write the state: %w; what this run did is kept in %s and taken over by the next one", err, namesOf(f.store).Journal)
	case err != nil:
		return fmt.Errorf("write the state: %w", err)
	}
	f.version, f.written, f.base, f.begun, f.acted, f.seq = version, fence, f.state.Serial, false, false, 0
	if err := f.lease.ClearJournal(ctx); err != nil {
		return fmt.Errorf("the state is written, but its journal could not be removed: %w", err)
	}
	return nil
}

// outlive returns a context for what must be written even after ctx has ended.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
}
