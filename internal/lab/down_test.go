package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
)

func TestDownLeavesNothing(t *testing.T) {
	l := labtest.New(t, lab.Config{Nodes: 2})
	// What Berth makes on a host: a container, network namespaces, devices, rules, cgroups.
	n := l.Node("n1")
	run(t, n, "sh", "-c", "mkdir -p /root/fs && mount --bind / /root/fs && ctr run -d --rootfs /root/fs c1 /bin/sleep 1000")
	run(t, n, "sh", "-c", "ip netns add pod1; ip link add berth0 type bridge; ip link add v0 type veth peer name v1 netns pod1; iptables -N X; setsid sleep 1000 </dev/null >/dev/null 2>&1 &")
	tr := traceOf(t, l)
	if err := n.Unplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := tr.left(t); len(left) < 20 {
		t.Fatalf("the test sees too little of a running lab: %q", left)
	}
	if err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := tr.left(t); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
	if err := l.Down(t.Context()); err != nil {
		t.Errorf("down again: %v", err)
	}
}

// A lab of the same name replaces one that nobody took down.
func TestUpReplaces(t *testing.T) {
	old := labtest.New(t, lab.Config{Name: fmt.Sprintf("t-replaced-%d", os.Getpid()), Nodes: 2})
	tr := traceOf(t, old)
	l := labtest.New(t, lab.Config{Name: old.Name(), Nodes: 1})
	if got := len(l.Nodes()); got != 1 {
		t.Errorf("%d hosts, want 1", got)
	}
	for p := range tr.processes {
		if p.running() {
			t.Errorf("of the old lab: process %v", p)
		}
	}
	if got := run(t, l.Node("n1"), "hostname"); got != "n1\n" {
		t.Errorf("host name %q", got)
	}
}

func TestSideBySide(t *testing.T) {
	a := labtest.Shared(t)
	b := labtest.New(t, lab.Config{Nodes: 1})
	if a.Subnet() == b.Subnet() {
		t.Errorf("both have %s", a.Subnet())
	}
	_, err := lab.Up(t.Context(), lab.Config{Name: "t-taken", Nodes: 1, Subnet: a.Subnet()})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("error %v for a subnet in use", err)
	}
	if _, err := lab.Open("", "t-taken"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of the lab that could not be made: %v", err)
	}
}

// Hosts reach each other on a machine that drops what it forwards, as docker makes it do. The machine is a host of
// another lab here: labs nest, on a real file system.
func TestForwardDropped(t *testing.T) {
	outer := labtest.New(t, lab.Config{Nodes: 1}).Node("n1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	write(t, outer, "/root/lab.test", string(b))
	run(t, outer, "sh", "-c", "chmod 755 /root/lab.test; iptables -P FORWARD DROP; mkdir /var/lib/berth-lab /var/lib/berth/labs; mount --bind /var/lib/berth/labs /var/lib/berth-lab")
	const inner = "TestSSH/the_first_host_by_name"
	cmd, err := outer.Command(t.Context(), "/root/lab.test", "-test.v", "-test.run=^"+inner+"$")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+inner) {
		t.Errorf("%v: %s", err, out)
	}
	if got := run(t, outer, "iptables", "-S"); strings.Contains(got, "-A") {
		t.Errorf("rules left behind:\n%s", got)
	}
}

// An Up that is interrupted while the hosts boot leaves nothing.
func TestUpInterrupted(t *testing.T) {
	labtest.Require(t)
	ctx, cancel := context.WithTimeout(t.Context(), 80*time.Millisecond)
	defer cancel()
	name := fmt.Sprintf("t-interrupted-%d", os.Getpid())
	if _, err := lab.Up(ctx, lab.Config{Name: name, Nodes: 2}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v, want that of the context", err)
	}
	if _, err := os.Stat(filepath.Join(lab.DefaultDir, name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder: %v", err)
	}
}

const helperVar = "BERTH_LAB_TEST_HELPER"

// helper makes this test binary a process that makes an ephemeral lab and waits to be killed.
func helper() bool {
	name := os.Getenv(helperVar)
	if name == "" {
		return false
	}
	l, err := lab.Up(context.Background(), lab.Config{Name: name, Nodes: 2, Ephemeral: true})
	if err != nil {
		fmt.Println(err)
		return true
	}
	fmt.Println("up", l.Subnet())
	// Not select {}: in a process without other goroutines and timers the runtime calls that a deadlock and ends it.
	_, _ = io.Copy(io.Discard, os.Stdin)
	return true
}

// The hosts of an ephemeral lab die with the process that made it, and the next test removes what else there is.
func TestOwnerKilled(t *testing.T) {
	labtest.Require(t)
	name := fmt.Sprintf("t-orphan-%d", os.Getpid())
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperVar+"="+name)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // open for as long as this test, and nothing comes
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 3)
	if _, err := out.Read(said); err != nil || string(said) != "up " {
		t.Fatalf("the helper said %q, %v", said, err)
	}
	l, err := lab.Open("", name)
	if err != nil {
		t.Fatal(err)
	}
	tr := traceOf(t, l)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	deadline := time.Now().Add(time.Minute)
	for {
		st, err := l.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !st[0].Running && !st[1].Running {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a minute after its owner's death: %+v", st)
		}
	}
	if err := lab.Sweep(t.Context(), "", nil); err != nil {
		t.Fatal(err)
	}
	if left := tr.left(t); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// trace is what tells a lab's leftovers from those of the other labs on this machine.
type trace struct {
	lab       *lab.Lab
	processes map[process]bool
	bridge    string
}

// process is a process for good: numbers of processes, and of namespaces, are used again.
type process struct{ pid, start, name string }

func (p process) running() bool {
	q, state := look(p.pid)
	return q == p && state != "Z"
}

// look reads a process's identity and state from /proc/PID/stat.
func look(pid string) (p process, state string) {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return process{}, ""
	}
	open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
	f := strings.Fields(string(b[end+1:]))
	return process{pid, f[19], string(b[open : end+1])}, f[0]
}

// traceOf notes all processes that are in a namespace of one of the hosts.
func traceOf(t *testing.T, l *lab.Lab) trace {
	t.Helper()
	tr := trace{lab: l, processes: map[process]bool{}}
	st, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	namespaces := map[string]bool{}
	for _, s := range st {
		for _, kind := range []string{"mnt", "net", "pid", "uts", "ipc", "cgroup"} {
			ns, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(s.Pid), "ns", kind))
			if err != nil {
				t.Fatalf("%+v: %v", s, err)
			}
			namespaces[ns] = true
		}
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/*")
	for _, link := range links {
		if ns, err := os.Readlink(link); err == nil && namespaces[ns] {
			p, _ := look(strings.Split(link, "/")[2])
			tr.processes[p] = true
		}
	}
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		addrs, _ := d.Addrs()
		for _, a := range addrs {
			if a.String() == l.Gateway()+"/24" {
				tr.bridge = d.Name
			}
		}
	}
	if tr.bridge == "" {
		t.Fatalf("no device has the address %s", l.Gateway())
	}
	return tr
}

// left lists what is on this machine of the lab: processes, mounts, devices, cgroups, rules and files.
func (tr trace) left(t *testing.T) []string {
	t.Helper()
	var left []string
	for p := range tr.processes {
		if p.running() {
			left = append(left, fmt.Sprintf("process %v", p))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, tr.lab.Dir()) {
			left = append(left, "mount "+line)
		}
	}
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		if strings.HasPrefix(d.Name, tr.bridge) {
			left = append(left, "device "+d.Name)
		}
	}
	if rules, err := exec.CommandContext(t.Context(), "iptables", "-S").Output(); err == nil && strings.Contains(string(rules), tr.bridge) {
		left = append(left, "rules "+string(rules))
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasSuffix(path, "/berth-lab/"+tr.lab.Name()) {
			left = append(left, "cgroup "+path)
		}
		return nil
	})
	if _, err := os.Stat(tr.lab.Dir()); err == nil {
		left = append(left, "folder "+tr.lab.Dir())
	}
	return left
}
