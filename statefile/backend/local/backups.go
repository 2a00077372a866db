package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth.dev/berth/statefile"
)

// Retain says how many documents that were replaced stay, and how long.
func (s *Store) Retain(n int, maxAge time.Duration) { s.keep, s.maxAge = max(1, n), maxAge }

// backup is the name of the n-th newest document that was replaced.
func (s *Store) backup(n int) string {
	if n == 0 {
		return s.path + ".backup"
	}
	return s.path + ".backup." + strconv.Itoa(n)
}

// backups returns the numbers of those that are there, in order.
func (s *Store) backups() ([]int, error) {
	entries, err := os.ReadDir(filepath.Dir(s.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, access(err, s.path)
	}
	var out []int
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), filepath.Base(s.backup(0)))
		if ok && text == "" {
			out = append(out, 0)
			continue
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(text, ".")); ok && err == nil && n > 0 && e.Name() == filepath.Base(s.backup(n)) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Backups returns the documents that were replaced.
func (s *Store) Backups(context.Context) ([]statefile.Backup, error) {
	numbers, err := s.backups()
	if err != nil {
		return nil, err
	}
	var out []statefile.Backup
	for _, n := range numbers {
		path := s.backup(n)
		info, err := os.Stat(path)
		if err != nil {
			return nil, access(err, path)
		}
		out = append(out, statefile.Backup{Name: path, At: info.ModTime(), Read: func(context.Context) ([]byte, error) {
			data, err := os.ReadFile(path)
			return data, access(err, path)
		}})
	}
	return out, nil
}

// rotate makes room for a new backup and drops those that are too many or too old. A crash in between leaves a gap in the
// numbers, which the next one closes up to.
func (s *Store) rotate() error {
	numbers, err := s.backups()
	if err != nil {
		return err
	}
	free := 0 // the first number that nobody has: those before it move up by one
	for free < len(numbers) && numbers[free] == free {
		free++
	}
	for _, n := range numbers {
		path := s.backup(n)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		// After moving up it would be number n+1 of those from 0, the new one before it.
		place := n
		if n < free {
			place = n + 1
		}
		if place >= s.keep || s.maxAge > 0 && time.Since(info.ModTime()) > s.maxAge {
			if err := ignoreMissing(os.Remove(path)); err != nil {
				return fmt.Errorf("remove an old backup: %w", err)
			}
		}
	}
	for n := min(free, s.keep-1); n > 0; n-- {
		if err := ignoreMissing(os.Rename(s.backup(n-1), s.backup(n))); err != nil {
			return err
		}
	}
	return nil
}
