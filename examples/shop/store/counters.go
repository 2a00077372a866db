package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync"
)

// counters is a set of named counters in a log file: each line names one counter that was raised by one.
type counters struct {
	mu     sync.Mutex
	file   *os.File
	end    int64 // where the last whole line ends
	values map[string]int64
}

// open reads the log. A last line without its end was never acknowledged: it is cut off.
func open(path string) (*counters, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	c := &counters{file: f, values: map[string]int64{}}
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.Close())
		}
		c.end += int64(len(line))
		c.values[strings.TrimSuffix(line, "\n")]++
	}
	if err := f.Truncate(c.end); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

// add raises a counter by one; when it returns the change is on disk.
func (c *counters) add(name string) (int64, error) {
	if name == "" || strings.ContainsAny(name, "\n") {
		return 0, fmt.Errorf("%q is not a counter's name", name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	line := name + "\n"
	if _, err := c.file.WriteAt([]byte(line), c.end); err != nil {
		return 0, errors.Join(err, c.file.Truncate(c.end)) // the disk is full, perhaps: no half line may stay
	}
	if err := c.file.Sync(); err != nil {
		return 0, err
	}
	c.end += int64(len(line))
	c.values[name]++
	return c.values[name], nil
}

// all returns a copy of every counter.
func (c *counters) all() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.values)
}

func (c *counters) close() error { return c.file.Close() }
