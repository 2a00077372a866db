package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"berth.dev/berth/api"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime"
)

// farNodes are two hosts, of which the second is reached through the first alone.
func (s *story) farNodes() {
	s.t.Helper()
	nodes := s.lab.Nodes()
	const node = "node %q {\n  address = %q\n  labels  = { where = %q }\n\n  ssh {\n    user        = \"root\"\n    config_file = %q\n%s  }\n}\n"
	s.write("inventory.hcl", fmt.Sprintf(node, "n1", nodes[0].Address, "near", s.lab.SSHConfig(), "")+
		fmt.Sprintf(node, "n2", nodes[1].Address, "far", s.lab.SSHConfig(), "    proxy_jump  = \"n1\"\n"))
}

// tools declares an image with a shell, GNU tar and a few others of this machine's programs, with the libraries that they need.
func (s *story) tools() {
	s.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "image \"tools\" {\n  base = \"scratch\"\n")
	seen := map[string]bool{}
	add := func(to, from string) {
		if !seen[to] {
			seen[to] = true
			fmt.Fprintf(&b, "\n  copy %q {\n    from = %q\n  }\n", to, from)
		}
	}
	for _, name := range []string{"dash", "tar", "stty", "test", "cat"} {
		program, err := exec.LookPath(name)
		if err != nil {
			s.t.Fatal(err)
		}
		add("/bin/"+strings.Replace(name, "dash", "sh", 1), program)
		out, err := exec.Command("ldd", program).Output()
		if err != nil {
			s.t.Fatalf("ldd %s: %v", program, err)
		}
		for word := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(word, "/") {
				add(word, word)
			}
		}
	}
	add("/app", programs.app)
	b.WriteString("}\n")
	s.write("tools.hcl", b.String())
}

const streams = `
workload "deployment" "srv" {
  labels        = { app = "srv" }
  node_selector = { where = "far" }

  container "give" {
    image = image.app.ref
    args  = ["give", "127.0.0.1:9000", "1000000000"]

    port "give" {
      container_port = 9000
    }
  }

  container "take" {
    image = image.app.ref
    args  = ["take", "127.0.0.1:9001", "100000000"]
  }
}

service "srv" {
  selector = { app = "srv" }

  port "bytes" {
    port        = 90
    target_port = "give"
  }
}

workload "deployment" "shell" {
  labels                           = { app = "shell" }
  node_selector                    = { where = "far" }
  termination_grace_period_seconds = 2 # a shell on a terminal is deaf to SIGTERM

  container "sh" {
    image   = image.tools.ref
    command = ["/bin/sh"]
    stdin   = true
    tty     = true
  }

  container "echo" {
    image      = image.app.ref
    args       = ["echo"]
    stdin      = true
    stdin_once = true
  }
}

workload "deployment" "talk" {
  labels        = { app = "talk" }
  node_selector = { where = "far" }

  container "talk" {
    image = image.app.ref
    args  = ["numbers", "300", "20ms"]
    env   = GATE
  }
}

workload "deployment" "many" {
  labels        = { app = "many" }
  node_selector = { where = "far" }

  dynamic "container" {
    for_each = range(8)
    labels   = ["c${container.value}"]

    content {
      image = image.app.ref
      args  = ["say", "this is ${container.value}", "1"]
    }
  }
}
`

// Everything that streams, through a jump host: logs over rotations and restarts, a terminal, files, ports, a debugger.
func TestStreams(t *testing.T) {
	s := begin(t, "")
	g := newGate(t, s)
	s.write("main.hcl", strings.Replace(streams, "GATE", strings.TrimPrefix(g.env, "env="), 1))
	s.farNodes()
	s.tools()
	s.apply()
	t.Run("logs -f", func(t *testing.T) { followedOverRotationsAndRestart(t, s.within(t), g) })
	t.Run("many logs", func(t *testing.T) { manyFollowersOfOneHost(t, s.within(t)) })
	t.Run("terminal", func(t *testing.T) { terminalInContainer(t, s.within(t)) })
	t.Run("unread input", func(t *testing.T) { unreadInput(t, s.within(t)) })
	t.Run("attach", func(t *testing.T) { attached(t, s.within(t)) })
	t.Run("cp", func(t *testing.T) { copiedBothWays(t, s.within(t)) })
	t.Run("port-forward", func(t *testing.T) { forwardedPorts(t, s.within(t)) })
	t.Run("debug", func(t *testing.T) { debugged(t, s.within(t)) })
	t.Run("jump", func(t *testing.T) { onlyThroughTheJumpHost(t, s.within(t)) })
}

// within is the same story, told by a part of its test.
func (s *story) within(t *testing.T) *story {
	part := *s
	part.t = t
	return &part
}

func followedOverRotationsAndRestart(t *testing.T, s *story, g *gate) {
	r := s.start("logs", "-f", "deployment/talk")
	far := s.lab.Nodes()[1]
	pool := ssh.NewPool(ssh.Options{})
	defer pool.Close()
	host, err := pool.Host(t.Context(), &api.Node{Name: far.Name, Address: far.Address,
		SSH: api.SSH{User: "root", IdentityFile: s.lab.Identity(), KnownHostsFile: s.lab.KnownHosts(), ConfigFile: "none"}})
	if err != nil {
		t.Fatal(err)
	}
	rotated, now := 0, time.Now()
	rotate := func() {
		n, err := runtime.RotateLogs(t.Context(), host, &providers.Work{}, runtime.Rotation{MaxBytes: 512, MaxFiles: 3}, now.Add(time.Duration(rotated)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		rotated += len(n)
	}
	for _, text := range []string{"number 99\n", "number 199\n"} {
		r.until(t, text, 1)
		rotate() // there are a hundred lines, and the next come later
		g.let(1)
		rotate() // they are just being written
	}
	r.until(t, "number 299\n", 1)
	poll(t, 30*time.Second, "the end of the container", func() bool {
		p := s.pods("app=talk")[0].Status.ContainerStatuses
		return len(p) == 1 && p[0].State.Terminated != nil || len(p) == 1 && p[0].RestartCount > 0
	})
	s.apply() // starts it again
	r.until(t, "number 299\n", 2)
	interrupt(t, r)
	var want strings.Builder
	for range 2 {
		for i := range 300 {
			fmt.Fprintf(&want, "number %d\n", i)
		}
	}
	if o := r.wait(t); o.code != 0 || o.stdout != want.String() || rotated < 2 {
		t.Errorf("exit code %d, rotated %d times; %d bytes, want %d\n%s", o.code, rotated, len(o.stdout), want.Len(), cmp.Diff(want.String(), o.stdout))
	}
	if got := s.ok("logs", "deploy/talk", "--previous", "--tail", "3"); got != "number 297\nnumber 298\nnumber 299\n" {
		t.Errorf("the run before: %q", got)
	}
	if got := s.ok("logs", "deploy/talk", "--limit-bytes", "12"); got != "number 0\nnum" {
		t.Errorf("twelve bytes: %q", got)
	}
	if got := s.ok("logs", "deploy/talk", "--since-time", now.Add(time.Hour).UTC().Format(time.RFC3339)); got != "" {
		t.Errorf("since the future: %q", got)
	}
}

// A connection has room for five followers; eight of one host take a second one.
func manyFollowersOfOneHost(t *testing.T, s *story) {
	s.fails([]string{"8 log streams", "maximum allowed concurrency is 5"}, "logs", "-f", "-l", "app=many", "--all-containers")
	r := s.start("logs", "-f", "-l", "app=many", "--all-containers", "--prefix", "--max-log-requests", "8")
	pod := s.pods("app=many")[0].Name
	for i := range 8 {
		r.until(t, fmt.Sprintf("[pod/%s/c%d] this is %d 0\n", pod, i, i), 1)
	}
	interrupt(t, r)
	if o := r.wait(t); strings.Count(o.stdout, "\n") != 8 {
		t.Errorf("eight logs: %s", o)
	}
	var line struct{ Stream, Pod, Container, Line string }
	if err := json.Unmarshal([]byte(s.ok("logs", pod, "-c", "c3", "--json")), &line); err != nil || line.Pod != pod || line.Container != "c3" || line.Line != "this is 3 0" || line.Stream != "stdout" {
		t.Errorf("as JSON: %+v, %v", line, err)
	}
}

// terminal is a pseudo-terminal of which berth has one side.
type terminal struct {
	*os.File
	out  *tail
	side *os.File
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	side, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { side.Close(); master.Close() })
	term := &terminal{master, newTail(), side}
	go func() { _, _ = io.Copy(term.out, master) }() // ends with the terminal
	return term
}

func (term *terminal) size(t *testing.T, rows, columns uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(term.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
}

func (term *terminal) types(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(term, text); err != nil {
		t.Fatal(err)
	}
}

func (term *terminal) shows(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(deadline); !strings.Contains(term.out.String(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q does not come on the terminal, which shows %q", text, term.out)
		}
	}
}

// modes are the terminal's settings, which berth has to put back.
func (term *terminal) modes(t *testing.T) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(term.side.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

// start runs berth on the terminal.
func (term *terminal) start(t *testing.T, s *story, args ...string) *exec.Cmd {
	t.Helper()
	cmd := s.command(t.Context(), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.side, term.side, term.side
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func terminalInContainer(t *testing.T, s *story) {
	term := newTerminal(t)
	term.size(t, 30, 101)
	before := term.modes(t)
	cmd := term.start(t, s, "exec", "-it", "deploy/shell", "-c", "sh", "--", "/bin/sh")
	term.shows(t, "# ")
	term.types(t, "stty size\n")
	term.shows(t, "\r\n30 101\r\n")
	term.size(t, 44, 77)
	poll(t, 30*time.Second, "the new size", func() bool {
		term.types(t, "stty size\n")
		time.Sleep(50 * time.Millisecond)
		return strings.Contains(term.out.String(), "\r\n44 77\r\n")
	})
	term.types(t, "cat\n")
	term.types(t, "to be interrupted\n")
	term.shows(t, "to be interrupted\r\nto be interrupted\r\n")
	term.types(t, "\x03") // the key goes to the container, and ends cat alone
	term.shows(t, "^C")
	term.types(t, "echo still $((40 + 2))\n")
	term.shows(t, "still 42")
	term.types(t, "exit 5\n")
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("ended with %v; the terminal shows %q", err, term.out)
	}
	if term.modes(t) != before {
		t.Error("the terminal is not as it was")
	}

	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		begun := "begun for " + sig.String()
		cmd = term.start(t, s, "exec", "-it", "deploy/shell", "-c", "sh", "--", "/bin/sh", "-c", "echo $0; cat", begun)
		term.shows(t, begun)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); !cmd.ProcessState.Exited() {
			t.Errorf("%s killed it before it put the terminal back: %v", sig, err)
		}
		if term.modes(t) != before {
			t.Errorf("the terminal is not as it was after %s", sig)
		}
	}

	o := s.run("exec", "-it", "deploy/shell", "-c", "sh", "--", "/bin/sh", "-c", "exit 6")
	if o.code != 6 {
		t.Errorf("without a terminal: %s", o)
	}
	s.says(o.stderr, "Unable to use a TTY - input is not a terminal or the right kind of file", "command terminated with exit code 6")
}

// A command that does not read its input does not hang berth.
func unreadInput(t *testing.T, s *story) {
	cmd := s.command(t.Context(), "exec", "-i", "deploy/srv", "--", "/app", "env")
	cmd.Stdin = io.LimitReader(rand.NewChaCha8([32]byte{}), 200_000_000)
	var out bytes.Buffer
	cmd.Stdout = &out
	done := make(chan error, 1)
	go func() { done <- cmd.Run() }()
	select {
	case <-done:
	case <-time.After(deadline):
		t.Fatal("it still runs")
	}
	if !strings.Contains(out.String(), "HOSTNAME=") {
		t.Errorf("it wrote %q", out.String())
	}
}

func attached(t *testing.T, s *story) {
	s.fails([]string{"made without stdin"}, "attach", "-i", "deploy/srv", "-c", "give")
	cmd := s.command(t.Context(), "attach", "-i", "deploy/shell", "-c", "echo")
	cmd.Stdin = strings.NewReader("typed into it\n")
	if out, err := cmd.Output(); err != nil || string(out) != "typed into it\n" {
		t.Errorf("attach: %q, %v", out, err)
	}
	term := newTerminal(t)
	term.size(t, 20, 60)
	on := term.start(t, s, "attach", "-it", "deploy/shell", "-c", "sh")
	term.shows(t, "try pressing enter")
	term.types(t, "echo I am $$\n")
	term.shows(t, "I am 1\r\n")
	if err := on.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = on.Wait()
	if got := s.ok("exec", "deploy/shell", "-c", "sh", "--", "/bin/sh", "-c", "echo runs"); got != "runs\n" {
		t.Errorf("after detaching: %q", got)
	}
}

func copiedBothWays(t *testing.T, s *story) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	run(t, programs.app, "fill", big, "100000000")
	sum, _, _ := strings.Cut(run(t, programs.app, "sum", big), " ")
	tree := filepath.Join(dir, "tree")
	for _, d := range []string{"sub/deeper", "shut"} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"a": 0o640, "sub/b": 0o755, "sub/deeper/" + strings.Repeat("n", 150): 0o600, "shut/c": 0o444} {
		file := filepath.Join(tree, name)
		if err := errors.Join(os.WriteFile(file, []byte(name), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("sub/b", filepath.Join(tree, "link")), os.Symlink("/etc/hostname", filepath.Join(tree, "absolute")),
		os.Chmod(filepath.Join(tree, "shut"), 0o555)); err != nil {
		t.Fatal(err)
	}
	want := run(t, programs.app, "tree", tree)
	for _, c := range []struct{ name, pod, container string }{
		{"with the host's help", "deployment.srv", "give"}, {"with tar", "deployment.shell", "sh"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.within(t)
			in := func(args ...string) string {
				return s.ok(append([]string{"exec", c.pod, "-c", c.container, "--", "/app"}, args...)...)
			}
			s.ok("cp", big, c.pod+":/big", "-c", c.container)
			if got, _, _ := strings.Cut(in("sum", "/big"), " "); got != sum {
				t.Errorf("in the container the sum is %s, want %s", got, sum)
			}
			back := filepath.Join(dir, "back-"+c.container)
			s.ok("cp", c.pod+":/big", back, "-c", c.container)
			if got, _, _ := strings.Cut(run(t, programs.app, "sum", back), " "); got != sum {
				t.Errorf("back here the sum is %s, want %s", got, sum)
			}
			s.ok("cp", tree, c.pod+":/copy", "-c", c.container)
			if diff := cmp.Diff(want, in("tree", "/copy")); diff != "" {
				t.Errorf("in the container (-want +got):\n%s", diff)
			}
			copied := filepath.Join(dir, "tree-"+c.container)
			s.ok("cp", c.pod+":/copy", copied, "-c", c.container)
			if diff := cmp.Diff(want, run(t, programs.app, "tree", copied)); diff != "" {
				t.Errorf("back here (-want +got):\n%s", diff)
			}
			s.fails([]string{"/none", "No such file"}, "cp", c.pod+":/none", filepath.Join(dir, "none"), "-c", c.container)
			s.fails([]string{"No such file"}, "cp", big, c.pod+":/no/such/place", "-c", c.container)
			s.ok("cp", filepath.Join(tree, "a"), c.pod+":/copy/sub", "-c", c.container) // into the directory
			if got := in("cat", "/copy/sub/a"); got != "a" {
				t.Errorf("in a directory: %q", got)
			}
		})
	}
	throughLinks(t, s, dir)
}

// Links that lead out of the container's file system lead to nothing of the host's.
func throughLinks(t *testing.T, s *story, dir string) {
	far := s.lab.Nodes()[1]
	sh(t, t.Context(), far, "echo of the host >/etc/berth-e2e-secret")
	afterwards(t, far, "rm -f /etc/berth-e2e-secret /etc/berth-e2e-page")
	for to, name := range map[string]string{"/etc": "evil", "/../../../../etc": "worse"} {
		link := filepath.Join(dir, name)
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		s.ok("cp", link, "deployment.srv:/", "-c", "give")
		s.fails([]string{"No such file"}, "cp", "deployment.srv:/"+name+"/berth-e2e-secret", filepath.Join(dir, "stolen"), "-c", "give")
		page := filepath.Join(dir, "berth-e2e-page")
		if err := os.WriteFile(page, []byte("page"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.ok("cp", page, "deployment.srv:/"+name+"/", "-c", "give")
		if got := s.ok("exec", "deployment.srv", "-c", "give", "--", "/app", "cat", "/etc/berth-e2e-page"); got != "page" {
			t.Errorf("the page in the container is %q", got)
		}
		if out := sh(t, t.Context(), far, "ls /etc/berth-e2e-page 2>&1 || true"); !strings.Contains(out, "No such file") {
			t.Errorf("the page is on the host: %s", out)
		}
	}
}

// run runs a program here.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func forwardedPorts(t *testing.T, s *story) {
	r := s.start("port-forward", "svc/srv", ":90", "--json")
	two := s.start("port-forward", "deployment/srv", ":9001", ":9999", "--address", "127.0.0.1", "--json")
	r.until(t, "forwarding", 1)
	two.until(t, "forwarding", 2)
	give, take, none := local(t, r, 0), local(t, two, 0), local(t, two, 1)

	c, err := net.Dial("tcp", give)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	n, err := io.Copy(h, c)
	c.Close()
	want := sha256.New()
	if _, err := io.Copy(want, io.LimitReader(rand.NewChaCha8([32]byte([]byte("the bytes of the end-to-end test"))), 1_000_000_000)); err != nil {
		t.Fatal(err)
	}
	if err != nil || n != 1_000_000_000 || !bytes.Equal(h.Sum(nil), want.Sum(nil)) {
		t.Errorf("a gigabyte: %d bytes, %x, %v", n, h.Sum(nil), err)
	}

	if c, err = net.Dial("tcp", take); err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(c, sum), io.LimitReader(rand.NewChaCha8([32]byte{1}), 100_000_000)); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(c); err != nil || strings.TrimSpace(string(answer)) != fmt.Sprintf("%x", sum.Sum(nil)) {
		t.Errorf("the other way: %q, %v", answer, err)
	}
	c.Close()

	if c, err = net.Dial("tcp", none); err != nil { // a port on which nothing listens ends the connection, not berth
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(c); len(b) > 0 {
		t.Errorf("from nobody: %q", b)
	}
	c.Close()
	two.until(t, "nothing listens there inside the pod", 1)
	interrupt(t, r)
	if o := r.wait(t); o.code != 0 {
		t.Errorf("interrupted: %s", o)
	}
	interrupt(t, two)
	if o := two.wait(t); o.code != 0 {
		t.Errorf("interrupted: %s", o)
	}
	s.fails([]string{"does not have a service port 91"}, "port-forward", "svc/srv", ":91")
}

// local is where the n-th port is listened on by IPv4.
func local(t *testing.T, r *running, n int) string {
	t.Helper()
	for line := range strings.Lines(r.stdout.String()) {
		var f struct{ Type, Local string }
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		if f.Type == "forwarding" && strings.HasPrefix(f.Local, "127.0.0.1:") {
			if n == 0 {
				return f.Local
			}
			n--
		}
	}
	t.Fatalf("nothing is listened on: %s%s", r.stdout, r.stderr)
	return ""
}

func debugged(t *testing.T, s *story) {
	pod := s.pods("app=srv")[0].Name
	o := s.run("debug", pod, "--image", "image.tools", "--target", "give", "-c", "look", "--attach", "--env", "WHO=me", "--", "/app", "processes")
	if o.code != 0 || !strings.Contains(o.stdout, "1 /app give 127.0.0.1:9000") {
		t.Errorf("the target's processes: %s", o)
	}
	if o := s.run("debug", pod, "--image", "image.tools", "--attach", "--", "/bin/sh", "-c", "exit 9"); o.code != 9 {
		t.Errorf("its exit code: %s", o)
	}
	s.fails([]string{"has a container \"look\" already"}, "debug", pod, "--image", "image.tools", "-c", "look")
	cmd := s.command(t.Context(), "debug", pod, "--image", "image.tools", "-i", "-c", "piped", "--", "/bin/cat")
	cmd.Stdin = strings.NewReader("through it\n")
	if out, err := cmd.Output(); err != nil || string(out) != "through it\n" {
		t.Errorf("input through it: %q, %v", out, err)
	}
	s.ok("debug", pod, "--image", "image.tools", "-c", "stays", "--", "/app", "say", "here", "1")
	p := s.pods("app=srv")[0]
	if len(p.Spec.EphemeralContainers) != 4 || len(p.Status.EphemeralContainerStatuses) != 4 || len(p.Status.ContainerStatuses) != 2 {
		t.Errorf("shown are %d, %d, %d", len(p.Spec.EphemeralContainers), len(p.Status.EphemeralContainerStatuses), len(p.Status.ContainerStatuses))
	}
	poll(t, time.Minute, "its log", func() bool { return s.ok("logs", pod, "-c", "stays") == "here 0\n" })
	if plan := s.run("plan"); plan.code != 0 || strings.Contains(plan.stdout, "deployment.srv") {
		t.Errorf("the debugger is in the plan: %s", plan)
	}
}

// onlyThroughTheJumpHost looks at who has spoken to the far host: nobody but the near one, and the tests' own rotation of logs.
func onlyThroughTheJumpHost(t *testing.T, s *story) {
	near, far := s.lab.Nodes()[0], s.lab.Nodes()[1]
	r := s.start("logs", "-f", "deployment/many", "-c", "c0")
	r.until(t, "this is 0", 1)
	peers := strings.Fields(sh(t, t.Context(), far, `ss -Htn state established '( sport = :22 )' | awk '{ sub(/:[0-9]+$/, "", $4); print $4 }' | sort -u`))
	if len(peers) != 1 || strings.Trim(peers[0], "[]") != near.Address {
		t.Errorf("the far host is spoken to by %q, want %s alone", peers, near.Address)
	}
	interrupt(t, r)
	r.wait(t)
}
