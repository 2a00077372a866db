package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"berth.dev/berth/statefile"
)

// lease is the lock while this process holds it.
type lease struct {
	store *Store
	lock  *flock.Flock
	file  *os.File // the lock file, for what it says
	fence uint64
	ctx   context.Context
	end   context.CancelCauseFunc

	mu       sync.Mutex // guards what follows, and the order of lines
	journal  *os.File
	size     int64 // of the journal's whole lines
	broken   error // a part of a line could not be taken back
	appended int64 // lines written, counted

	syncing sync.Mutex // held by the one who syncs
	synced  int64      // lines known to be durable
}

// Context ends with the lock.
func (l *lease) Context() context.Context { return l.ctx }

// Fence returns the number that the lock file gave.
func (l *lease) Fence() uint64 { return l.fence }

// held finds out whether our lock still keeps others out: not when the lock file was removed or replaced.
func (l *lease) held() error {
	if l.file == nil {
		return statefile.ErrLockLost
	}
	ours, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("look after the lock: %w", err)
	}
	there, err := os.Stat(l.store.lock())
	switch {
	case err == nil && os.SameFile(ours, there):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look after the lock: %w", err)
	}
	l.end(statefile.ErrLockLost)
	return fmt.Errorf("%w: %s was removed or replaced", statefile.ErrLockLost, l.store.lock())
}

// Put writes a new file beside the old one, keeps the old one as the backup and renames the new one to its
// place. At every instant there is a whole document.
func (l *lease) Put(ctx context.Context, data []byte, ifVersion string) (string, error) {
	return l.put(ctx, data, ifVersion, l.keep)
}

// Amend is Put that keeps no backup.
func (l *lease) Amend(ctx context.Context, data []byte, ifVersion string) (string, error) {
	return l.put(ctx, data, ifVersion, func() error { return nil })
}

func (l *lease) put(ctx context.Context, data []byte, ifVersion string, keep func() error) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.held(); err != nil {
		return "", err
	}
	_, version, err := l.store.Get(ctx)
	if err != nil {
		return "", err
	}
	if version != ifVersion {
		return "", fmt.Errorf("%s: %w", l.store.path, statefile.ErrConflict)
	}
	tmp := l.store.path + ".tmp"
	if err := writeFile(tmp, data); err != nil {
		return "", errors.Join(access(err, tmp), ignoreMissing(os.Remove(tmp)))
	}
	if version != "" {
		if err := keep(); err != nil {
			return "", errors.Join(access(err, l.store.backup(0)), ignoreMissing(os.Remove(tmp)))
		}
	}
	if err := os.Rename(tmp, l.store.path); err != nil {
		return "", access(err, l.store.path)
	}
	return versionOf(data), syncDir(l.store.path)
}

// keep makes the present document the newest backup, without a moment in which there is none.
func (l *lease) keep() error {
	tmp := l.store.path + ".backup-new"
	if err := ignoreMissing(os.Remove(tmp)); err != nil {
		return err
	}
	if err := os.Link(l.store.path, tmp); err != nil {
		// Not every file system has hard links.
		data, err := os.ReadFile(l.store.path)
		if err != nil {
			return err
		}
		if err := writeFile(tmp, data); err != nil {
			return err
		}
	}
	if err := l.store.rotate(); err != nil {
		return err
	}
	if now := time.Now(); l.store.maxAge > 0 {
		if err := os.Chtimes(tmp, now, now); err != nil { // its age counts from now
			return err
		}
	}
	if err := os.Rename(tmp, l.store.backup(0)); err != nil {
		return err
	}
	// When both names are links to one file already, rename does nothing and leaves both.
	return ignoreMissing(os.Remove(tmp))
}

// Append writes a line with one system call.
func (l *lease) Append(_ context.Context, line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	if err := l.held(); err != nil {
		return err
	}
	if l.journal == nil {
		if err := l.openJournal(); err != nil {
			return access(err, l.store.journal())
		}
	}
	n, err := l.journal.Write(line)
	if err != nil {
		if n > 0 {
			if terr := l.journal.Truncate(l.size); terr != nil {
				l.broken = errors.Join(err, terr)
			}
		}
		return access(err, l.store.journal())
	}
	l.size += int64(n)
	l.appended++
	return nil
}

func (l *lease) openJournal() error {
	file, err := os.OpenFile(l.store.journal(), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil {
		err = syncDir(l.store.journal())
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	l.journal, l.size = file, info.Size()
	return nil
}

// Sync makes the lines durable that are there when its turn comes. Who waits for its turn meanwhile mostly
// finds its line among them.
func (l *lease) Sync(context.Context) error {
	l.mu.Lock()
	mine := l.appended
	l.mu.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if l.synced >= mine {
		return nil
	}
	l.mu.Lock()
	file, all := l.journal, l.appended
	l.mu.Unlock()
	if file == nil {
		return nil
	}
	if err := file.Sync(); err != nil {
		// After a failed sync the system may have dropped what it could not write: it must not be tried again.
		l.mu.Lock()
		defer l.mu.Unlock()
		l.broken = access(err, l.store.journal())
		return l.broken
	}
	l.synced = all
	return nil
}

// ClearJournal removes the journal.
func (l *lease) ClearJournal(context.Context) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.held(); err != nil {
		return err
	}
	err := l.closeJournal()
	l.broken, l.size = nil, 0
	if rerr := ignoreMissing(os.Remove(l.store.journal())); rerr != nil {
		return errors.Join(err, access(rerr, l.store.journal()))
	}
	return errors.Join(err, syncDir(l.store.journal()))
}

func (l *lease) closeJournal() error {
	if l.journal == nil {
		return nil
	}
	err := l.journal.Close()
	l.journal = nil
	return err
}

// Unlock lets others in.
func (l *lease) Unlock(context.Context) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.closeJournal()
	if l.held() == nil {
		err = errors.Join(err, l.write(lockFile{Fence: l.fence}))
	}
	l.end(context.Canceled)
	err = errors.Join(err, l.file.Close(), l.lock.Unlock())
	l.file = nil
	if err != nil {
		return fmt.Errorf("unlock the state: %w", err)
	}
	return nil
}

// writeFile writes a new file durably, readable by its owner alone.
func writeFile(path string, data []byte) error {
	if err := ignoreMissing(os.Remove(path)); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncDir makes the names in a file's directory durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
