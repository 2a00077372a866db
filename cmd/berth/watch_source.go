package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"berth.dev/berth/watchdog"
)

// configSource is where the configuration comes from. digest tells it from others by its content, and has that content be what is read;
// "" when it is not known at present.
type configSource interface {
	watchdog.Source
	digest(ctx context.Context) (string, error)
}

// watchSource is a directory with a configuration: its files and those of modules below it.
type watchSource struct{ dir string }

// Version is over names, sizes and times of everything that is or may be read: no file is opened.
func (s watchSource) Version(context.Context) (string, error) {
	return s.sum(func(h io.Writer, path string, info fs.FileInfo) error {
		fmt.Fprintf(h, "%d\x00", info.ModTime().UnixNano())
		return nil
	})
}

// mostRead is up to what size files are read for the digest: programs that are copied into images are larger.
const mostRead = 1 << 20

// digest is over the content, so that the same configuration has the same one wherever it lies. Large files count by their size and time.
func (s watchSource) digest(context.Context) (string, error) {
	return s.sum(func(h io.Writer, path string, info fs.FileInfo) error {
		if info.Size() > mostRead {
			fmt.Fprintf(h, "%d\x00", info.ModTime().UnixNano())
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil {
			_, err = h.Write(data)
		}
		return err
	})
}

// sum hashes the names and sizes of files, and what of says of each. What Berth itself writes does not count.
func (s watchSource) sum(of func(h io.Writer, path string, info fs.FileInfo) error) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		switch {
		case d.IsDir() && path != s.dir && strings.HasPrefix(name, "."):
			return fs.SkipDir
		case d.IsDir() || !d.Type().IsRegular() || strings.Contains(name, ".state") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "."):
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s\x00%d\x00", rel, info.Size())
		return of(h, path, info)
	})
	if err != nil {
		return "", fmt.Errorf("read the configuration: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}
