// Package local keeps a state in files of one directory: the document, beside it those that it replaced
// (.backup, .backup.1, …), the journal of a run in progress (.journal) and the lock (.lock).
//
// The lock is flock(2) on a file of its own, so the kernel releases it when its holder dies, however it
// dies, and the document can be replaced by rename. What the lock file says is for people, and for the fencing
// number.
//
// Start with [Store], then lease.go.
package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/crown"
)

// DefaultPath is where the state lies without a path in the configuration, relative to its directory.
const DefaultPath = "berth.state"

// Store is a state in files.
type Store struct {
	seat   crown.Seat
	path   string // of the document, absolute, links resolved
	keep   int    // backups
	maxAge time.Duration
}

var (
	_ statefile.Store  = (*Store)(nil)
	_ statefile.Waiter = (*Store)(nil)
	_ statefile.Keeper = (*Store)(nil)

	_ statefile.Retainer = (*Store)(nil)
	_ statefile.Namer    = (*Store)(nil)
)

// Keys are the attributes of backend "local".
func Keys() []string { return []string{"path"} }

// Open returns the store of a backend "local" block in the configuration directory dir. It touches no file.
func Open(config map[string]string, dir string) (statefile.Store, error) {
	path, set := config["path"]
	switch {
	case !set:
		path = DefaultPath
	case path == "" || filepath.Base(path) == "." || filepath.Base(path) == "..":
		return nil, fmt.Errorf("path %q names no file: write it as in path = %q", path, DefaultPath)
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return New(path)
}

// New returns the store of the state at path. It touches no file.
func New(path string) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the state file %s: %w", path, err)
	}
	// The document is replaced by rename: a link to it must be followed here, or it would be replaced itself.
	if target, err := filepath.EvalSymlinks(abs); err == nil {
		abs = target
	}
	return &Store{path: abs, keep: api.DefaultRetention.Backups}, nil
}

func (s *Store) journal() string { return s.path + ".journal" }
func (s *Store) lock() string    { return s.path + ".lock" }

// Names returns the paths for messages.
func (s *Store) Names() statefile.Names { return statefile.Names{State: s.path, Journal: s.journal()} }

// LockInterval is short: asking costs a system call.
func (s *Store) LockInterval() (first, most time.Duration) {
	return 50 * time.Millisecond, time.Second
}

// Get reads the document.
func (s *Store) Get(context.Context) ([]byte, string, error) {
	data, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", nil
	case err != nil:
		return nil, "", access(err, s.path)
	}
	return data, versionOf(data), nil
}

// versionOf makes any change of the content a new version, also one by an editor.
func versionOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Journal reads the journal.
func (s *Store) Journal(context.Context) ([]byte, error) {
	data, err := os.ReadFile(s.journal())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, access(err, s.journal())
}
