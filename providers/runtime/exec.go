package runtime

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/tools/remotecommand"
	upgrade "k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// ExecOptions says what to run in which container.
type ExecOptions struct {
	ContainerID string
	Command     []string
	// TTY gives the command a terminal; standard error then comes with standard output.
	TTY    bool
	Stdin  io.Reader // nil for none
	Stdout io.Writer
	Stderr io.Writer // not used with TTY
	// Resize brings the terminal's size, the present one first; nil for none. Close it to end.
	Resize <-chan TerminalSize
}

// TerminalSize is a terminal's size in characters.
type TerminalSize struct{ Width, Height uint16 }

// Exec runs a command in a container and returns its exit code. An error means that it could not be run or that the connection broke.
func Exec(ctx context.Context, h providers.Host, o ExecOptions) (exitCode int, err error) {
	m, err := open(h)
	if err != nil {
		return 0, err
	}
	resp, err := m.cri.Runtime.Exec(ctx, &runtimev1.ExecRequest{
		ContainerId: o.ContainerID, Cmd: o.Command, Tty: o.TTY,
		Stdin: o.Stdin != nil, Stdout: o.Stdout != nil, Stderr: o.Stderr != nil && !o.TTY,
	})
	if err != nil {
		return 0, m.explain(ctx, notStarted(o, err))
	}
	stream, err := m.stream(ctx, resp.GetUrl())
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", o.ContainerID, err)
	}
	so := remotecommand.StreamOptions{Stdout: o.Stdout, Tty: o.TTY}
	if o.Stdin != nil {
		so.Stdin = input{o.Stdin}
	}
	if !o.TTY {
		so.Stderr = o.Stderr
	}
	if o.Resize != nil {
		so.TerminalSizeQueue = sizeQueue(o.Resize)
	}
	err = stream.StreamWithContext(ctx, so)
	if exit, ok := errors.AsType[exec.CodeExitError](err); ok {
		return exit.Code, nil
	}
	if err != nil {
		return 0, notStarted(o, err)
	}
	return 0, nil
}

// notStarted finds the last of the causes in runc's words, which tells of the command; the ones before it tell of us.
func notStarted(o ExecOptions, err error) error {
	_, cause, ok := strings.Cut(err.Error(), "unable to start container process: ")
	if !ok {
		return fmt.Errorf("exec in container %s: %w", o.ContainerID, err)
	}
	cause = strings.TrimSuffix(cause, ": unknown")
	return (api.Diagnostics{{
		Severity: api.SeverityError, Summary: "Command cannot be started",
		Detail: fmt.Sprintf("The container did not start %q: %s. Images hold only what was put into them, often not even a shell.", o.Command[0], cause),
	}}).Err()
}

// stream opens the address that containerd gave, which is on the host's loopback.
func (m *machine) stream(ctx context.Context, address string) (remotecommand.Executor, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("containerd's streaming address %q: %w", address, err)
	}
	dial := func(dialCtx context.Context, _, addr string) (net.Conn, error) {
		conn, err := m.Dial(dialCtx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return noDeadlines{conn}, nil
	}
	rt, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{
		PingPeriod:       5 * time.Second,
		UpgradeTransport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // inside the SSH connection
	})
	if err != nil {
		return nil, err
	}
	return remotecommand.NewSPDYExecutorForTransports(rt, upgrade.NewUpgraderForStreaming(rt), http.MethodPost, u)
}

// input ends where it cannot be read any more, as a terminal that goes away does: remotecommand would write such an error to
// standard error.
type input struct{ r io.Reader }

// Read reads, and takes every error for the end.
func (i input) Read(b []byte) (int, error) {
	n, err := i.r.Read(b)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// noDeadlines is a connection through SSH, which knows no deadlines; those who set them close it anyway.
type noDeadlines struct{ net.Conn }

func (noDeadlines) SetDeadline(time.Time) error      { return nil }
func (noDeadlines) SetReadDeadline(time.Time) error  { return nil }
func (noDeadlines) SetWriteDeadline(time.Time) error { return nil }

// sizeQueue brings sizes to remotecommand.
type sizeQueue <-chan TerminalSize

// Next waits for the next size; nil at the end.
func (q sizeQueue) Next() *remotecommand.TerminalSize {
	s, ok := <-q
	if !ok {
		return nil
	}
	return &remotecommand.TerminalSize{Width: s.Width, Height: s.Height}
}
