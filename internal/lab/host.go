package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	runningFile  = "running.json"
	bootDeadline = 90 * time.Second
	stopDeadline = 30 * time.Second
)

// Node is one host of a lab.
type Node struct {
	Name    string
	Address string

	index int
	lab   *Lab

	mu       sync.Mutex
	lifeline func() // ends the standard input of an ephemeral host; nil if this process does not hold it
}

// ErrPoweredOff is returned for a host that does not run.
var ErrPoweredOff = errors.New("powered off")

// path is a path in the host's folder on the machine.
func (n *Node) path(elem ...string) string {
	return filepath.Join(append([]string{n.lab.dir, n.Name}, elem...)...)
}

// Log is the path of what the host's pid 1 said, since its disk was made.
func (n *Node) Log() string { return n.path("console.log") }

// Start boots the host with the disk it has and waits until sshd and containerd answer. It does nothing if the host runs.
func (n *Node) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootDeadline)
	defer cancel()
	unlock, err := lockDir(ctx, n.path())
	if err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	defer unlock()
	in, err := n.running()
	if errors.Is(err, ErrPoweredOff) {
		in, err = n.powerOn(ctx)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	if err := n.waitReady(ctx, in); err != nil {
		return fmt.Errorf("start %s: %w (see %s)", n.Name, err, n.Log())
	}
	n.lab.log.Debug("host is up", "node", n.Name, "address", n.Address, "pid", in.Pid)
	return nil
}

// Stop powers the host off without warning, as pulling the plug does. Its disk stays as it is.
func (n *Node) Stop(ctx context.Context) error {
	unlock, err := lockDir(ctx, n.path())
	if err != nil {
		return fmt.Errorf("stop %s: %w", n.Name, err)
	}
	defer unlock()
	if err := powerOff(ctx, n.path(runningFile)); err != nil {
		return fmt.Errorf("stop %s: %w", n.Name, err)
	}
	n.hold(nil)
	return removeDevice(ctx, n.cable())
}

// Reboot is Stop and Start.
func (n *Node) Reboot(ctx context.Context) error {
	if err := n.Stop(ctx); err != nil {
		return err
	}
	return n.Start(ctx)
}

// CPUTime is the processor time that the host's daemons and pods have used since it was started.
// What Exec runs is not counted.
func (n *Node) CPUTime() (time.Duration, error) {
	in, err := n.running()
	if err != nil {
		return 0, fmt.Errorf("cpu time of %s: %w", n.Name, err)
	}
	for _, dir := range in.Cgroups {
		if b, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage")); err == nil {
			return time.ParseDuration(strings.TrimSpace(string(b)) + "ns")
		}
		b, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
		if err != nil {
			continue
		}
		if _, rest, ok := strings.Cut(string(b), "usage_usec "); ok {
			line, _, _ := strings.Cut(rest, "\n")
			return time.ParseDuration(line + "us")
		}
	}
	return 0, fmt.Errorf("cpu time of %s: its cgroups do not count it", n.Name)
}

// Command prepares a command inside the host, for the caller to run. It is not run through SSH and works while the cable is out.
func (n *Node) Command(ctx context.Context, argv ...string) (*exec.Cmd, error) {
	in, err := n.running()
	if err != nil {
		return nil, fmt.Errorf("run in %s: %w", n.Name, err)
	}
	enter := []string{"--target", strconv.Itoa(in.Pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, argv...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
	return cmd, nil
}

// Exec runs a command inside the host and returns its standard output. The error of a command that fails says what it wrote to standard error.
func (n *Node) Exec(ctx context.Context, argv ...string) (string, error) {
	cmd, err := n.Command(ctx, argv...)
	if err != nil {
		return "", err
	}
	out, err := cmd.Output()
	if err == nil {
		return string(out), nil
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), fmt.Errorf("run in %s: %v: %w: %s", n.Name, argv, err, exit.Stderr)
	}
	return string(out), fmt.Errorf("run in %s: %v: %w", n.Name, argv, err)
}

// hold keeps the lifeline of a new boot, or nil, and lets go of the one before.
func (n *Node) hold(lifeline func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lifeline != nil {
		n.lifeline()
	}
	n.lifeline = lifeline
}

// running is the present boot; ErrPoweredOff if there is none.
func (n *Node) running() (running, error) {
	var in running
	err := readJSON(n.path(runningFile), &in)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !alive(in.process)) {
		return in, ErrPoweredOff
	}
	return in, err
}

// powerOff ends the boot that the file tells of and removes the file. All processes of a pid namespace die with its first.
func powerOff(ctx context.Context, file string) error {
	ctx, cancel := context.WithTimeout(ctx, stopDeadline)
	defer cancel()
	var in running
	if err := readJSON(file, &in); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := kill(ctx, in.process); err != nil {
		return err
	}
	if err := removeCgroups(ctx, in.Cgroups); err != nil {
		return err
	}
	return os.Remove(file)
}
