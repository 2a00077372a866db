package ssh_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers"
)

// sshd starts another real sshd on the lab's first host, with settings of its own, and returns the host as a node.
func sshd(t *testing.T, l *lab.Lab, port int, as login, settings ...string) *api.Node {
	t.Helper()
	argv := []string{"/usr/sbin/sshd", "-D", "-p", fmt.Sprint(port), "-o", "PidFile=none"}
	for _, s := range settings {
		argv = append(argv, "-o", s)
	}
	cmd, err := l.Nodes()[0].Command(t.Context(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	startUntilEnd(t, cmd)
	n := labNode(l, 0, as)
	n.SSH.Port = port
	n.SSH.KnownHostsFile = ""
	n.SSH.HostKey = hostKey(t, l, 0)
	return n
}

func startUntilEnd(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func hostKey(t *testing.T, l *lab.Lab, host int) string {
	t.Helper()
	known, err := os.ReadFile(l.KnownHosts())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(known)) {
		if name, key, ok := strings.Cut(strings.TrimSpace(line), " "); ok && slices.Contains(strings.Split(name, ","), l.Nodes()[host].Address) {
			return key
		}
	}
	t.Fatalf("%s has no line for %s", l.KnownHosts(), l.Nodes()[host].Address)
	return ""
}

// connect waits until the node's sshd is up.
func connect(t *testing.T, p *ssh.Pool, n *api.Node) providers.Host {
	t.Helper()
	var h providers.Host
	waitFor(t, func() bool {
		var err error
		h, err = p.Host(t.Context(), n)
		var ce *ssh.ConnectError
		if errors.As(err, &ce) && ce.Permanent() {
			t.Fatal(err)
		}
		return err == nil
	})
	return h
}

func TestServerThatForwardsNothing(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t)
	for i, as := range logins {
		t.Run(as.name, func(t *testing.T) {
			t.Parallel()
			h := connect(t, newPool(t, ssh.Options{}), sshd(t, l, 2210+i, as, "AllowTcpForwarding=no"))
			if _, err := h.Listen(t.Context(), "127.0.0.1:0"); !errors.Is(err, providers.ErrForwardingRefused) {
				t.Errorf("listen: %v", err)
			}
			for network, address := range map[string]string{"unix": "/run/containerd/containerd.sock", "tcp": "127.0.0.1:22"} {
				c, err := h.Dial(t.Context(), network, address)
				if err != nil {
					t.Errorf("dial %s: %v", network, err)
					continue
				}
				if network == "tcp" {
					if _, err := io.WriteString(c, "SSH-2.0-x\r\n"); err != nil {
						t.Error(err)
					}
					hello := make([]byte, 4)
					if _, err := io.ReadFull(c, hello); err != nil || string(hello) != "SSH-" {
						t.Errorf("got %q, %v", hello, err)
					}
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
			_, err := h.Dial(t.Context(), "tcp", "127.0.0.1:1")
			if err == nil || !strings.Contains(err.Error(), "Connection refused") {
				t.Errorf("dial a closed port: %v", err)
			}
			waitFor(t, func() bool { return run(t, h, `pgrep -c -f "syswrite\(STDOUT" || true`) == "0\n" }) // nothing stays behind
		})
	}
}

func TestServerWithFewSessions(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t)
	h := connect(t, newPool(t, ssh.Options{}), sshd(t, l, 2220, logins[0], "MaxSessions=3"))
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			out, err := h.Run(t.Context(), providers.Command{Script: "cat", Stdin: strings.NewReader(fmt.Sprint(i))})
			if err != nil || string(out.Stdout) != fmt.Sprint(i) {
				t.Errorf("command %d: %q, %v", i, out.Stdout, err)
			}
		})
	}
	all.Wait()
	h = connect(t, newPool(t, ssh.Options{}), sshd(t, l, 2221, logins[0], "MaxSessions=1"))
	if _, err := h.Run(t.Context(), providers.Command{Script: "cat", Stdin: strings.NewReader("x")}); err == nil || !strings.Contains(err.Error(), "MaxSessions") {
		t.Errorf("got %v", err)
	}
}

func TestManyPoolsAtOnce(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t)
	n := sshd(t, l, 2230, logins[0], "MaxStartups=2:50:4")
	connect(t, newPool(t, ssh.Options{}), n)
	p := newPool(t, ssh.Options{})
	var all sync.WaitGroup
	for i := range 8 { // eight names of one host: eight connections, of which the server refuses some at first
		all.Go(func() {
			one := *n
			one.Name = fmt.Sprintf("n%d", i)
			waitFor(t, func() bool { _, err := p.Host(t.Context(), &one); return err == nil })
		})
	}
	all.Wait()
}

// accounts with start-up files and sudo rules as one meets them.
func TestAccounts(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t)
	host := l.Nodes()[0]
	add := func(t *testing.T, name, shell, sudoers, bashrc string) *api.Node {
		t.Helper()
		_, err := host.Exec(t.Context(), "sh", "-c", `set -e
			useradd -m -s "$2" "$1"
			cp -r /root/.ssh "/home/$1/.ssh"
			printf '%s\n' "$4" >"/home/$1/.bashrc"
			cp "/home/$1/.bashrc" "/home/$1/.profile"
			chown -R "$1:" "/home/$1"
			if [ -n "$3" ]; then printf '%s\n' "$3" >"/etc/sudoers.d/$1"; chmod 440 "/etc/sudoers.d/$1"; fi
		`, "sh", name, shell, sudoers, bashrc)
		if err != nil {
			t.Fatal(err)
		}
		return labNode(l, 0, login{name, name, "sudo"})
	}
	p := newPool(t, ssh.Options{})

	t.Run("noisy start-up files", func(t *testing.T) {
		t.Parallel()
		n := add(t, "noisy", "/bin/bash", "noisy ALL=(ALL:ALL) NOPASSWD: ALL\nDefaults:noisy use_pty", "echo noise; echo noise >&2; sleep 0.1; printf noise; set -o noclobber")
		h, err := p.Host(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, h, "id -u"); got != "0\n" {
			t.Errorf("in the shell: %q", got)
		}
		data := bytes.Repeat([]byte("\x00\r\n\x04\xff"), 100_000)
		var back bytes.Buffer
		out, err := h.Run(t.Context(), providers.Command{Script: "cat; echo said >&2", Stdin: bytes.NewReader(data), Stdout: &back})
		if err != nil || !bytes.Equal(back.Bytes(), data) || string(out.Stderr) != "said\n" {
			t.Errorf("in a session: %d bytes of %d, errors %q, %v", back.Len(), len(data), out.Stderr, err)
		}
		c, err := h.Dial(t.Context(), "unix", "/run/containerd/containerd.sock")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("may not use sudo", func(t *testing.T) {
		t.Parallel()
		refusal(t, p, add(t, "nosudo", "/bin/sh", "", ""), ssh.NotRoot, "sudoers", "NOPASSWD")
	})
	t.Run("sudo with a password", func(t *testing.T) {
		t.Parallel()
		refusal(t, p, add(t, "withpw", "/bin/sh", "withpw ALL=(ALL:ALL) ALL", ""), ssh.NotRoot, "password", "NOPASSWD")
	})
	t.Run("sudo to one command", func(t *testing.T) {
		t.Parallel()
		refusal(t, p, add(t, "onecmd", "/bin/sh", "onecmd ALL=(ALL:ALL) NOPASSWD: /bin/true", ""), ssh.NotRoot, "NOPASSWD")
	})
	t.Run("no sudo asked for", func(t *testing.T) {
		t.Parallel()
		n := add(t, "plain", "/bin/sh", "", "")
		n.SSH.Become = ""
		refusal(t, p, n, ssh.NotRoot, `become = "sudo"`)
	})
	t.Run("no shell", func(t *testing.T) {
		t.Parallel()
		n := add(t, "noshell", "/usr/sbin/nologin", "", "")
		refusal(t, p, n, ssh.NotReached, "could not start sh", "not available")
	})
}

func TestServerWithoutTheUser(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t)
	refusal(t, newPool(t, ssh.Options{}), labNode(l, 0, login{"x", "nobody-here", ""}), ssh.LoginRefused, "nobody-here")
}

func BenchmarkHost(b *testing.B) {
	l := labtest.Shared(b)
	for _, as := range logins {
		n := labNode(l, 0, as)
		b.Run(as.name+"/connect", func(b *testing.B) {
			for b.Loop() {
				p := ssh.NewPool(ssh.Options{})
				if _, err := p.Host(b.Context(), n); err != nil {
					b.Fatal(err)
				}
				if err := p.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
		p := ssh.NewPool(ssh.Options{})
		h, err := p.Host(b.Context(), n)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(as.name+"/run", func(b *testing.B) {
			for b.Loop() {
				if _, err := h.Run(b.Context(), providers.Command{Script: ":"}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(as.name+"/session", func(b *testing.B) {
			for b.Loop() {
				if _, err := h.Run(b.Context(), providers.Command{Script: ":", Stdin: strings.NewReader("")}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(as.name+"/dial", func(b *testing.B) {
			for b.Loop() {
				c, err := h.Dial(b.Context(), "unix", "/run/containerd/containerd.sock")
				if err != nil {
					b.Fatal(err)
				}
				if err := c.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(as.name+"/push", func(b *testing.B) {
			data := make([]byte, 50<<20)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := h.Run(b.Context(), providers.Command{Script: "cat >/dev/null", Stdin: bytes.NewReader(data)}); err != nil {
					b.Fatal(err)
				}
			}
		})
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
