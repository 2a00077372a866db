package ssh_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers"
)

func TestMain(m *testing.M) { labtest.Main(m, lab.Config{Nodes: 2, User: "op"}) }

// login is a way to be root on a host of the lab.
type login struct{ name, user, become string }

var logins = []login{{"root", "root", ""}, {"sudo", "op", "sudo"}}

func labNode(l *lab.Lab, host int, as login) *api.Node {
	n := l.Nodes()[host]
	return &api.Node{Name: n.Name, Address: n.Address, SSH: api.SSH{
		User: as.user, Become: as.become, IdentityFile: l.Identity(), KnownHostsFile: l.KnownHosts(), ConfigFile: "none",
	}}
}

// eachLogin runs a test as root and by sudo, on real hosts, and locally where the machine's user is root.
func eachLogin(t *testing.T, test func(t *testing.T, h providers.Host)) {
	l := labtest.Shared(t)
	p := newPool(t, ssh.Options{})
	nodes := map[string]*api.Node{"local": {Name: "here", Address: api.LocalAddress}}
	names := []string{"local"}
	for _, as := range logins {
		nodes[as.name] = labNode(l, 0, as)
		names = append(names, as.name)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := p.Host(t.Context(), nodes[name])
			if err != nil {
				t.Fatal(err)
			}
			test(t, h)
		})
	}
}

func newPool(t *testing.T, o ssh.Options) *ssh.Pool {
	t.Helper()
	p := ssh.NewPool(o)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func run(t *testing.T, h providers.Host, script string, args ...string) string {
	t.Helper()
	out, err := h.Run(t.Context(), providers.Command{Script: script, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	return string(out.Stdout)
}

func TestRunIsRoot(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		if got := run(t, h, `id -u; umask; pwd; echo "$LC_ALL"; command -v iptables`); got != "0\n0022\n/\nC\n/usr/sbin/iptables\n" {
			t.Errorf("surroundings of a script: %q", got)
		}
	})
}

func TestArgumentsArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	args := []string{"", "a b", "it's", `"$(touch /tmp/owned)" \ ` + "`id`", "-n", "line\nline\n", "tab\tü\x01\xff", "'", "!x", "*"}
	want := strings.Join(args, "|") + "|"
	eachLogin(t, func(t *testing.T, h providers.Host) {
		script := `for a; do printf '%s|' "$a"; done`
		if got := run(t, h, script, args...); got != want {
			t.Errorf("in the shell: got %q, want %q", got, want)
		}
		var out bytes.Buffer
		if _, err := h.Run(t.Context(), providers.Command{Script: script, Args: args, Stdout: &out}); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("in a session: got %q, want %q", out.String(), want)
		}
		if got := run(t, h, `cat; test -e /tmp/owned && echo owned; true`); got != "" {
			t.Errorf("an argument was executed, or standard input is not empty: %q", got)
		}
		if _, err := h.Run(t.Context(), providers.Command{Script: "true", Args: []string{"a\x00b"}}); err == nil {
			t.Error("an argument with a NUL byte was accepted")
		}
	})
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		for _, c := range []struct {
			name, script string
			status       int
			stderr       string
		}{
			{"exit", "echo out; echo why >&2; exit 3", 3, "why"},
			{"set -e", "set -e; false; echo not here", 1, ""},
			{"syntax error", "if true; then", 2, "Syntax error"},
			{"unset variable", `set -u; echo "$nothing"`, 2, "nothing"},
			{"killed", "kill -9 $(exec sh -c 'echo $PPID')", 137, ""},
		} {
			for _, stream := range []bool{false, true} {
				cmd := providers.Command{Script: c.script}
				if stream {
					cmd.Stdin = strings.NewReader("")
				}
				if c.name == "killed" && !stream {
					continue // that would kill the standing shell, which is tested below
				}
				_, err := h.Run(t.Context(), cmd)
				var exit *providers.ExitError
				if !errors.As(err, &exit) || exit.Status != c.status || !strings.Contains(exit.Stderr, c.stderr) {
					t.Errorf("%s (streams: %v): got %v, want status %d and %q", c.name, stream, err, c.status, c.stderr)
				}
			}
		}
		if got := run(t, h, "echo still here"); got != "still here\n" {
			t.Errorf("after failed scripts: %q", got)
		}
	})
}

func TestShellThatWasKilledIsReplaced(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		if out, err := h.Run(t.Context(), providers.Command{Script: "kill -9 $$"}); err == nil {
			t.Errorf("killing the standing shell gave no error but %q", out)
		} else if errors.Is(err, providers.ErrUnreachable) {
			t.Errorf("the host is reachable: %v", err)
		}
		if got := run(t, h, "echo again"); got != "again\n" {
			t.Errorf("after the shell was killed: %q", got)
		}
	})
}

func TestOutputIsBinarySafe(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		all := make([]byte, 256)
		var octal strings.Builder
		for i := range all {
			all[i] = byte(i)
			fmt.Fprintf(&octal, `\%03o`, i)
		}
		script := "printf '" + octal.String() + "'; printf '" + octal.String() + "' >&2"
		out, err := h.Run(t.Context(), providers.Command{Script: script})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Stdout, all) || !bytes.Equal(out.Stderr, all) {
			t.Errorf("got stdout %x stderr %x", out.Stdout, out.Stderr)
		}
	})
}

func TestBigOutputsOnBothStreams(t *testing.T) {
	t.Parallel()
	const size = 12 << 20
	eachLogin(t, func(t *testing.T, h providers.Host) {
		script := `head -c "$1" /dev/zero >&2; head -c "$1" /dev/zero; head -c "$1" /dev/zero >&2`
		out, err := h.Run(t.Context(), providers.Command{Script: script, Args: []string{strconv.Itoa(size)}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Stdout) != size || len(out.Stderr) != 2*size {
			t.Errorf("got %d bytes of output and %d of errors", len(out.Stdout), len(out.Stderr))
		}
	})
}

func TestTooMuchOutputIsRefused(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		_, err := h.Run(t.Context(), providers.Command{Script: "head -c 80000000 /dev/zero"})
		if err == nil || !strings.Contains(err.Error(), "more than 64 MiB") {
			t.Errorf("got %v", err)
		}
		if got := run(t, h, "echo fine"); got != "fine\n" {
			t.Errorf("afterwards: %q", got)
		}
	})
}

func TestBinaryInput(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("\x00\x01'\n\xff\r\x04\x1a$(id)"), 500_000)
	want := fmt.Sprintf("%x  -\n", sha256.Sum256(data))
	eachLogin(t, func(t *testing.T, h providers.Host) {
		out, err := h.Run(t.Context(), providers.Command{Script: "sha256sum", Stdin: bytes.NewReader(data)})
		if err != nil {
			t.Fatal(err)
		}
		if string(out.Stdout) != want {
			t.Errorf("got %q, want %q", out.Stdout, want)
		}
		var back bytes.Buffer
		if _, err := h.Run(t.Context(), providers.Command{Script: "cat", Stdin: bytes.NewReader(data), Stdout: &back}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Bytes(), data) {
			t.Errorf("%d bytes came back of %d, or others", back.Len(), len(data))
		}
	})
}

func TestInputThatIsNotReadIsNoError(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		endless := io.MultiReader(strings.NewReader("one\n"), bytes.NewReader(make([]byte, 8<<20)))
		out, err := h.Run(t.Context(), providers.Command{Script: "read -r a; echo $a", Stdin: endless})
		if err != nil || string(out.Stdout) != "one\n" {
			t.Errorf("got %q, %v", out.Stdout, err)
		}
	})
}

func TestFailingInputDoesNotLookWhole(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		dir := strings.TrimSpace(run(t, h, "mktemp -d"))
		t.Cleanup(func() {
			_, _ = h.Run(context.WithoutCancel(t.Context()), providers.Command{Script: `rm -r "$1"`, Args: []string{dir}})
		})
		broken := io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), failingReader{})
		_, err := h.Run(t.Context(), providers.Command{Script: `cat >"$1/new" && mv "$1/new" "$1/done"`, Args: []string{dir}, Stdin: broken})
		if !errors.Is(err, errDisk) {
			t.Errorf("got %v, want the input's error", err)
		}
		if got := run(t, h, `ls "$1"`, dir); strings.Contains(got, "done") {
			t.Error("the script took a broken input for a whole one")
		}
	})
}

var errDisk = errors.New("read error on the disk")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errDisk }

func TestReceiverThatFailsEndsTheScript(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		_, err := h.Run(t.Context(), providers.Command{Script: "while :; do echo x; sleep 0.01; done", Stdout: failingWriter{}})
		if !errors.Is(err, errDisk) {
			t.Errorf("got %v, want the receiver's error", err)
		}
	})
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errDisk }

func TestStreamingOutputComesAtOnce(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, w := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			_, err := h.Run(ctx, providers.Command{Script: "echo first; exec sleep 1000", Stdout: w})
			_ = w.CloseWithError(io.EOF)
			ended <- err
		}()
		line := make([]byte, 6)
		if _, err := io.ReadFull(r, line); err != nil || string(line) != "first\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
	})
}

// A cancelled script must not go on on the host, nor anything that it started.
func TestCancelEndsTheScript(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		for i, cmd := range []providers.Command{{}, {Stdin: strings.NewReader("x")}, {Stdout: io.Discard}} {
			name := fmt.Sprintf("3%d%s", i, strconv.FormatInt(time.Now().UnixNano(), 10)[8:])
			cmd.Script = `trap '' PIPE; (sleep "$1"; true); true`
			cmd.Args = []string{name}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := h.Run(ctx, cmd)
				ended <- err
			}()
			waitFor(t, func() bool { return sleepers(t, h, name) == "1\n" })
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("case %d: got %v, want the context's error", i, err)
			}
			waitFor(t, func() bool { return sleepers(t, h, name) == "0\n" })
		}
		if got := run(t, h, "echo next"); got != "next\n" {
			t.Errorf("after cancelled scripts: %q", got)
		}
	})
}

func sleepers(t *testing.T, h providers.Host, name string) string {
	return run(t, h, `pgrep -c -x -f "sleep $1" || true`, name)
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about within a minute")
		}
	}
}

func TestConcurrentCommands(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				want := fmt.Sprintf("%d-%s\n", i, strings.Repeat("x", i*20))
				cmd := providers.Command{Script: `printf '%s\n' "$1"`, Args: []string{strings.TrimSpace(want)}}
				if i%10 == 0 {
					cmd = providers.Command{Script: "cat", Stdin: strings.NewReader(want)}
				}
				out, err := h.Run(t.Context(), cmd)
				if err != nil || string(out.Stdout) != want {
					t.Errorf("command %d: got %q, %v", i, out.Stdout, err)
				}
			})
		}
		all.Wait()
	})
}

func TestLongScriptDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = h.Run(ctx, providers.Command{Script: "sleep 1000"})
		}()
		began := time.Now()
		for range 5 {
			run(t, h, "true")
		}
		if took := time.Since(began); took > time.Minute { // the long one takes 1000 s
			t.Errorf("five short scripts took %s beside a long one", took)
		}
		cancel()
		<-ended
	})
}

func TestDialUnixAsRoot(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t)
	p := newPool(t, ssh.Options{})
	for _, as := range logins {
		t.Run(as.name, func(t *testing.T) {
			t.Parallel()
			h, err := p.Host(t.Context(), labNode(l, 0, as))
			if err != nil {
				t.Fatal(err)
			}
			c, err := h.Dial(t.Context(), "unix", "/run/containerd/containerd.sock")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			// HTTP/2's preface is answered with a SETTINGS frame: length, type 4.
			if _, err := c.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
				t.Fatal(err)
			}
			if err := c.SetDeadline(time.Now()); err != nil {
				t.Errorf("a deadline is refused: %v", err)
			}
			frame := make([]byte, 9)
			if _, err := io.ReadFull(c, frame); err != nil || frame[3] != 4 {
				t.Errorf("containerd answered %x, %v", frame, err)
			}
			_, err = h.Dial(t.Context(), "unix", "/run/no-such.sock")
			if err == nil || !strings.Contains(err.Error(), "No such file or directory") || errors.Is(err, providers.ErrUnreachable) {
				t.Errorf("a missing socket: %v", err)
			}
		})
	}
}

func TestDialTCPAndListen(t *testing.T) {
	t.Parallel()
	eachLogin(t, func(t *testing.T, h providers.Host) {
		ln, err := h.Listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		echoed := make(chan struct{})
		go func() {
			defer close(echoed)
			c, err := ln.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := io.Copy(c, c); err != nil {
				t.Error(err)
			}
		}()
		c, err := h.Dial(t.Context(), "tcp", ln.Addr().String()) // from the host to the host, and back to us
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "ping"); err != nil {
			t.Fatal(err)
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != "ping" {
			t.Errorf("got %q, %v", got, err)
		}
		<-echoed
		if _, err := h.Dial(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
			t.Error("dialling a closed port gave no error")
		} else if strings.Contains(err.Error(), "perl") || errors.Is(err, providers.ErrUnreachable) {
			t.Errorf("dialling a closed port: %v", err)
		}
	})
}

func TestLostHostFailsEverythingAndComesBack(t *testing.T) {
	l := labtest.Shared(t)
	n := l.Nodes()[1]
	p := newPool(t, ssh.Options{KeepAlive: 500 * time.Millisecond, DeadAfter: 6 * time.Second})
	node := labNode(l, 1, logins[0])
	h, err := p.Host(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	var made closer
	if _, err := h.Resource("x", func() (any, error) { return &made, nil }); err != nil {
		t.Fatal(err)
	}
	conn, err := h.Dial(t.Context(), "tcp", "127.0.0.1:22")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	for _, out := range []io.Writer{nil, io.Discard} {
		go func() {
			_, err := h.Run(t.Context(), providers.Command{Script: "sleep 1000", Stdout: out})
			ended <- err
		}()
	}
	waitFor(t, func() bool { return sleepers(t, h, "1000") == "2\n" })
	if err := n.Unplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 2 {
		if err := <-ended; !errors.Is(err, providers.ErrUnreachable) {
			t.Errorf("a pending script ended with %v", err)
		}
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %s to notice", took)
	}
	if _, err := io.ReadAll(conn); err == nil {
		t.Log("the forwarded connection ended as if by the other side") // the channel's EOF
	}
	waitFor(t, made.isClosed)
	if _, err := h.Resource("y", func() (any, error) { return nil, nil }); !errors.Is(err, providers.ErrUnreachable) {
		t.Errorf("a resource of a dead connection: %v", err)
	}
	if err := n.Plug(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		h, err := p.Host(t.Context(), node)
		return err == nil && run(t, h, "echo back") == "back\n"
	})
}

type closer struct {
	mu     sync.Mutex
	closed bool
}

func (c *closer) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *closer) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func TestJumpHost(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t)
	p := newPool(t, ssh.Options{})
	node := labNode(l, 0, logins[0])
	node.SSH.ProxyJump = "op@" + l.Nodes()[0].Address
	h, err := p.Host(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, h, `echo "$SSH_CONNECTION" | cut -d' ' -f1`); strings.TrimSpace(got) != l.Nodes()[0].Address {
		t.Errorf("the connection comes from %q, not from the jump host", got)
	}
}
