package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// powerOn makes the host's namespaces and lets its pid 1 go.
//
// The first process waits for a word on its standard input: until it is in its cgroups and has its network. If this process
// dies before, it reads an end of file and ends too, so that nothing runs that is not written down in running.json.
func (n *Node) powerOn(ctx context.Context) (running, error) {
	if err := powerOff(ctx, n.path(runningFile)); err != nil { // what is left of an earlier boot
		return running{}, err
	}
	if err := n.lab.makeBridge(ctx); err != nil { // gone if the machine was rebooted
		return running{}, err
	}
	cmd, lifeline, err := n.firstProcess()
	if err != nil {
		return running{}, fmt.Errorf("make namespaces: %w", err)
	}
	in := running{process: process{Pid: cmd.Process.Pid}}
	if err := errors.Join(n.prepare(ctx, &in), cmd.Process.Release()); err != nil {
		lifeline.Close()
		return in, errors.Join(err, powerOff(context.WithoutCancel(ctx), n.path(runningFile)))
	}
	if _, err := io.WriteString(lifeline, "go\n"); err != nil {
		lifeline.Close()
		return in, fmt.Errorf("let pid 1 go: %w", err)
	}
	if n.lab.state.Owner != nil {
		// An ephemeral host reads on, and powers off at the end of the file: when this process ends.
		var keep func()
		if keep, err = keepOpen(lifeline); err == nil {
			n.hold(keep)
		}
	}
	return in, errors.Join(err, lifeline.Close())
}

// prepare writes down the process and gives it what it waits for.
func (n *Node) prepare(ctx context.Context, in *running) error {
	var err error
	if in.Start, err = startTime(in.Pid); err != nil {
		return err
	}
	if err := writeJSON(n.path(runningFile), in); err != nil {
		return err
	}
	cgroups, joinErr := n.joinCgroups(in.Pid)
	in.Cgroups = cgroups
	if err := errors.Join(joinErr, writeJSON(n.path(runningFile), in)); err != nil {
		return err
	}
	return n.plugIn(ctx, in.Pid)
}

// firstProcess starts what will be pid 1 of the host, and returns the pipe to its standard input.
func (n *Node) firstProcess() (*exec.Cmd, *os.File, error) {
	console, err := os.OpenFile(n.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, err
	}
	defer console.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer read.Close()
	script := n.path("boot.sh")
	if err := os.WriteFile(script, asset("boot.sh"), 0o755); err != nil {
		write.Close()
		return nil, nil, err
	}
	cmd := exec.Command("/bin/sh", script, n.path(), n.ephemeral()) //nolint:noctx // it outlives the caller
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = read, console, console
	cmd.SysProcAttr = newNamespaces()
	if err := cmd.Start(); err != nil {
		write.Close()
		return nil, nil, err
	}
	return cmd, write, nil
}

func (n *Node) ephemeral() string {
	if n.lab.state.Owner != nil {
		return "ephemeral"
	}
	return "lasting"
}
