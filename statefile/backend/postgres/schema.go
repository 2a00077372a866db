package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// lockClass is the first half of our advisory locks, which the whole database shares: "bert" in ASCII.
const lockClass = 0x62657274

// tables are made by the first one who locks. The lock itself is the session's; the columns that describe it are for people.
const tables = `
CREATE SCHEMA IF NOT EXISTS @;
CREATE TABLE IF NOT EXISTS @.states (
	id      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name    text    NOT NULL UNIQUE,
	version bigint  NOT NULL DEFAULT 0,
	data    bytea,                       -- the document; null before the first
	fence   bigint  NOT NULL DEFAULT 0,  -- of the last lock
	holder  jsonb,                       -- of the present lock
	beat    timestamptz                  -- when it was last known to live
);
CREATE TABLE IF NOT EXISTS @.journal (
	state_id integer NOT NULL REFERENCES @.states ON DELETE CASCADE,
	seq      bigint  GENERATED ALWAYS AS IDENTITY,
	lines    bytea   NOT NULL,
	PRIMARY KEY (state_id, seq)
);
CREATE TABLE IF NOT EXISTS @.history (
	state_id integer NOT NULL REFERENCES @.states ON DELETE CASCADE,
	version  bigint  NOT NULL,
	data     bytea   NOT NULL,
	replaced timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (state_id, version)
);`

// prepare makes the tables and the state's row where they are missing, and returns the row's number.
func (s *Store) prepare(ctx context.Context, conn *pgx.Conn) (id int32, err error) {
	find := func() error {
		return conn.QueryRow(ctx, s.sql(`SELECT id FROM @.states WHERE name = $1`), s.name).Scan(&id)
	}
	if find() == nil {
		return id, nil
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Two who make the same table at once hinder each other even with IF NOT EXISTS.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1::int, 0)`, int32(lockClass)); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, s.sql("@.history")).Scan(&there); err != nil {
			return err
		}
		if !there {
			if _, err := tx.Exec(ctx, s.sql(tables)); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, s.sql(`INSERT INTO @.states (name) VALUES ($1) ON CONFLICT DO NOTHING`), s.name)
		return err
	})
	if err == nil {
		err = find()
	}
	if err != nil {
		return 0, fmt.Errorf("prepare the tables of %s: %w", s.where(), err)
	}
	return id, nil
}

func (s *Store) sql(text string) string { return strings.ReplaceAll(text, "@", s.schema) }
