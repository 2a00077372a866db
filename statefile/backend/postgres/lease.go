package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/batch"
)

// beat is how often the session is asked whether it lives, and says so to others.
const (
	beatEvery   = 5 * time.Second
	beatTimeout = 10 * time.Second
)

// Lock takes the advisory lock in a session of its own.
func (s *Store) Lock(ctx context.Context, info statefile.LockInfo) (statefile.Lease, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	l, err := s.lockWith(ctx, conn, info)
	if err != nil {
		// The end of the session is the end of a lock that it may have.
		return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	return l, nil
}

func (s *Store) lockWith(ctx context.Context, conn *pgx.Conn, info statefile.LockInfo) (*lease, error) {
	id, err := s.prepare(ctx, conn)
	if err != nil {
		return nil, err
	}
	var got bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1::int, $2::int)`, int32(lockClass), id).Scan(&got); err != nil {
		return nil, fmt.Errorf("lock %s: %w", s.where(), err)
	}
	if !got {
		return nil, s.locked(ctx, conn, id)
	}
	holder, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	l := &lease{store: s, conn: conn, id: id}
	err = conn.QueryRow(ctx, s.sql(`UPDATE @.states SET fence = fence + 1, holder = $2, beat = now() WHERE id = $1 RETURNING fence`), id, holder).Scan(&l.fence)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", s.where(), err)
	}
	l.journal = batch.New(l.write)
	l.ctx, l.end = context.WithCancelCause(ctx)
	l.beats.Go(l.beat)
	return l, nil
}

// locked says who has the lock. Its holder writes that right after taking it: a moment before, the last one's name may be there.
func (s *Store) locked(ctx context.Context, conn *pgx.Conn, id int32) error {
	var holder []byte
	var since *time.Duration
	err := conn.QueryRow(ctx, s.sql(`SELECT holder, now() - beat FROM @.states WHERE id = $1`), id).Scan(&holder, &since)
	if err != nil {
		return fmt.Errorf("read who holds the lock of %s: %w", s.where(), err)
	}
	e := &statefile.LockedError{Advice: "The lock is that of a session of the database and ends with it: if its process is gone, the server notices within its tcp_keepalives."}
	if len(holder) > 0 {
		if err := json.Unmarshal(holder, &e.Info); err != nil {
			return fmt.Errorf("read who holds the lock of %s: %w", s.where(), err)
		}
	}
	e.Heard = since
	return e
}

// lease is the lock while this process's session holds it.
type lease struct {
	store   *Store
	id      int32
	fence   int64
	ctx     context.Context
	end     context.CancelCauseFunc
	beats   sync.WaitGroup
	journal *batch.Journal

	mu   sync.Mutex // one query at a time
	conn *pgx.Conn  // nil after Unlock
}

// Context ends with the lock.
func (l *lease) Context() context.Context { return l.ctx }

// Fence counts the locks that were ever taken.
func (l *lease) Fence() uint64 { return uint64(l.fence) } //nolint:gosec // counts from 1

// do runs a write in the session. A session that ended has lost the lock.
func (l *lease) do(ctx context.Context, what string, write func(*pgx.Conn) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return statefile.ErrLockLost
	}
	err := write(l.conn)
	switch {
	case err == nil:
		return nil
	case l.conn.IsClosed():
		// A context that ends while a query runs closes the session as well.
		l.end(statefile.ErrLockLost)
		return fmt.Errorf("%s %s: %w: %w", what, l.store.where(), statefile.ErrLockLost, err)
	case errors.Is(err, statefile.ErrConflict), errors.Is(err, statefile.ErrLockLost):
		return fmt.Errorf("%s %s: %w", what, l.store.where(), err)
	}
	return fmt.Errorf("%s %s: %w", what, l.store.where(), err)
}

// beat notices a session that has ended, at the latest after the interval and the timeout together.
func (l *lease) beat() {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(l.ctx, beatTimeout)
		err := l.do(ctx, "look after the lock of", func(c *pgx.Conn) error {
			if l.ctx.Err() != nil {
				return nil // released while we waited for our turn
			}
			// Not under l.ctx: its end would close the session in the middle of the query.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
			defer cancel()
			_, err := c.Exec(ctx, l.store.sql(`UPDATE @.states SET beat = now() WHERE id = $1 AND fence = $2`), l.id, l.fence)
			return err
		})
		cancel()
		if errors.Is(err, statefile.ErrLockLost) {
			return
		}
	}
}

// Put replaces the document; the old one becomes history.
func (l *lease) Put(ctx context.Context, data []byte, ifVersion string) (string, error) {
	return l.replace(ctx, data, ifVersion, true)
}

// Amend is Put that keeps no backup.
func (l *lease) Amend(ctx context.Context, data []byte, ifVersion string) (string, error) {
	return l.replace(ctx, data, ifVersion, false)
}

func (l *lease) replace(ctx context.Context, data []byte, ifVersion string, keep bool) (string, error) {
	want := int64(0)
	if ifVersion != "" {
		var err error
		if want, err = strconv.ParseInt(ifVersion, 10, 64); err != nil || want < 1 {
			return "", fmt.Errorf("write %s: %w", l.store.where(), statefile.ErrConflict)
		}
	}
	if data == nil {
		data = []byte{}
	}
	err := l.do(ctx, "write", func(c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return l.put(ctx, tx, data, want, keep) })
	})
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(want+1, 10), nil
}

func (l *lease) put(ctx context.Context, tx pgx.Tx, data []byte, want int64, keep bool) error {
	s := l.store
	if want > 0 && keep {
		if _, err := tx.Exec(ctx, s.sql(`INSERT INTO @.history (state_id, version, data) SELECT id, version, data FROM @.states WHERE id = $1 AND version = $2 ON CONFLICT DO NOTHING`), l.id, want); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql(`DELETE FROM @.history WHERE state_id = $1 AND version NOT IN (SELECT version FROM @.history WHERE state_id = $1 ORDER BY version DESC LIMIT $2)`), l.id, s.keep); err != nil {
			return err
		}
		if s.maxAge > 0 {
			if _, err := tx.Exec(ctx, s.sql(`DELETE FROM @.history WHERE state_id = $1 AND version < $2 AND replaced < now() - make_interval(secs => $3)`), l.id, want, s.maxAge.Seconds()); err != nil {
				return err
			}
		}
	}
	tag, err := tx.Exec(ctx, s.sql(`UPDATE @.states SET data = $3, version = version + 1 WHERE id = $1 AND version = $2 AND fence = $4`), l.id, want, data, l.fence)
	if err == nil && tag.RowsAffected() == 0 {
		return statefile.ErrConflict
	}
	return err
}

// Append takes in a line.
func (l *lease) Append(_ context.Context, line []byte) error {
	if errors.Is(context.Cause(l.ctx), statefile.ErrLockLost) {
		return statefile.ErrLockLost
	}
	return l.journal.Append(line)
}

// Sync waits until all lines are committed.
func (l *lease) Sync(ctx context.Context) error { return l.journal.Sync(ctx) }

func (l *lease) write(ctx context.Context, lines []byte) error {
	return l.do(ctx, "write the journal of", func(c *pgx.Conn) error {
		tag, err := c.Exec(ctx, l.store.sql(`INSERT INTO @.journal (state_id, lines) SELECT id, $3 FROM @.states WHERE id = $1 AND fence = $2`), l.id, l.fence, lines)
		if err == nil && tag.RowsAffected() == 0 {
			return statefile.ErrLockLost
		}
		return err
	})
}

// ClearJournal removes the journal.
func (l *lease) ClearJournal(ctx context.Context) error {
	return l.journal.Clear(func() error {
		return l.do(ctx, "clear the journal of", func(c *pgx.Conn) error {
			_, err := c.Exec(ctx, l.store.sql(`DELETE FROM @.journal WHERE state_id = $1`), l.id)
			return err
		})
	})
}

// Unlock ends the session, and the lock with it.
func (l *lease) Unlock(ctx context.Context) error {
	if l.over() {
		return nil
	}
	err := l.journal.Close(ctx)
	l.end(context.Canceled)
	l.beats.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	conn := l.conn
	l.conn = nil
	if !conn.IsClosed() {
		_, uerr := conn.Exec(ctx, l.store.sql(`UPDATE @.states SET holder = NULL, beat = NULL WHERE id = $1 AND fence = $2`), l.id, l.fence)
		// The answer says that the lock is free; the end of a session alone is noticed a moment later.
		_, lerr := conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
		err = errors.Join(err, uerr, lerr)
	}
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("unlock %s: %w", l.store.where(), err)
	}
	return nil
}

func (l *lease) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn == nil
}
