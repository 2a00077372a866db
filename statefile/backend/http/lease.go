package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/batch"
)

// Lock asks for the lock.
func (s *Store) Lock(ctx context.Context, info statefile.LockInfo) (statefile.Lease, error) {
	body, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	a, err := s.client.try(ctx, s.lockBy, s.lock, body)
	l := &lease{store: s, info: info, sent: body}
	if err != nil {
		if notSent(err) {
			return nil, err
		}
		// The server may have given the lock before the answer was lost.
		return nil, errors.Join(err, l.giveBack(ctx))
	}
	switch {
	case a.status == http.StatusConflict || a.status == http.StatusLocked:
		var holder statefile.LockInfo
		if err := json.Unmarshal(a.body, &holder); err != nil || holder.ID != info.ID {
			return nil, &statefile.LockedError{Info: holder, Advice: "If that process is gone, its lock stays: `berth force-unlock ID` takes it away."}
		}
		// An attempt before, of which we did not see the answer, was given the lock.
	case a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed, a.status == http.StatusNotImplemented:
		return nil, fmt.Errorf("lock %s by %s: %w; this server has no lock there: see lock_address and lock_method", s.lock, s.lockBy, a.err())
	case !a.ok():
		return nil, fmt.Errorf("lock %s: %w", s.lock, a.err())
	}
	if ctx.Err() != nil {
		return nil, errors.Join(context.Cause(ctx), l.giveBack(ctx))
	}
	if l.lines, err = s.readJournal(ctx); err != nil {
		return nil, errors.Join(err, l.giveBack(ctx))
	}
	l.journal = batch.New(l.append)
	l.ctx, l.end = context.WithCancelCause(ctx)
	return l, nil
}

// notSent reports whether a request did not even find a server.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// lease is the lock while this process holds it.
type lease struct {
	store   *Store
	info    statefile.LockInfo
	sent    []byte // the info as sent: the protocol wants it back
	ctx     context.Context
	end     context.CancelCauseFunc
	journal *batch.Journal

	mu       sync.Mutex // guards what follows; one write at a time
	lines    journal    // as the server has it
	released bool
}

// Context ends with the lock.
func (l *lease) Context() context.Context { return l.ctx }

// Fence is unknown: the protocol has no number. The state's own goes on.
func (l *lease) Fence() uint64 { return 0 }

func (l *lease) held() error {
	if l.released || errors.Is(context.Cause(l.ctx), statefile.ErrLockLost) {
		return statefile.ErrLockLost
	}
	return nil
}

// Put replaces the document, if it is still the one that the caller read.
func (l *lease) Put(ctx context.Context, data []byte, ifVersion string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.held(); err != nil {
		return "", err
	}
	if data == nil {
		data = []byte{}
	}
	to := *l.store.address
	query := to.Query()
	query.Set("ID", l.info.ID)
	to.RawQuery = query.Encode()
	unchanged := func(there []byte, found bool) error {
		if found != (ifVersion != "") || found && versionOf(there) != ifVersion {
			return fmt.Errorf("%s: %w", l.store.address, statefile.ErrConflict)
		}
		return nil
	}
	return versionOf(data), l.replace(ctx, &to, l.store.address, data, unchanged)
}

// replace writes a document if what is there is unchanged. After an error nobody knows whether the server has it: only another look
// tells, and only if nothing came there meanwhile is it written again.
func (l *lease) replace(ctx context.Context, to, from *url.URL, data []byte, unchanged func(there []byte, found bool) error) error {
	c := l.store.client
	var failed error
	for n := 0; ; n++ {
		there, found, err := c.get(ctx, from)
		switch {
		case err != nil:
			return errors.Join(failed, err)
		case failed != nil && found && bytes.Equal(there, data):
			return nil
		case failed != nil && (n > c.retries || ctx.Err() != nil):
			return failed
		}
		if err := unchanged(there, found); err != nil {
			return errors.Join(failed, err)
		}
		if n > 0 {
			if err := c.wait(ctx, n-1); err != nil {
				return errors.Join(failed, err)
			}
		}
		a, err := c.once(ctx, l.store.update, to, data)
		switch {
		case err != nil:
			failed = err
			continue
		case a.ok():
			return nil
		}
		failed = fmt.Errorf("write %s: %w", from, a.err())
		switch {
		case a.status == http.StatusConflict, a.status == http.StatusLocked:
			l.end(statefile.ErrLockLost)
			return fmt.Errorf("%w: %w", statefile.ErrLockLost, failed)
		case a.status < http.StatusInternalServerError && !a.passing() && a.status != http.StatusUnprocessableEntity:
			return failed
		}
	}
}

// Append takes in a line.
func (l *lease) Append(_ context.Context, line []byte) error {
	l.mu.Lock()
	err := l.held()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return l.journal.Append(line)
}

// Sync waits until the server has all lines.
func (l *lease) Sync(ctx context.Context) error { return l.journal.Sync(ctx) }

func (l *lease) append(ctx context.Context, lines []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writeJournal(ctx, l.lines.Lines+string(lines))
}

func (l *lease) writeJournal(ctx context.Context, lines string) error {
	if err := l.held(); err != nil {
		return err
	}
	next := journal{Serial: l.lines.Serial + 1, Lines: lines}
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	// The journal's document has no lock: whoever took ours away shows by what he wrote there.
	unchanged := func(there []byte, found bool) error {
		var j journal
		if found && len(there) > 0 {
			if err := json.Unmarshal(there, &j); err != nil {
				return fmt.Errorf("read the journal at %s: %w", l.store.journal, err)
			}
		}
		if j != l.lines {
			l.end(statefile.ErrLockLost)
			return fmt.Errorf("%s: %w", l.store.journal, statefile.ErrLockLost)
		}
		return nil
	}
	if err := l.replace(ctx, l.store.journal, l.store.journal, data, unchanged); err != nil {
		return err
	}
	l.lines = next
	return nil
}

// ClearJournal empties the journal. It stays as a document: to GitLab its serial must go on.
func (l *lease) ClearJournal(ctx context.Context) error {
	return l.journal.Clear(func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.lines.Lines == "" {
			// What was on its way when a write failed may have arrived.
			there, err := l.store.readJournal(ctx)
			if err != nil || there.Lines == "" {
				return errors.Join(err, l.held())
			}
			l.lines = there
		}
		return l.writeJournal(ctx, "")
	})
}

// Unlock gives the lock back.
func (l *lease) Unlock(ctx context.Context) error {
	l.mu.Lock()
	done := l.released
	l.mu.Unlock()
	if done {
		return nil
	}
	err := l.journal.Close(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released = true
	lost := errors.Is(context.Cause(l.ctx), statefile.ErrLockLost)
	l.end(context.Canceled)
	if lost {
		return err
	}
	return errors.Join(err, l.giveBack(ctx))
}

func (l *lease) giveBack(ctx context.Context) error {
	s := l.store
	a, err := s.client.try(context.WithoutCancel(ctx), s.unlockBy, s.unlock, l.sent)
	switch {
	case err != nil:
		return fmt.Errorf("unlock %s: %w; the lock with ID %s may stay: berth force-unlock %s takes it away", s.unlock, err, l.info.ID, l.info.ID)
	case a.ok(), a.status == http.StatusConflict, a.status == http.StatusNotFound, a.status == http.StatusLocked:
		return nil // ours or, by now, another's
	}
	return fmt.Errorf("unlock %s: %w", s.unlock, a.err())
}
