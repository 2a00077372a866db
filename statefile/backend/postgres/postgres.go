// Package postgres keeps a state in a PostgreSQL database.
//
// The lock is a session's advisory lock, and everything is written by the session that holds it: when its connection
// ends, however it ends, the server lets go of the lock, and nothing of this process can be written any more. Each document
// that is replaced stays as a row of history.
//
// Start with [Store], then lease.go; schema.go has the tables.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/crown"
)

// Store is a state in a database.
type Store struct {
	seat crown.Seat

	config *pgx.ConnConfig
	schema string // quoted
	name   string
	keep   int // documents of history
	maxAge time.Duration
}

var (
	_ statefile.Store  = (*Store)(nil)
	_ statefile.Keeper = (*Store)(nil)
	_ statefile.Namer  = (*Store)(nil)
	_ statefile.Waiter = (*Store)(nil)

	_ statefile.Retainer = (*Store)(nil)
)

const (
	dialTimeout = 15 * time.Second
	defaultKeep = 20
)

// Keys are the attributes of backend "postgres".
func Keys() []string { return []string{"conn_str", "schema_name", "name", "history"} }

var wordPattern = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_-]{0,62}$`)

// Open returns the store of a backend "postgres" block. It makes no connection. What conn_str leaves open is taken from
// PG_CONN_STR and from libpq's variables and files (PGHOST, PGPASSWORD, ~/.pgpass, PGSERVICE ...). A password in the configuration is
// refused: configurations are shared.
func Open(config map[string]string, _ string) (statefile.Store, error) {
	text := config["conn_str"]
	if hasPassword(text) {
		return nil, errors.New("conn_str holds a password, which everybody with the configuration could read: put it into PGPASSWORD, ~/.pgpass or PG_CONN_STR")
	}
	if text == "" {
		text = os.Getenv("PG_CONN_STR")
	}
	conf, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("conn_str: %w", err) // pgx leaves passwords out
	}
	conf.ConnectTimeout = min(nonZero(conf.ConnectTimeout, dialTimeout), time.Minute)
	conf.RuntimeParams["application_name"] = "berth"
	s := &Store{config: conf, name: "default", keep: defaultKeep}
	schema := "berth"
	for key, field := range map[string]*string{"schema_name": &schema, "name": &s.name} {
		if v, ok := config[key]; ok {
			*field = v
		}
		if !wordPattern.MatchString(*field) {
			return nil, fmt.Errorf("%s %q is no name: use letters, digits, _ and -", key, *field)
		}
	}
	s.schema = pgx.Identifier{schema}.Sanitize()
	if v, ok := config["history"]; ok {
		if s.keep, err = strconv.Atoi(v); err != nil || s.keep < 1 || s.keep > 10000 {
			return nil, fmt.Errorf("history %q: give the number of documents to keep, from 1 to 10000", v)
		}
	}
	return s, nil
}

func nonZero(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

var passwordWord = regexp.MustCompile(`(^|\s)password\s*=`)

func hasPassword(conn string) bool {
	if u, err := url.Parse(conn); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		_, in := u.User.Password()
		return in || u.Query().Has("password")
	}
	return passwordWord.MatchString(conn)
}

// where names the place for messages: host, database and state.
func (s *Store) where() string {
	return fmt.Sprintf("postgres://%s:%d/%s, state %q", s.config.Host, s.config.Port, s.config.Database, s.name)
}

// Names returns the place for messages.
func (s *Store) Names() statefile.Names {
	return statefile.Names{State: s.where(), Journal: "the journal in " + s.where()}
}

// LockInterval is how long to wait between attempts.
func (s *Store) LockInterval() (first, most time.Duration) {
	return 250 * time.Millisecond, 4 * time.Second
}

func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, s.config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.where(), err)
	}
	return conn, nil
}

// read runs a query for one row; absent says that there is no such row, or not even its table.
func (s *Store) read(ctx context.Context, query string, into ...any) (found bool, err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	err = conn.QueryRow(ctx, strings.ReplaceAll(query, "@", s.schema), s.name).Scan(into...)
	switch {
	case errors.Is(err, pgx.ErrNoRows), isCode(err, undefinedTable), isCode(err, undefinedSchema):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read %s: %w", s.where(), err)
	}
	return true, nil
}

const (
	undefinedTable  = "42P01"
	undefinedSchema = "3F000"
)

func isCode(err error, code string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == code
}

// Get reads the document.
func (s *Store) Get(ctx context.Context) ([]byte, string, error) {
	var data []byte
	var version int64
	found, err := s.read(ctx, `SELECT data, version FROM @.states WHERE name = $1 AND data IS NOT NULL`, &data, &version)
	if err != nil || !found {
		return nil, "", err
	}
	return data, strconv.FormatInt(version, 10), nil
}

// Journal reads the journal.
func (s *Store) Journal(ctx context.Context) ([]byte, error) {
	var lines []byte
	_, err := s.read(ctx, `SELECT string_agg(j.lines, ''::bytea ORDER BY j.seq) FROM @.journal j JOIN @.states s ON s.id = j.state_id WHERE s.name = $1`, &lines)
	if len(lines) == 0 {
		return nil, err
	}
	return lines, err
}

// Retain says how many documents that were replaced stay, and how long.
func (s *Store) Retain(n int, maxAge time.Duration) { s.keep, s.maxAge = max(1, n), maxAge }

// Backups returns the documents that were replaced.
func (s *Store) Backups(ctx context.Context) ([]statefile.Backup, error) {
	var versions []int64
	var times []time.Time
	_, err := s.read(ctx, `SELECT array_agg(h.version ORDER BY h.version DESC), array_agg(h.replaced ORDER BY h.version DESC) FROM @.history h JOIN @.states s ON s.id = h.state_id WHERE s.name = $1`, &versions, &times)
	var list []statefile.Backup
	for i, version := range versions {
		list = append(list, statefile.Backup{Name: fmt.Sprintf("table %s.history, version %d of state %q", s.schema, version, s.name), At: times[i], Read: func(ctx context.Context) ([]byte, error) {
			return s.formerly(ctx, version)
		}})
	}
	return list, err
}

func (s *Store) formerly(ctx context.Context, version int64) ([]byte, error) {
	var data []byte
	found, err := s.read(ctx, fmt.Sprintf(`SELECT h.data FROM @.history h JOIN @.states s ON s.id = h.state_id WHERE s.name = $1 AND h.version = %d`, version), &data)
	if err == nil && !found {
		err = fmt.Errorf("version %d of %s is no longer kept", version, s.where())
	}
	return data, err
}
