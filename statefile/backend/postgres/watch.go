package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/jackc/pgx/v5"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/crown"
)

var _ statefile.Crowner = (*Store)(nil)

// watchTable holds the record of the watchdog that leads. Its number is in the key of an advisory lock, which its session holds.
const watchTable = `
CREATE TABLE IF NOT EXISTS @.watchdogs (
	state_id integer PRIMARY KEY REFERENCES @.states ON DELETE CASCADE,
	number   bigint  NOT NULL,
	version  bigint  NOT NULL,
	data     bytea   NOT NULL
)`

// Crown tries once.
func (s *Store) Crown(ctx context.Context, w statefile.Watcher, above uint64) (statefile.Crown, bool, error) {
	return s.seat.Try(ctx, throne{s}, w, above)
}

// Watcher reads what the last one has said.
func (s *Store) Watcher(ctx context.Context) (*statefile.Watcher, error) {
	var data []byte
	_, err := s.read(ctx, `SELECT w.data FROM @.watchdogs w JOIN @.states s ON s.id = w.state_id WHERE s.name = $1`, &data)
	return crown.Watcher(data), err
}

// throne is a row.
type throne struct{ *Store }

// sessionKey is the advisory lock of one term: its holder is alive as long as it is held.
func (t throne) sessionKey(number int64) int64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "berth watchdogs\x00%s\x00%s\x00%d", t.schema, t.name, number) // a hash takes all
	return int64(binary.BigEndian.Uint64(h.Sum(nil)))                                    //nolint:gosec // any number serves
}

// Load reads the row, and tries the lock of its writer for a moment.
func (t throne) Load(ctx context.Context) (r crown.Record, err error) {
	var number, version int64
	found, err := t.read(ctx, `SELECT w.data, w.number, w.version FROM @.watchdogs w JOIN @.states s ON s.id = w.state_id WHERE s.name = $1`, &r.Data, &number, &version)
	if err != nil || !found {
		return crown.Record{}, err
	}
	r.Tag = fmt.Sprint(version)
	// The lock is that of the transaction, and ends with it. Shared, so that those who try at once do not hinder each other.
	_, err = t.read(ctx, fmt.Sprintf(`SELECT pg_try_advisory_xact_lock_shared(%d) FROM @.states WHERE name = $1`, t.sessionKey(number)), &r.Ended)
	return r, err
}

// Take writes the row, in a session that holds the lock of the new number.
func (t throne) Take(ctx context.Context, seen crown.Record, data func(uint64) ([]byte, error)) (crown.Hold, string, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return nil, "", err
	}
	h := &hold{throne: t, conn: conn}
	tag, err := h.take(ctx, seen, data)
	if err != nil {
		return nil, "", errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	return h, tag, nil
}

// hold is the row while it is ours.
type hold struct {
	throne throne
	conn   *pgx.Conn
	id     int32
}

func (h *hold) take(ctx context.Context, seen crown.Record, data func(uint64) ([]byte, error)) (string, error) {
	t := h.throne
	var err error
	if h.id, err = t.prepare(ctx, h.conn); err != nil {
		return "", err
	}
	text, err := data(0)
	if err != nil {
		return "", err
	}
	number := int64(crown.Watcher(text).Fence) //nolint:gosec // counts
	if err := t.prepareWatch(ctx, h.conn); err != nil {
		return "", err
	}
	var got bool
	if err := h.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, t.sessionKey(number)).Scan(&got); err != nil {
		return "", fmt.Errorf("write %s: %w", t.where(), err)
	}
	if !got {
		return "", statefile.ErrConflict // another is about to
	}
	if seen.Tag != "" {
		return h.replace(ctx, text, seen.Tag, number)
	}
	tag, err := h.conn.Exec(ctx, t.sql(`INSERT INTO @.watchdogs (state_id, number, version, data) VALUES ($1, $2, 1, $3) ON CONFLICT DO NOTHING`), h.id, number, text)
	return "1", t.written(tag.RowsAffected(), err)
}

func (h *hold) replace(ctx context.Context, data []byte, tag string, number int64) (string, error) {
	t := h.throne
	var next int64
	err := h.conn.QueryRow(ctx, t.sql(`UPDATE @.watchdogs SET number = $3, version = version + 1, data = $4 WHERE state_id = $1 AND version::text = $2 RETURNING version`), h.id, tag, number, data).Scan(&next)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", statefile.ErrConflict
	}
	return fmt.Sprint(next), t.written(1, err)
}

func (t throne) written(rows int64, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("write %s: %w", t.where(), err)
	case rows == 0:
		return statefile.ErrConflict
	}
	return nil
}

// Renew writes the row anew. A session that has ended is the end of the crown.
func (h *hold) Renew(ctx context.Context, data []byte, tag string) (string, error) {
	if h.conn.IsClosed() {
		return "", statefile.ErrConflict
	}
	next, err := h.replace(ctx, data, tag, int64(crown.Watcher(data).Fence)) //nolint:gosec // counts
	if err != nil && h.conn.IsClosed() {
		err = statefile.ErrConflict // the lock of the session is gone: another may lead
	}
	return next, err
}

// Release ends the session, and with it the lock.
func (h *hold) Release(ctx context.Context) error { return h.conn.Close(ctx) }

// Lost is told by Renew.
func (h *hold) Lost() <-chan struct{} { return nil }

// prepareWatch makes the table where it is missing.
func (s *Store) prepareWatch(ctx context.Context, conn *pgx.Conn) error {
	var there bool
	err := conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, s.sql("@.watchdogs")).Scan(&there)
	if err == nil && !there {
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1::int, 0)`, int32(lockClass)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, s.sql(watchTable))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("prepare the tables of %s: %w", s.where(), err)
	}
	return nil
}
