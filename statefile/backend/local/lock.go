package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gofrs/flock"

	"berth.dev/berth/statefile"
)

// lockFile is what the lock file says: who holds the lock, nothing when it is free, and the fencing number of
// the last lease. The file is never removed, because a lock on a removed file keeps nobody out.
type lockFile struct {
	Fence uint64
	*statefile.LockInfo
}

// Lock takes the lock if it is free.
func (s *Store) Lock(ctx context.Context, info statefile.LockInfo) (statefile.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", s.lock(), err)
	}
	lock := flock.New(s.lock(), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	taken, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the state: %w", access(err, s.lock()))
	}
	if !taken {
		return nil, &statefile.LockedError{Info: s.holder(ctx), Advice: "The lock goes with its process: if that one hangs, end it."}
	}
	l, err := s.newLease(ctx, lock, info)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return l, nil
}

// newLease writes down who has the lock.
func (s *Store) newLease(ctx context.Context, lock *flock.Flock, info statefile.LockInfo) (*lease, error) {
	file, err := os.OpenFile(s.lock(), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("lock the state: %w", access(err, s.lock()))
	}
	if err := same(lock, file); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the state: %w", err), file.Close())
	}
	was, err := readLock(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the state: %w", err), file.Close())
	}
	l := &lease{store: s, lock: lock, file: file, fence: was.Fence + 1}
	if err := l.write(lockFile{l.fence, &info}); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the state: %w", err), file.Close())
	}
	l.ctx, l.end = context.WithCancelCause(ctx)
	return l, nil
}

// same makes sure that the locked file is the one that others will find under its name.
func same(lock *flock.Flock, file *os.File) error {
	locked, err := lock.Stat()
	if err != nil {
		return err
	}
	named, err := file.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(locked, named) {
		return fmt.Errorf("%s was replaced while it was locked: try again", file.Name())
	}
	return nil
}

// holder returns what the lock file says. Its holder may have taken it a moment ago and be about to write.
func (s *Store) holder(ctx context.Context) statefile.LockInfo {
	for range 10 {
		if file, err := os.Open(s.lock()); err == nil {
			f, err := readLock(file)
			file.Close()
			if err == nil && f.LockInfo != nil && f.ID != "" {
				return *f.LockInfo
			}
		}
		select {
		case <-ctx.Done():
			return statefile.LockInfo{}
		case <-time.After(10 * time.Millisecond):
		}
	}
	return statefile.LockInfo{}
}

// readLock reads a lock file. One that cannot be understood, because a crash of the machine cut it short,
// says nothing: the state knows the fencing number too.
func readLock(file *os.File) (lockFile, error) {
	data, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<20))
	if err != nil {
		return lockFile{}, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	var f lockFile
	if err := json.Unmarshal(data, &f); err != nil {
		return lockFile{}, nil
	}
	return f, nil
}

// write replaces what the lock file says. A reader that comes in between finds no JSON and tries again.
func (l *lease) write(f lockFile) error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return access(err, l.store.lock())
	}
	if _, err := l.file.WriteAt(append(data, '\n'), 0); err != nil {
		return access(err, l.store.lock())
	}
	return nil
}
