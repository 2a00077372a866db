package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/gofrs/flock"

	"berth.dev/berth/statefile"
)

var (
	_ statefile.Peeker  = (*Store)(nil)
	_ statefile.Crowner = (*Store)(nil)
)

// Peek asks the file system alone. Documents are replaced by rename, so that each has a number of its own; journals grow.
func (s *Store) Peek(context.Context) (string, error) {
	text := ""
	for _, path := range []string{s.journal(), s.path} { // in the order of load
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			text += "- "
		case err != nil:
			return "", access(err, path)
		default:
			text += fmt.Sprintf("%d@%d#%d ", info.Size(), info.ModTime().UnixNano(), numberOf(info))
		}
	}
	return text, nil
}

func (s *Store) watch() string     { return s.path + ".watch" }
func (s *Store) watchLock() string { return s.path + ".watch.lock" }

// crown is flock(2) on a file beside the state: it goes with its process, however that dies.
type crown struct {
	store *Store
	lock  *flock.Flock
	ctx   context.Context
	end   context.CancelFunc

	mu    sync.Mutex
	fence uint64
}

// Crown tries once.
func (s *Store) Crown(ctx context.Context, w statefile.Watcher) (statefile.Crown, bool, error) {
	lock := flock.New(s.watchLock(), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	taken, err := lock.TryLock()
	if err != nil {
		return nil, false, fmt.Errorf("lead the watchdogs: %w", access(err, s.watchLock()))
	}
	if !taken {
		return nil, true, nil
	}
	before, err := s.Watcher(ctx)
	if err != nil {
		return nil, false, errors.Join(err, lock.Unlock())
	}
	c := &crown{store: s, lock: lock, fence: 1}
	if before != nil {
		c.fence = before.Fence + 1
	}
	if err := c.Say(ctx, w); err != nil {
		return nil, false, errors.Join(err, lock.Unlock())
	}
	c.ctx, c.end = context.WithCancel(ctx)
	return c, false, nil
}

// Watcher reads what the last one has said. What cannot be understood, because a crash of the machine cut it short, says nothing.
func (s *Store) Watcher(context.Context) (*statefile.Watcher, error) {
	data, err := os.ReadFile(s.watch())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, access(err, s.watch())
	}
	var w statefile.Watcher
	if json.Unmarshal(data, &w) != nil {
		return nil, nil
	}
	return &w, nil
}

// Context ends with the crown.
func (c *crown) Context() context.Context { return c.ctx }

// Fence counts the crowns.
func (c *crown) Fence() uint64 { return c.fence }

// Say replaces what was said before, as a whole.
func (c *crown) Say(_ context.Context, w statefile.Watcher) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Fence = c.fence
	data, err := json.Marshal(w)
	if err != nil {
		return err
	}
	path := c.store.watch()
	if err := os.WriteFile(path+".tmp", append(data, '\n'), 0o600); err != nil {
		return access(err, path)
	}
	return access(os.Rename(path+".tmp", path), path)
}

// Abdicate lets the next one lead.
func (c *crown) Abdicate(context.Context) error {
	c.end()
	return c.lock.Unlock()
}
