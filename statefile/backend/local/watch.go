package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/crown"
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

// Crown tries once.
func (s *Store) Crown(ctx context.Context, w statefile.Watcher, above uint64) (statefile.Crown, bool, error) {
	return s.seat.Try(ctx, throne{s}, w, above)
}

// Watcher reads what the last one has said.
func (s *Store) Watcher(context.Context) (*statefile.Watcher, error) {
	data, err := readIfThere(s.watch())
	return crown.Watcher(data), err
}

func readIfThere(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, access(err, path)
}

// throne is the record in a file beside the state, and flock(2) on another one: that goes with its process, however it dies. The second
// file says its holder's number. Who takes the place of a holder that does not move any more replaces it by one of his own.
type throne struct{ *Store }

// Load reads the record, and finds out whether anybody holds the lock.
func (t throne) Load(context.Context) (crown.Record, error) {
	data, err := readIfThere(t.watch())
	if err != nil {
		return crown.Record{}, err
	}
	r := crown.Record{Data: data, Tag: versionOf(data)}
	if _, err := os.Stat(t.watchLock()); errors.Is(err, fs.ErrNotExist) {
		r.Ended = true
		return r, nil
	}
	probe := flock.New(t.watchLock(), flock.SetFlag(os.O_RDWR))
	r.Ended, err = probe.TryLock()
	return r, errors.Join(access(err, t.watchLock()), probe.Close())
}

// Take puts a locked file of its own into the place of the one that is there, then writes the record. Of several who do so at once the last
// one is left: the others find that before they have led.
func (t throne) Take(_ context.Context, _ crown.Record, data func(uint64) ([]byte, error)) (crown.Hold, string, error) {
	before, err := readIfThere(t.watchLock())
	if err != nil {
		return nil, "", err
	}
	file, err := os.CreateTemp(filepath.Dir(t.path), filepath.Base(t.watchLock())+".*") // readable by its owner alone
	if err != nil {
		return nil, "", access(err, t.watchLock())
	}
	h := &hold{store: t.Store, file: file, lock: flock.New(file.Name(), flock.SetFlag(os.O_RDWR))}
	taken, err := h.lock.TryLock()
	if err == nil && taken {
		err = os.Rename(file.Name(), t.watchLock())
	}
	if err != nil || !taken {
		return nil, "", errors.Join(access(err, t.watchLock()), h.close(), ignoreMissing(os.Remove(file.Name())))
	}
	if err := h.begin(numberIn(before), data); err != nil {
		return nil, "", errors.Join(err, h.close())
	}
	return h, "", nil
}

// numberIn is the number that a lock's file says; 0 for none.
func numberIn(text []byte) uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// hold is the lock while it is ours.
type hold struct {
	store *Store
	file  *os.File // of the lock, for what it says
	lock  *flock.Flock
}

func (h *hold) close() error { return errors.Join(h.file.Close(), h.lock.Close()) }

func (h *hold) begin(before uint64, data func(uint64) ([]byte, error)) error {
	last, err := readIfThere(h.store.watch()) // after the rename: whoever led until then has written his number by now
	if err != nil {
		return err
	}
	if w := crown.Watcher(last); w != nil {
		before = max(before, w.Fence)
	}
	text, err := data(before)
	if err != nil {
		return err
	}
	if _, err := h.file.WriteAt([]byte(strconv.FormatUint(crown.Watcher(text).Fence, 10)+"\n"), 0); err != nil {
		return access(err, h.store.watchLock())
	}
	_, err = h.Renew(context.Background(), text, "")
	return err
}

// ours returns statefile.ErrConflict when another's lock is in the place of ours.
func (h *hold) ours() error {
	locked, err := h.file.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(h.store.watchLock())
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(locked, there):
		return statefile.ErrConflict
	}
	return access(err, h.store.watchLock())
}

// Renew replaces the record as a whole. The lock says whose it is, so that it needs no tag.
func (h *hold) Renew(_ context.Context, data []byte, _ string) (string, error) {
	if err := h.ours(); err != nil {
		return "", err
	}
	path := h.store.watch()
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return "", access(err, path)
	}
	_, err = tmp.Write(append(data, '\n'))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return "", errors.Join(access(err, path), ignoreMissing(os.Remove(tmp.Name())))
	}
	return "", h.ours()
}

// Release lets the next one lead.
func (h *hold) Release(context.Context) error { return h.close() }

// Lost is never told: the lock goes with the process.
func (h *hold) Lost() <-chan struct{} { return nil }
