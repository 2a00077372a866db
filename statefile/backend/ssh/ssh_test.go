package ssh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth.dev/berth/api"
	executor "berth.dev/berth/executor/ssh"
	"berth.dev/berth/providers"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/servertest"
	"berth.dev/berth/statefile/backend/ssh"
	"berth.dev/berth/statefile/statetest"
)

// server is a real sshd of this machine, on loopback, with keys of its own.
type server struct {
	dir, key, hostKey string
	port              int
	process           *servertest.Process
}

func start(t *testing.T) *server {
	t.Helper()
	sshd := servertest.Find(t, "sshd", "openssh-server", "/usr/sbin")
	keygen := servertest.Find(t, "ssh-keygen", "openssh-client")
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &server{dir: t.TempDir(), port: servertest.FreePort(t)}
	s.key = filepath.Join(s.dir, "id")
	for _, path := range []string{s.key, filepath.Join(s.dir, "host")} {
		if out, err := exec.CommandContext(t.Context(), keygen, "-q", "-t", "ed25519", "-N", "", "-f", path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	public, err := os.ReadFile(filepath.Join(s.dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s.hostKey = strings.TrimSpace(string(public))
	s.run(t, sshd)
	return s
}

func (s *server) run(t *testing.T, sshd string) {
	t.Helper()
	cmd := exec.Command(sshd, "-D", "-e", "-f", "/dev/null", "-p", fmt.Sprint(s.port), "-h", filepath.Join(s.dir, "host"),
		"-o", "ListenAddress=127.0.0.1", "-o", "PidFile=none", "-o", "StrictModes=no", "-o", "AuthorizedKeysFile="+s.key+".pub", "-o", "UsePAM=no")
	cmd.WaitDelay = time.Second // its sessions keep its output open
	s.process = servertest.Start(t, cmd, func(ctx context.Context) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
		if err != nil {
			return err
		}
		return c.Close()
	})
}

type scripts struct{ host providers.Host }

func (s scripts) Run(ctx context.Context, script string, args []string, stdin io.Reader, stdout io.Writer) ([]byte, int, string, error) {
	out, err := s.host.Run(ctx, providers.Command{Script: script, Args: args, Stdin: stdin, Stdout: stdout})
	if exit, ok := errors.AsType[*providers.ExitError](err); ok {
		return out.Stdout, exit.Status, exit.Stderr, nil
	}
	return out.Stdout, 0, string(out.Stderr), err
}

// client is one process's way to the server.
type client struct {
	pool *executor.Pool
	s    *server
	cut  *cutter
}

func (s *server) client(t *testing.T) *client {
	t.Helper()
	cut := &cutter{}
	c := &client{executor.NewPool(executor.Options{AnyUser: true, Dial: cut.dial, KeepAlive: time.Second, DeadAfter: 8 * time.Second}), s, cut}
	t.Cleanup(func() { _ = c.pool.Close() })
	return c
}

func (c *client) open(t *testing.T, path string, more ...string) statefile.Store {
	t.Helper()
	config := map[string]string{"host": "127.0.0.1", "port": fmt.Sprint(c.s.port), "path": path, "identity_file": c.s.key, "host_key": c.s.hostKey, "ssh_config": "none", "lock_ttl": "12s"}
	if os.Geteuid() == 0 {
		config["user"] = "root"
	}
	for i := 0; i < len(more); i += 2 {
		config[more[i]] = more[i+1]
	}
	st, err := ssh.Open(config, func(ctx context.Context, n *api.Node) (ssh.Host, error) {
		h, err := c.pool.Host(ctx, n)
		if err != nil {
			return nil, err
		}
		return scripts{h}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := start(t)
	shared := s.client(t)
	newStore := func(t *testing.T) func() statefile.Store {
		path := filepath.Join(t.TempDir(), "a dir", "it's \"berth\".state")
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		return func() statefile.Store { return shared.open(t, path, "lock_ttl", "30s") }
	}
	t.Run("contract", func(t *testing.T) { statetest.Run(t, newStore) })
	t.Run("watchdogs", func(t *testing.T) { statetest.RunCrown(t, newStore) })
	for name, test := range map[string]func(*testing.T, *server){
		"files": testFiles, "sleeping holder": testSleepingHolder, "cut off": testCutOff, "killed session": testKilledSession, "force-unlock": testForceUnlock,
		"removed lock": testRemovedLock,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

func lock(t *testing.T, s statefile.Store, id string) statefile.Lease {
	t.Helper()
	l, err := s.Lock(t.Context(), statefile.LockInfo{ID: id, Who: "ann@ws1", Operation: "apply"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came to this: " + what)
		}
	}
}

// free waits until another gets the lock, and returns how long that took.
func free(t *testing.T, s statefile.Store) time.Duration {
	t.Helper()
	began := time.Now()
	eventually(t, "the lock is free", func() bool {
		l, err := s.Lock(t.Context(), statefile.LockInfo{ID: "next"})
		var locked *statefile.LockedError
		if err != nil && !errors.As(err, &locked) {
			t.Logf("Lock: %v", err)
		}
		if err != nil {
			return false
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		return true
	})
	return time.Since(began)
}

// refused makes sure that a lease which was lost writes nothing.
func refused(t *testing.T, l statefile.Lease) {
	t.Helper()
	select {
	case <-l.Context().Done():
	case <-time.After(time.Minute):
		t.Fatal("the lock's context outlives the lock")
	}
	if cause := context.Cause(l.Context()); !errors.Is(cause, statefile.ErrLockLost) {
		t.Errorf("the context ended with %v", cause)
	}
	if _, err := l.Put(t.Context(), []byte("late"), ""); !errors.Is(err, statefile.ErrLockLost) {
		t.Errorf("Put without the lock: %v", err)
	}
	if err := l.Append(t.Context(), []byte("late\n")); !errors.Is(err, statefile.ErrLockLost) {
		t.Errorf("Append without the lock: %v", err)
	}
	if err := l.Unlock(t.Context()); err != nil {
		t.Logf("Unlock: %v", err)
	}
}

// testFiles looks at what lies on the machine: nobody else may read it.
func testFiles(t *testing.T, s *server) {
	path := filepath.Join(t.TempDir(), "berth.state")
	store := s.client(t).open(t, path)
	l := lock(t, store, "a")
	version, err := l.Put(t.Context(), []byte("one"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Put(t.Context(), []byte("two"), version); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Append(t.Context(), []byte("line\n")), l.Unlock(t.Context())); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 4 { // document, backup, journal, lock
		t.Errorf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v)", e.Name(), info.Mode(), err)
		}
	}
	missing := s.client(t).open(t, filepath.Join(t.TempDir(), "none", "berth.state"))
	if _, err := missing.Lock(t.Context(), statefile.LockInfo{}); err == nil || !strings.Contains(err.Error(), "there is no directory") {
		t.Errorf("a missing directory: %v", err)
	}
}

// testCutOff has the network between holder and machine swallow everything: the lock is free after its time, and the holder
// knows before.
func testCutOff(t *testing.T, s *server) {
	path := filepath.Join(t.TempDir(), "berth.state")
	c := s.client(t)
	l := lock(t, c.open(t, path), "a")
	if err := errors.Join(l.Append(t.Context(), []byte("line\n")), l.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	c.cut.freeze()
	var lost time.Time
	done := make(chan struct{})
	go func() {
		<-l.Context().Done()
		lost = time.Now()
		close(done)
	}()
	other := s.client(t).open(t, path)
	if took := free(t, other); took > 90*time.Second {
		t.Errorf("the lock was free after %s, want about 12 s", took)
	}
	freed := time.Now()
	<-done
	if lost.After(freed) {
		t.Errorf("the holder noticed %s after another could have the lock", lost.Sub(freed))
	}
	refused(t, l)
	if lines, err := other.Journal(t.Context()); err != nil || string(lines) != "line\n" {
		t.Errorf("journal %q, %v", lines, err)
	}
}

// testSleepingHolder stops the holder's traffic, lets another run go by, and wakes it up.
func testSleepingHolder(t *testing.T, s *server) {
	path := filepath.Join(t.TempDir(), "berth.state")
	c := s.client(t)
	l := lock(t, c.open(t, path), "a")
	c.cut.freeze()
	other := s.client(t).open(t, path)
	free(t, other)
	next := lock(t, other, "b")
	version, err := next.Put(t.Context(), []byte("next"), "")
	if err != nil || version == "" {
		t.Fatal(err)
	}
	c.cut.thaw()
	refused(t, l)
	if data, _, err := other.Get(t.Context()); err != nil || string(data) != "next" {
		t.Errorf("%q, %v", data, err)
	}
	if next.Fence() <= l.Fence() {
		t.Errorf("fence %d after %d", next.Fence(), l.Fence())
	}
	if err := next.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

// testKilledSession kills the script on the machine.
func testKilledSession(t *testing.T, s *server) {
	path := filepath.Join(t.TempDir(), "berth.state")
	l := lock(t, s.client(t).open(t, path), "a")
	kill(t, path)
	refused(t, l)
	if took := free(t, s.client(t).open(t, path)); took > time.Minute {
		t.Errorf("the lock was free after %s", took)
	}
}

// kill kills the process that the lock's file names.
func kill(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(strings.Split(string(text), "\n")[1], &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func testForceUnlock(t *testing.T, s *server) {
	path := filepath.Join(t.TempDir(), "berth.state")
	l := lock(t, s.client(t).open(t, path), "a")
	other := s.client(t).open(t, path).(statefile.Unlocker)
	if err := other.ForceUnlock(t.Context(), "b"); err == nil || !strings.Contains(err.Error(), "held by ann@ws1") {
		t.Errorf("another ID: %v", err)
	}
	if err := other.ForceUnlock(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	refused(t, l)
	free(t, s.client(t).open(t, path))
}

func testRemovedLock(t *testing.T, s *server) {
	path := filepath.Join(t.TempDir(), "berth.state")
	l := lock(t, s.client(t).open(t, path), "a")
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	refused(t, l) // the next sign of life finds out
}

// TestRestart stops the server in the middle of a run, with all its sessions, and starts it again.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := start(t)
	path := filepath.Join(t.TempDir(), "berth.state")
	store := s.client(t).open(t, path, "lock_ttl", "1m") // what a busy machine takes for it does not matter here
	f, err := statefile.Open(t.Context(), store, statefile.LockInfo{}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Begin(statetest.Step(0)), f.Done(statetest.Step(0), statetest.Delta(0))); err != nil {
		t.Fatal(err)
	}
	s.process.Stop()
	kill(t, path)
	if err := f.Done(statetest.Step(1), statetest.Delta(1)); err == nil {
		t.Error("a record without a server")
	}
	if err := f.Close(t.Context()); err == nil {
		t.Error("closed without a server")
	}
	s.run(t, servertest.Find(t, "sshd", "openssh-server", "/usr/sbin"))
	var got *api.State
	eventually(t, "the server answers again", func() bool {
		got, err = statefile.Read(t.Context(), s.client(t).open(t, path))
		return err == nil
	})
	if len(got.Pods) != 1 {
		t.Errorf("%d pods", len(got.Pods))
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	connect := func(context.Context, *api.Node) (ssh.Host, error) { return nil, errors.New("no") }
	for _, tt := range []struct{ key, value, want string }{
		{"path", "/srv/x.state", ""}, {"path", "~/x.state", ""}, {"path", "x.state", "not absolute"}, {"path", "/srv/", "names no file"}, {"path", "", "names no file"},
		{"host", "", "no name of a machine"}, {"host", "a b", "no name of a machine"}, {"host", "local", "no name of a machine"},
		{"port", "0", "no port"}, {"lock_ttl", "1s", "from 4s"}, {"lock_ttl", "1m", ""},
	} {
		config := map[string]string{"host": "files", "path": "/srv/x.state", tt.key: tt.value}
		_, err := ssh.Open(config, connect)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s = %q: %v, want %q", tt.key, tt.value, err, tt.want)
		}
	}
}
