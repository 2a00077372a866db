// Package hosttest lets providers' tests work on a real host without SSH, by entering its namespaces, and gives them pods that
// are no more than a network namespace with an interface by CNI. It knows no lab: a process id is enough.
package hosttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"berth.dev/berth/providers"
)

// Host is a host seen from the machine that its namespaces lie on.
type Host struct {
	name string
	pid  func() (int, error)
	env  []string

	mu        sync.Mutex
	resources map[string]any
}

var _ providers.Host = (*Host)(nil)

// New returns a host by the process id of its first process, which is asked for at every call: a reboot changes it.
func New(name string, pid func() (int, error)) *Host {
	return &Host{name: name, pid: pid, resources: map[string]any{}}
}

// With returns the same host with more in the environment of what is run there.
func (h *Host) With(env ...string) *Host {
	w := New(h.name, h.pid)
	w.env = env
	return w
}

// Name is the node's name.
func (h *Host) Name() string { return h.name }

// Run executes a script with /bin/sh inside the host.
func (h *Host) Run(ctx context.Context, c providers.Command) (providers.Output, error) {
	cmd, err := h.Command(ctx, append([]string{"/bin/sh", "-c", c.Script, "sh"}, c.Args...)...)
	if err != nil {
		return providers.Output{}, err
	}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, &out, &errs
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = &providers.ExitError{Host: h.name, Status: exit.ExitCode(), Stderr: strings.TrimSpace(errs.String())}
	}
	return providers.Output{Stdout: out.Bytes(), Stderr: errs.Bytes()}, err
}

// Command prepares a command inside the host, for the caller to run.
func (h *Host) Command(ctx context.Context, argv ...string) (*exec.Cmd, error) {
	pid, err := h.pid()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", providers.ErrUnreachable, err)
	}
	enter := []string{"--target", strconv.Itoa(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, argv...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
	cmd.Env = append(cmd.Env, h.env...)
	return cmd, nil
}

// Dial connects from inside the host.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	pid, err := h.pid()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", providers.ErrUnreachable, err)
	}
	if network == "unix" {
		var d net.Dialer
		return d.DialContext(ctx, network, "/proc/"+strconv.Itoa(pid)+"/root"+address)
	}
	var conn net.Conn
	err = inNetwork(pid, func() error {
		var d net.Dialer
		var err error
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on the host's loopback.
func (h *Host) Listen(ctx context.Context, address string) (net.Listener, error) {
	pid, err := h.pid()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", providers.ErrUnreachable, err)
	}
	var l net.Listener
	err = inNetwork(pid, func() error {
		var c net.ListenConfig
		var err error
		l, err = c.Listen(ctx, "tcp", address)
		return err
	})
	return l, err
}

// Resource makes a thing once.
func (h *Host) Resource(key string, build func() (any, error)) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v, ok := h.resources[key]; ok {
		return v, nil
	}
	v, err := build()
	if err == nil {
		h.resources[key] = v
	}
	return v, err
}

// inNetwork runs f on a thread inside the network namespace of a process. The thread ends with it.
func inNetwork(pid int, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is thrown away
		ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
		if err != nil {
			result <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter network of process %d: %w", pid, err)
			return
		}
		result <- f()
	}()
	return <-result
}
