package s3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/batch"
)

// lease is the lock while this process holds it.
type lease struct {
	store   *Store
	fence   uint64
	ctx     context.Context
	end     context.CancelCauseFunc
	beats   sync.WaitGroup
	journal *batch.Journal

	mu       sync.Mutex // guards what follows
	lock     lock
	tag      string    // of the lock's object
	renewed  time.Time // when the last renewal that succeeded began
	released bool

	segment segment // of the journal; guarded by the batch, which writes one at a time
}

func newLease(ctx context.Context, s *Store, mine lock, tag string, began time.Time) *lease {
	l := &lease{store: s, fence: mine.Fence, lock: mine, tag: tag, renewed: began}
	l.journal = batch.New(l.append)
	l.ctx, l.end = context.WithCancelCause(ctx)
	return l
}

// Context ends with the lock.
func (l *lease) Context() context.Context { return l.ctx }

// Fence counts the locks that were ever taken.
func (l *lease) Fence() uint64 { return l.fence }

// held refuses to write without a lock. A lock that could not be renewed for most of its time counts as lost before others may take
// it: writes under way have what is left to arrive.
func (l *lease) held() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released || errors.Is(context.Cause(l.ctx), statefile.ErrLockLost) {
		return statefile.ErrLockLost
	}
	if since := time.Since(l.renewed); since > l.store.ttl*3/4 {
		l.end(statefile.ErrLockLost)
		return fmt.Errorf("%w: it could not be renewed for %s", statefile.ErrLockLost, since.Round(time.Second))
	}
	return nil
}

// beat renews the lock until it is released or lost.
func (l *lease) beat() {
	tick := time.NewTicker(l.store.ttl / 6)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(l.ctx, l.store.ttl/4)
		_ = l.update(ctx, func(*lock) {}) // what a failure means, held says in time
		cancel()
		if l.held() != nil {
			return
		}
	}
}

// update changes the lock's object, which renews it.
func (l *lease) update(ctx context.Context, change func(*lock)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released {
		return statefile.ErrLockLost
	}
	next := l.lock
	change(&next)
	next.Beat++
	began := time.Now()
	tag, err := l.store.writeLock(ctx, next, l.tag)
	if errors.Is(err, statefile.ErrConflict) {
		l.end(statefile.ErrLockLost)
		return fmt.Errorf("%w: another has written %s", statefile.ErrLockLost, l.store.where(lockSuffix))
	}
	if err != nil {
		return err
	}
	l.lock, l.tag, l.renewed = next, tag, began
	return nil
}

// Put replaces the document if it has that tag.
func (l *lease) Put(ctx context.Context, data []byte, ifVersion string) (string, error) {
	return l.put(ctx, data, ifVersion, true)
}

// Amend is Put that keeps no backup.
func (l *lease) Amend(ctx context.Context, data []byte, ifVersion string) (string, error) {
	return l.put(ctx, data, ifVersion, false)
}

func (l *lease) put(ctx context.Context, data []byte, ifVersion string, keep bool) (string, error) {
	if err := l.held(); err != nil {
		return "", err
	}
	if ifVersion == whatever {
		return "", fmt.Errorf("write %s: %w", l.store.where(""), statefile.ErrConflict)
	}
	if ifVersion != "" && keep {
		if err := l.store.backUp(ctx, ifVersion, time.Now()); err != nil {
			return "", err
		}
	}
	return l.store.put(ctx, "", data, ifVersion)
}

// Append takes in a line.
func (l *lease) Append(_ context.Context, line []byte) error {
	if err := l.held(); err != nil {
		return err
	}
	return l.journal.Append(line)
}

// Sync waits until all lines are in the bucket.
func (l *lease) Sync(ctx context.Context) error { return l.journal.Sync(ctx) }

// Unlock lets others in.
func (l *lease) Unlock(ctx context.Context) error {
	l.mu.Lock()
	done := l.released
	l.mu.Unlock()
	if done {
		return nil
	}
	err := l.journal.Close(ctx)
	lost := errors.Is(context.Cause(l.ctx), statefile.ErrLockLost)
	l.end(context.Canceled)
	l.beats.Wait()
	if lost {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.released = true
		return err
	}
	return errors.Join(err, l.giveBack(ctx))
}

func (l *lease) giveBack(ctx context.Context) error {
	err := l.update(ctx, func(next *lock) { next.Holder = nil })
	l.end(context.Canceled)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released = true
	if errors.Is(err, statefile.ErrLockLost) {
		return nil // by now it is another's
	}
	if err != nil {
		return fmt.Errorf("unlock: %w; the lock ends by itself %s after its last renewal", err, l.store.ttl)
	}
	return nil
}
