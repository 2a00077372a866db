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
	"sync"
	"time"

	"k8s.io/client-go/tools/remotecommand"
	upgrade "k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/spdy"

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
	err = m.stream(ctx, resp.GetUrl(), o.streams())
	if exit, ok := errors.AsType[exec.CodeExitError](err); ok {
		return exit.Code, nil
	}
	if err != nil {
		return 0, m.broken(ctx, notStarted(o, err))
	}
	return 0, nil
}

func (o ExecOptions) streams() remotecommand.StreamOptions {
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
	return so
}

// broken says that the connection has ended where that is why a stream did.
func (m *machine) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, gone := m.Resource("runtime", func() (any, error) { return &memory{}, nil }); gone != nil {
		return gone
	}
	return err
}

// NotStartedError says that a container could not start a command.
type NotStartedError struct {
	Command string
	Cause   string // the runtime's word
}

func (e *NotStartedError) Error() string {
	return fmt.Sprintf("the container did not start %q: %s", e.Command, e.Cause)
}

// notStarted finds the last of the causes in runc's words, which tells of the command; the ones before it tell of us.
func notStarted(o ExecOptions, err error) error {
	_, cause, ok := strings.Cut(err.Error(), "unable to start container process: ")
	if !ok {
		return fmt.Errorf("exec in container %s: %w", o.ContainerID, err)
	}
	return &NotStartedError{o.Command[0], strings.TrimSuffix(cause, ": unknown")}
}

// unreadPatience is how long the exit code of a command may take that has closed its output while input for it is left.
const unreadPatience = 3 * time.Second

// errUnread: a command has ended before it had read its input. containerd then waits for ever to hand over the rest, and does not tell the exit code.
var errUnread = errors.New("the command ended without reading all of its input, and containerd does not tell its exit code then")

// stream connects the streams to the address that containerd gave, until they have ended.
func (m *machine) stream(ctx context.Context, address string, so remotecommand.StreamOptions) error {
	way, err := m.upgrade(address)
	if err != nil {
		return err
	}
	e, err := remotecommand.NewSPDYExecutorForTransports(way.rt, upgrade.NewUpgraderForStreaming(way.rt), http.MethodPost, way.url)
	if err != nil {
		return err
	}
	silent := watchEnds(&so)
	ended := make(chan error, 1)
	quiet := klog.NewContext(ctx, klog.Logger{})            // the library would write to standard error what it returns as well
	go func() { ended <- e.StreamWithContext(quiet, so) }() // ends with the connection
	// The server may wait for ever to pass on what was written, and agrees to no end before it has: what was cut off is not waited for.
	defer way.cut()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-silent:
	}
	var late <-chan time.Time
	if so.Stdin != nil {
		late = time.After(unreadPatience)
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-late:
		return errUnread
	}
}

// watchEnds tells when all outputs have ended.
func watchEnds(so *remotecommand.StreamOptions) <-chan struct{} {
	var open sync.WaitGroup
	for _, w := range []*io.Writer{&so.Stdout, &so.Stderr} {
		if *w != nil {
			open.Add(1)
			*w = &endWriter{Writer: *w, ended: sync.OnceFunc(open.Done)}
		}
	}
	all := make(chan struct{})
	go func() { // ends with the outputs
		open.Wait()
		close(all)
	}()
	return all
}

// endWriter tells when what is copied to it has come to its end.
type endWriter struct {
	io.Writer
	ended func()
}

// ReadFrom is what io.Copy calls.
func (w *endWriter) ReadFrom(r io.Reader) (int64, error) {
	defer w.ended()
	return io.Copy(onlyWrites{w.Writer}, r)
}

// onlyWrites hides the other abilities of a writer.
type onlyWrites struct{ io.Writer }

// streamWay is a way to speak SPDY to containerd, for one connection.
type streamWay struct {
	rt  *spdy.SpdyRoundTripper
	url *url.URL

	mu   sync.Mutex
	conn net.Conn
}

// cut ends the connection below, so that nothing that waits to write to it waits any more.
func (s *streamWay) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close() // it may have ended already
	}
}

// upgrade prepares a connection to an address that containerd gave, which is on the host's loopback.
func (m *machine) upgrade(address string) (*streamWay, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("containerd's streaming address %q: %w", address, err)
	}
	way := &streamWay{url: u}
	dial := func(dialCtx context.Context, _, addr string) (net.Conn, error) {
		conn, err := m.Dial(dialCtx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		way.mu.Lock()
		way.conn = conn
		way.mu.Unlock()
		return noDeadlines{conn}, nil
	}
	way.rt, err = spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{
		PingPeriod:       5 * time.Second,
		UpgradeTransport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // inside the SSH connection
	})
	return way, err
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
