package clusterdns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"
)

// suffix ends the names of record files: "dev_web.json".
const suffix = ".json"

// lookAgain is how often the folder is read though nobody said that it has changed.
const lookAgain = 30 * time.Second

// folder follows a folder of record files.
type folder struct {
	path  string
	store *store
	log   *slog.Logger
	seen  map[string]stamp // by file name
}

// stamp is what a file was when it was taken over. Files are replaced, never rewritten.
type stamp struct {
	info os.FileInfo
	key  string // of its service
}

// same reports whether a file is the one that was taken over.
func (s stamp) same(info os.FileInfo) bool {
	return s.info != nil && os.SameFile(s.info, info) && s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime())
}

// read takes over all files that have changed, and forgets those that have gone.
func (f *folder) read() error {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	here := make(map[string]bool, len(entries))
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			here[e.Name()] = true
			names = append(names, e.Name())
		}
	}
	files := make([]*file, len(names))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	const share = 256 // files that one goroutine reads
	for from := 0; from < len(names); from += share {
		group.Go(func() error {
			for i := from; i < min(from+share, len(names)); i++ {
				files[i] = open(filepath.Join(f.path, names[i]), f.seen[names[i]])
			}
			return nil
		})
	}
	_ = group.Wait() // what went wrong is in the files
	for i, name := range names {
		f.take(name, files[i])
	}
	for name := range f.seen {
		if !here[name] {
			f.forget(name)
		}
	}
	f.store.setReady()
	return nil
}

// file is a record file that was read; nil stands for one that has not changed.
type file struct {
	info    os.FileInfo
	service *service
	err     error
}

// open reads a file, unless it is the one that was read before.
func open(path string, before stamp) *file {
	info, err := os.Stat(path)
	if err != nil {
		return &file{err: err}
	}
	if before.same(info) {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return &file{err: err}
	}
	s, err := parse(text)
	return &file{info, s, err}
}

// take takes over what was read of a file. One that cannot be read keeps what was known, and is said.
func (f *folder) take(name string, read *file) {
	switch {
	case read == nil:
		return
	case errors.Is(read.err, fs.ErrNotExist):
		f.forget(name)
		return
	case read.err != nil:
		f.log.Error("records not taken over", "file", filepath.Join(f.path, name), "err", read.err)
		return
	}
	if old := f.seen[name]; old.key != "" && old.key != read.service.key() {
		f.store.remove(old.key)
	}
	f.store.put(read.service)
	f.seen[name] = stamp{read.info, read.service.key()}
}

func (f *folder) forget(name string) {
	if old, ok := f.seen[name]; ok {
		f.store.remove(old.key)
		delete(f.seen, name)
	}
}

// follow reads the folder and then each file that changes, until the context ends.
func (f *folder) follow(ctx context.Context) error {
	return watched{f.path, suffix, f.log, f.read, func(name, path string) { f.take(name, open(path, stamp{})) }}.follow(ctx)
}

// watched is a folder of files that are replaced by renaming. Whatever notifications may miss is found by looking again.
type watched struct {
	path, suffix string
	log          *slog.Logger
	all          func() error            // reads what has changed in the folder
	one          func(name, path string) // reads one file, which may be gone
}

func (f watched) follow(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	defer w.Close()
	if err := w.Add(f.path); err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	if err := f.all(); err != nil {
		return err
	}
	again := func() {
		if err := f.all(); err != nil {
			f.log.Error("files not read", "folder", f.path, "err", err)
		}
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.Events:
			if name := filepath.Base(e.Name); strings.HasSuffix(name, f.suffix) {
				f.one(name, e.Name)
			}
		case err := <-w.Errors:
			f.log.Warn("files are read again", "folder", f.path, "err", err)
			again()
		case <-tick.C:
			again()
		}
	}
}
