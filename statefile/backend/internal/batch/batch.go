// Package batch collects journal lines for a backend to which every write is a round trip: a line is on its way at
// the latest after [Delay], or when somebody needs it to be durable, and those who wait at the same time share a write.
package batch

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Delay is how long a line may wait for others to travel with.
const Delay = 200 * time.Millisecond

// flushTimeout bounds a write that nobody waits for.
const flushTimeout = 30 * time.Second

// Journal is the end of a journal that the backend does not have yet.
type Journal struct {
	write func(ctx context.Context, lines []byte) error

	mu       sync.Mutex // guards what follows
	lines    []byte
	appended int // lines, counted
	broken   error
	timer    *time.Timer

	writing sync.Mutex // held by the one who writes
	written int
}

// New returns an empty one. write makes lines durable at the end of the backend's journal; it is not called twice at a
// time. After an error it is not called again: the backend may or may not have the lines, and those behind
// must not follow a gap.
func New(write func(ctx context.Context, lines []byte) error) *Journal { return &Journal{write: write} }

// Append takes in one line.
func (j *Journal) Append(line []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return j.broken
	}
	j.lines = append(j.lines, line...)
	j.appended++
	if j.timer == nil {
		j.timer = time.AfterFunc(Delay, func() {
			ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
			defer cancel()
			_ = j.Sync(ctx) // the next Append or Sync reports it
		})
	}
	return nil
}

// Sync returns when every line is durable whose Append returned before.
func (j *Journal) Sync(ctx context.Context) error {
	j.mu.Lock()
	mine := j.appended
	j.mu.Unlock()
	j.writing.Lock()
	defer j.writing.Unlock()
	if j.written >= mine {
		return j.failure()
	}
	lines, all, err := j.take()
	if err != nil {
		return err
	}
	if err := j.write(ctx, lines); err != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.broken = err
		return err
	}
	j.written = all
	return nil
}

func (j *Journal) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.broken
}

// take returns the lines that wait, and the number of those that were appended so far.
func (j *Journal) take() (lines []byte, all int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.timer != nil {
		j.timer.Stop()
		j.timer = nil
	}
	if j.broken != nil {
		return nil, 0, j.broken
	}
	lines, j.lines = slices.Clone(j.lines), j.lines[:0]
	return lines, j.appended, nil
}

// Clear drops what waits, calls remove, which empties the backend's journal, and mends a broken one.
func (j *Journal) Clear(remove func() error) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	_, all, err := j.take()
	if err := remove(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		all, j.lines, j.broken = j.appended, j.lines[:0], nil
	}
	j.written = all
	return nil
}

// Close makes durable what waits; a broken journal stays as it is.
func (j *Journal) Close(ctx context.Context) error {
	if j.failure() != nil {
		return nil
	}
	return j.Sync(ctx)
}
