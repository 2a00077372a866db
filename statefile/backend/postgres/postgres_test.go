package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/servertest"
	"berth.dev/berth/statefile/backend/postgres"
	"berth.dev/berth/statefile/statetest"
)

// server is a PostgreSQL server of the test's.
type server struct {
	t    *testing.T
	dir  string
	bin  string
	cred *syscall.Credential // it does not run as root
	*servertest.Process
}

func startServer(t *testing.T) *server {
	bin := filepath.Dir(servertest.Find(t, "initdb", "postgresql", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"))
	dir, err := os.MkdirTemp("", "berth-pg") // t.TempDir() is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &server{t: t, dir: dir, bin: bin}
	if os.Getuid() == 0 {
		s.cred = unprivileged(t)
		if err := os.Chown(dir, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	init := s.command("initdb", "--auth=trust", "--username=berth", "--no-sync", "-D", filepath.Join(dir, "data"))
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.start()
	return s
}

func unprivileged(t *testing.T) *syscall.Credential {
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
			gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
			if uerr == nil && gerr == nil {
				return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			}
		}
	}
	t.Fatal("neither postgres nor nobody is a user here")
	return nil
}

func (s *server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	return cmd
}

func (s *server) start() {
	cmd := s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=400", "-c", "fsync=off")
	s.Process = servertest.Start(s.t, cmd, func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, s.conn())
		if err != nil {
			return err
		}
		return c.Close(ctx)
	})
	s.t.Cleanup(s.Stop)
}

func (s *server) conn() string { return fmt.Sprintf("host=%s user=berth dbname=postgres", s.dir) }

func (s *server) open(name string) statefile.Store {
	st, err := postgres.Open(map[string]string{"conn_str": s.conn(), "name": name, "history": "3"}, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

func (s *server) exec(sql string, args ...any) {
	s.t.Helper()
	c, err := pgx.Connect(s.t.Context(), s.conn())
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close(s.t.Context()) //nolint:errcheck // a reader
	if _, err := c.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatal(err)
	}
}

func TestServer(t *testing.T) {
	s := startServer(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *server)
	}{
		{"conformance", testConformance},
		{"a session that ends", testLostSession},
		{"a watchdog's session that ends", testLostWatchdog},
		{"history", testHistory},
		{"server restarts", testRestart},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, s) })
	}
}

func testConformance(t *testing.T, s *server) {
	var n atomic.Int32
	newStore := func(*testing.T) func() statefile.Store {
		name := fmt.Sprintf("state-%d", n.Add(1))
		return func() statefile.Store { return s.open(name) }
	}
	statetest.Run(t, newStore)
	statetest.RunCrown(t, newStore)
}

// testLostWatchdog has the session of the watchdog that leads end, as it does when its process is killed: another leads without waiting for silence.
func testLostWatchdog(t *testing.T, s *server) {
	one, two := statefile.CrownerOf(s.open("lost-watchdog")), statefile.CrownerOf(s.open("lost-watchdog"))
	c, held, err := one.Crown(t.Context(), statefile.Watcher{Who: "ann"}, 0)
	if err != nil || held {
		t.Fatal(held, err)
	}
	heard := time.Now()
	s.exec(`SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.pid <> pg_backend_pid() AND l.objsubid = 1`)
	for {
		next, held, err := two.Crown(t.Context(), statefile.Watcher{Who: "bob"}, 0)
		if err == nil && !held && next.Fence() > c.Fence() {
			if err := next.Abdicate(t.Context()); err != nil {
				t.Error(err)
			}
			break
		}
		if silent := time.Since(heard); err != nil || silent > statefile.CrownTTL-time.Second { // before anybody could take it for silent
			t.Fatalf("held %v after %s, %v", held, silent, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := c.Say(t.Context(), statefile.Watcher{Who: "ann"}); !errors.Is(err, statefile.ErrCrownLost) {
		t.Errorf("the one that was killed says something: %v", err)
	}
	if err := c.Abdicate(t.Context()); err != nil {
		t.Log(err)
	}
}

func testLostSession(t *testing.T, s *server) {
	store := s.open("lost")
	l, err := store.Lock(t.Context(), statefile.LockInfo{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	s.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'`)
	select {
	case <-l.Context().Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the work goes on without a lock")
	}
	if cause := context.Cause(l.Context()); !errors.Is(cause, statefile.ErrLockLost) {
		t.Errorf("cause %v, want ErrLockLost", cause)
	}
	if _, err := l.Put(t.Context(), []byte("x"), ""); !errors.Is(err, statefile.ErrLockLost) {
		t.Errorf("Put: %v, want ErrLockLost", err)
	}
	if err := errors.Join(l.Append(t.Context(), []byte("x\n")), l.Sync(t.Context())); !errors.Is(err, statefile.ErrLockLost) {
		t.Errorf("Append and Sync: %v, want ErrLockLost", err)
	}
	next, err := store.Lock(t.Context(), statefile.LockInfo{ID: "b"})
	if err != nil {
		t.Fatalf("the next one: %v", err)
	}
	if next.Fence() <= l.Fence() {
		t.Errorf("fencing number %d after %d", next.Fence(), l.Fence())
	}
	if err := next.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

// What was synced is there after the server died and came back, the lock is not.
func testRestart(t *testing.T, s *server) {
	store := s.open("restart")
	l, err := store.Lock(t.Context(), statefile.LockInfo{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Put(t.Context(), []byte("one"), ""); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Append(t.Context(), []byte("line\n")), l.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if _, _, err := store.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "connect to postgres://") {
		t.Errorf("without a server: %v", err)
	}
	s.start()
	if _, err := l.Put(t.Context(), []byte("two"), "1"); !errors.Is(err, statefile.ErrLockLost) {
		t.Errorf("Put: %v, want ErrLockLost", err)
	}
	if data, _, err := store.Get(t.Context()); err != nil || string(data) != "one" {
		t.Errorf("Get: %q, %v", data, err)
	}
	if lines, err := store.Journal(t.Context()); err != nil || string(lines) != "line\n" {
		t.Errorf("Journal: %q, %v", lines, err)
	}
}

func testHistory(t *testing.T, s *server) {
	store := s.open("history")
	l, err := store.Lock(t.Context(), statefile.LockInfo{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	version := ""
	for i := range 6 {
		if version, err = l.Put(t.Context(), fmt.Appendf(nil, "%d", i), version); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := store.(statefile.Keeper).Backups(t.Context())
	if err != nil || len(list) != 3 || list[0].Name != `table "berth".history, version 5 of state "history"` || list[0].At.IsZero() {
		t.Fatalf("%+v, %v", list, err)
	}
	if data, err := list[0].Read(t.Context()); err != nil || string(data) != "4" {
		t.Errorf("%q, %v", data, err)
	}
	c, err := pgx.Connect(t.Context(), s.conn())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context()) //nolint:errcheck // a reader
	var rows int
	if err := c.QueryRow(t.Context(), `SELECT count(*) FROM berth.history h JOIN berth.states s ON s.id = h.state_id WHERE s.name = 'history'`).Scan(&rows); err != nil || rows != 3 {
		t.Errorf("%d documents of history, want 3: %v", rows, err)
	}
}

func TestConfiguration(t *testing.T) {
	for _, tt := range []struct {
		config map[string]string
		want   string // of the error
	}{
		{map[string]string{"conn_str": "postgres://db/berth"}, ""},
		{map[string]string{"conn_str": "postgres://ann:secret@db/berth"}, "holds a password"},
		{map[string]string{"conn_str": "postgres://db/berth?password=secret"}, "holds a password"},
		{map[string]string{"conn_str": "host=db password=secret"}, "holds a password"},
		{map[string]string{"conn_str": "host=db port=x"}, "conn_str: "},
		{map[string]string{"conn_str": "host=db", "schema_name": `a"b`}, `schema_name "a\"b" is no name`},
		{map[string]string{"conn_str": "host=db", "name": ""}, `name "" is no name`},
		{map[string]string{"conn_str": "host=db", "history": "0"}, "from 1 to 10000"},
	} {
		_, err := postgres.Open(tt.config, "")
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.config, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: the error shows the password: %v", tt.config, err)
		}
	}
}
