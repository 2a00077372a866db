package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// local is this machine, without SSH.
type local struct {
	ended chan struct{}
	once  sync.Once
	procs sync.WaitGroup
}

func newLocal() *local { return &local{ended: make(chan struct{})} }

func (l *local) done() <-chan struct{} { return l.ended }

func (l *local) lives() bool { return l.cause() == nil }

func (l *local) cause() error {
	select {
	case <-l.ended:
		return errClosed
	default:
		return nil
	}
}

func (l *local) close() {
	l.once.Do(func() { close(l.ended) })
	l.procs.Wait()
}

// start runs the command in a process group of its own: a Ctrl-C on our terminal is not meant for it.
func (l *local) start(ctx context.Context, command string) (*process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := l.cause(); err != nil {
		return nil, err
	}
	cmd := exec.Command("sh", "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	errs, err3 := cmd.StderrPipe()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start sh: %w", err)
	}
	c := &child{cmd: cmd, exited: make(chan struct{})}
	closeAll := sync.OnceFunc(func() {
		c.kill()
		_, _, _ = in.Close(), out.Close(), errs.Close()
	})
	l.procs.Go(c.reap)
	go func() { // ends with the process
		select {
		case <-l.ended:
			closeAll()
		case <-c.exited:
		}
	}()
	return &process{stdin: in, stdout: given{out}, stderr: given{errs}, wait: c.wait, close: closeAll}, nil
}

// given is a stream that ends when it was given up.
type given struct{ io.Reader }

func (g given) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	if errors.Is(err, os.ErrClosed) {
		err = errAbandoned
	}
	return n, err
}

// child is a process of ours.
type child struct {
	cmd    *exec.Cmd
	exited chan struct{}
	state  *os.ProcessState
	err    error
}

func (c *child) reap() {
	c.state, c.err = c.cmd.Process.Wait()
	close(c.exited)
}

func (c *child) wait() (int, error) {
	<-c.exited
	if c.err != nil {
		return 0, c.err
	}
	if s, ok := c.state.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal()), nil
	}
	return c.state.ExitCode(), nil
}

// kill ends the process and its group, unless it has ended by itself.
func (c *child) kill() {
	select {
	case <-c.exited:
	default:
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // refused for what sudo runs, which ends with its input
	}
}

func (l *local) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func (l *local) listen(ctx context.Context, address string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", address)
}
