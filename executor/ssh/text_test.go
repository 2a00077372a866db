package ssh

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"berth.dev/berth/providers"
)

// A program that was cut off on its way must not run in part, wherever it was cut.
func TestCutOffProgramDoesNotRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text, err := program(providers.Command{Script: "touch \"$1/a\"\ntouch \"$1/b\"", Args: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ command, text string }{
		"session": {sessionCommand(1 << 20), sessionText("mark", text)},
		"shell":   {"sh", shellText("mark", text)},
	} {
		for n := 0; n < len(c.text); n += 7 {
			cmd := exec.Command("sh", "-c", c.command)
			cmd.Stdin = strings.NewReader(c.text[:n])
			_ = cmd.Run() // an error or not: nothing must have happened
			_, errA := os.Stat(filepath.Join(dir, "a"))
			_, errB := os.Stat(filepath.Join(dir, "b"))
			if (errA == nil) != (errB == nil) {
				t.Fatalf("%s: half of the program ran when it was cut after %d of %d bytes", name, n, len(c.text))
			}
			if errA == nil && n < len(c.text)-len(`</dev/null; printf '%s%d\n' mark "$?"; printf %s mark >&2`)-1 {
				t.Fatalf("%s: the program ran when it was cut after %d of %d bytes", name, n, len(c.text))
			}
		}
		cmd := exec.Command("sh", "-c", c.command)
		cmd.Stdin = strings.NewReader(c.text)
		if err := cmd.Run(); err != nil {
			t.Errorf("%s: the whole program: %v", name, err)
		}
		for _, f := range []string{"a", "b"} {
			if err := os.Remove(filepath.Join(dir, f)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestMarksAreFoundWhereverReadsEnd(t *testing.T) {
	t.Parallel()
	const stream = "junk MARK\x00one MAR MARKMARKtwo\nMARK3\nrest"
	for name, r := range map[string]io.Reader{
		"whole": strings.NewReader(stream), "byte by byte": iotest.OneByteReader(strings.NewReader(stream)),
		"halves": iotest.HalfReader(strings.NewReader(stream)), "end with data": iotest.DataErrReader(strings.NewReader(stream)),
	} {
		m := &markReader{r: r}
		for _, want := range []string{"junk ", "\x00one MAR ", "", "two\n"} {
			if got, err := m.upTo("MARK"); err != nil || string(got) != want {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
			}
		}
		if line, err := m.line(); err != nil || line != "3" {
			t.Errorf("%s: line %q, %v", name, line, err)
		}
		if got, err := m.upTo("MARK"); string(got) != "rest" || !errors.Is(err, io.EOF) {
			t.Errorf("%s: at the end: %q, %v", name, got, err)
		}
	}
}

func TestPumps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, flag, text string }{{"perl", "-e", pumpPerl}, {"python3", "-c", pumpPython}} {
		for _, network := range []string{"unix", "tcp"} {
			t.Run(c.name+"/"+network, func(t *testing.T) {
				t.Parallel()
				if _, err := exec.LookPath(c.name); err != nil {
					t.Skip(err)
				}
				address := filepath.Join(t.TempDir(), "s")
				if network == "tcp" {
					address = "127.0.0.1:0"
				}
				ln, err := net.Listen(network, address)
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				go func() { // echoes until the other side has nothing more
					if c, err := ln.Accept(); err == nil {
						_, _ = io.Copy(c, c)
						_ = c.Close()
					}
				}()
				data := bytes.Repeat([]byte("\x00\xff\n\r abc"), 400_000)
				cmd := exec.Command(c.name, c.flag, c.text, network, ln.Addr().String())
				cmd.Stdin = bytes.NewReader(data)
				out, err := cmd.Output()
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(out, append([]byte(pumpOpen), data...)) {
					t.Errorf("%d bytes came back of %d, or others", len(out), len(data)+len(pumpOpen))
				}
				gone := exec.Command(c.name, c.flag, c.text, "unix", "/no/such.sock")
				said, err := gone.CombinedOutput()
				if err == nil || !strings.Contains(string(said), "connect to /no/such.sock: No such file or directory") {
					t.Errorf("a missing socket: %q, %v", said, err)
				}
			})
		}
	}
}

func TestSudoRefusals(t *testing.T) {
	t.Parallel()
	sudo, root := &Host{sudo: true}, &Host{}
	for _, c := range []struct {
		host     *Host
		timedOut bool
		said     string
		cause    Cause
		want     string
	}{
		{sudo, false, "sudo: a password is required", NotRoot, "NOPASSWD"},
		{sudo, false, "sudo: sorry, you must have a tty to run sudo", NotRoot, "requiretty"},
		{sudo, false, "op is not in the sudoers file.", NotRoot, "may not use sudo"},
		{sudo, false, "sh: 1: exec: sudo: not found", NotRoot, "no sudo on the host"},
		{sudo, false, "bash: line 1: exec: sudo: command not found", NotRoot, "no sudo on the host"},
		{sudo, true, "", NotReached, "/etc/hosts"},
		{root, true, "", NotReached, ".bashrc"},
		{root, false, "This account is currently not available.", NotReached, "not available"},
		{root, false, "", NotReached, "authorized_keys"},
	} {
		var ce *ConnectError
		if err := c.host.shellRefused(c.timedOut, c.said, io.EOF); !errors.As(err, &ce) || ce.Cause != c.cause || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v", c.said, err)
		}
	}
}

type fakeConn struct{ ended chan struct{} }

func (c *fakeConn) lives() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}
func (c *fakeConn) close() { close(c.ended) }

func TestSlotTriesAgainEverMoreSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlot[*fakeConn]()
		tries := 0
		fail := func() (*fakeConn, error) { tries++; return nil, io.ErrUnexpectedEOF }
		for range 300 { // thirty seconds of asking
			if _, err := s.get(t.Context(), fail); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if tries != 9 { // at 0, 0.5, 1.5, 3.5, 7.5 and then every 5 s
			t.Errorf("%d tries", tries)
		}
		time.Sleep(lastPause)
		conn := &fakeConn{ended: make(chan struct{})}
		if got, err := s.get(t.Context(), func() (*fakeConn, error) { return conn, nil }); got != conn || err != nil {
			t.Errorf("got %v, %v", got, err)
		}
		conn.close()
		tries = 0
		if _, err := s.get(t.Context(), fail); err == nil || tries != 1 {
			t.Errorf("after the connection ended: %v, %d tries", err, tries)
		}
	})
}

func TestLastLines(t *testing.T) {
	t.Parallel()
	if got := lastLines([]byte("1\n2\n3\r\n4\n5\n6\n\n")); got != "2; 3; 4; 5; 6" {
		t.Errorf("got %q", got)
	}
	if got := lastLines([]byte(strings.Repeat("é", 5000))); len(got) > 1<<10 || !strings.HasSuffix(got, "é") {
		t.Errorf("got %d bytes", len(got))
	}
}
