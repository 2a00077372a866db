package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"berth.dev/berth/statefile"
)

// lock is the lock's object. It is never removed, so that the fencing number goes on.
type lock struct {
	Fence   uint64              `json:"fence"`
	Journal uint64              `json:"journal"` // whose journal counts: the fencing number of its writer
	Beat    uint64              `json:"beat"`    // grows with every renewal, so that each is a new object
	Holder  *statefile.LockInfo `json:"holder,omitempty"`
}

// readLock returns the lock, its tag and its age; an empty one where there is none.
func (s *Store) readLock(ctx context.Context) (l lock, tag string, age time.Duration, err error) {
	o, err := s.get(ctx, lockSuffix)
	if err != nil || o == nil {
		return lock{}, "", 0, err
	}
	if err := json.Unmarshal(o.data, &l); err != nil {
		return lock{}, "", 0, fmt.Errorf("read %s: it is no lock of Berth: %w", s.where(lockSuffix), err)
	}
	return l, o.etag, o.age, nil
}

func (s *Store) writeLock(ctx context.Context, l lock, tag string) (string, error) {
	data, err := json.Marshal(l)
	if err != nil {
		return "", err
	}
	return s.put(ctx, lockSuffix, data, tag)
}

// Lock takes the lock if nobody has it, or if its holder has not renewed it for too long.
func (s *Store) Lock(ctx context.Context, info statefile.LockInfo) (statefile.Lease, error) {
	old, tag, age, err := s.readLock(ctx)
	if err != nil {
		return nil, err
	}
	if old.Holder != nil && age <= s.ttl {
		return nil, s.locked(*old.Holder, age)
	}
	mine := lock{Fence: old.Fence + 1, Journal: old.Journal, Beat: old.Beat + 1, Holder: &info}
	began := time.Now()
	tag, err = s.writeLock(ctx, mine, tag)
	if errors.Is(err, statefile.ErrConflict) {
		// Another was faster.
		if old, _, age, err = s.readLock(ctx); err == nil {
			holder := statefile.LockInfo{}
			if old.Holder != nil {
				holder = *old.Holder
			}
			return nil, s.locked(holder, age)
		}
	}
	l := newLease(ctx, s, mine, tag, began)
	if err == nil {
		err = l.adoptJournal(ctx)
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, l.giveBack(context.WithoutCancel(ctx)))
	}
	l.beats.Go(l.beat)
	return l, nil
}

func (s *Store) locked(holder statefile.LockInfo, age time.Duration) error {
	return &statefile.LockedError{Info: holder, Heard: &age, Advice: fmt.Sprintf("If its process is gone, the lock ends by itself %s after that.", s.ttl)}
}

// ForceUnlock takes the lock from the holder with that ID.
func (s *Store) ForceUnlock(ctx context.Context, id string) error {
	for {
		l, tag, _, err := s.readLock(ctx)
		if err != nil {
			return err
		}
		switch {
		case l.Holder == nil:
			return fmt.Errorf("unlock %s: nobody holds the lock", s.where(lockSuffix))
		case l.Holder.ID != id:
			return fmt.Errorf("unlock %s: it is held by %s with lock ID %s, not %s", s.where(lockSuffix), l.Holder, l.Holder.ID, id)
		}
		l.Holder = nil
		l.Beat++
		if _, err = s.writeLock(ctx, l, tag); !errors.Is(err, statefile.ErrConflict) {
			return err
		}
		// It was renewed just now: look again.
	}
}
