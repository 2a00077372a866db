package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"berth.dev/berth/providers"
)

// remote is an SSH connection.
type remote struct {
	client *xssh.Client
	target *target   // that was dialled
	seen   *lastSeen // when the other side was last heard

	once  sync.Once
	mu    sync.Mutex
	why   error
	ended chan struct{}
	tasks sync.WaitGroup
}

// newRemote watches over an open connection until it ends.
func newRemote(client *xssh.Client, seen *lastSeen, every, deadAfter time.Duration) *remote {
	r := &remote{client: client, seen: seen, ended: make(chan struct{})}
	r.tasks.Go(func() { // ends with the connection
		r.fail(endOf(client.Wait()))
		close(r.ended)
	})
	r.tasks.Go(func() { r.keepAlive(every, deadAfter) })
	return r
}

func (r *remote) done() <-chan struct{} { return r.ended }

func (r *remote) lives() bool { return r.cause() == nil }

func (r *remote) cause() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why != nil {
		return r.why
	}
	return r.seen.broken()
}

// fail ends the connection; the first cause stays.
func (r *remote) fail(why error) {
	r.once.Do(func() {
		r.mu.Lock()
		r.why = why
		r.mu.Unlock()
	})
	_ = r.client.Close() // of a connection that may be closed already
}

func (r *remote) close() {
	r.fail(errClosed)
	r.tasks.Wait()
}

// sessionRetries is how often a session is asked for when the server says that it has too many.
const sessionRetries = 20

func (r *remote) start(ctx context.Context, command string) (*process, error) {
	for try := 1; ; try++ {
		s, err := await(ctx, r.client.NewSession, func(s *xssh.Session) { _ = s.Close() })
		var refused *xssh.OpenChannelError
		switch {
		case err == nil:
			return begin(ctx, s, command)
		case !errors.As(err, &refused):
			return nil, err
		case try == sessionRetries:
			return nil, fmt.Errorf("the SSH server refuses another session (%w): raise MaxSessions in its sshd_config, "+
				"which is 10 unless it says otherwise", err)
		}
		if err := pause(ctx, time.Duration(try)*10*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func begin(ctx context.Context, s *xssh.Session, command string) (*process, error) {
	in, err1 := s.StdinPipe()
	out, err2 := s.StdoutPipe()
	errs, err3 := s.StderrPipe()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	_, err := await(ctx, func() (struct{}, error) { return struct{}{}, s.Start(command) }, func(struct{}) { _ = s.Close() })
	if err != nil {
		_ = s.Close() // the first error counts
		return nil, err
	}
	stdout, stopOut := abandonable(out)
	stderr, stopErr := abandonable(errs)
	return &process{
		stdin: in, stdout: stdout, stderr: stderr,
		wait: func() (int, error) { return exitStatus(s.Wait()) },
		close: func() {
			_ = s.Close() // io.EOF when the other side was first
			stopOut()
			stopErr()
		},
	}, nil
}

// abandonable lets a reader of a session's stream be stopped at once. The stream itself ends only when the server has agreed to
// close the session, or with the connection.
func abandonable(stream io.Reader) (io.Reader, func()) {
	r, w := io.Pipe()
	go func() { // ends with the stream, or at the next bytes after the stop
		_, err := io.Copy(w, stream)
		_ = w.CloseWithError(err) // nil reads as io.EOF
	}()
	return r, func() { _ = w.CloseWithError(errAbandoned) }
}

// errAbandoned: the session was given up by us.
var errAbandoned = errors.New("the session was given up")

// exitStatus tells a status from the lack of one.
func exitStatus(err error) (int, error) {
	var exit *xssh.ExitError
	var missing *xssh.ExitMissingError
	switch {
	case errors.As(err, &exit):
		return exit.ExitStatus(), nil
	case errors.As(err, &missing):
		return 0, errors.New("the session ended without an exit status")
	}
	return 0, err
}

func (r *remote) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := r.client.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return noDeadline{c}, nil
}

func (r *remote) listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := await(ctx, func() (net.Listener, error) { return r.client.Listen("tcp", address) }, func(l net.Listener) { _ = l.Close() })
	if err != nil {
		if r.cause() == nil && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", providers.ErrForwardingRefused, err)
		}
		return nil, err
	}
	return listener{l}, nil
}

// await runs a call that knows no context. When the context ends first, the call's late value is dropped; the call itself ends
// at the latest when the connection is found dead.
func await[T any](ctx context.Context, call func() (T, error), drop func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	got := make(chan result)
	gone := make(chan struct{})
	defer close(gone)
	go func() {
		v, err := call()
		select {
		case got <- result{v, err}:
		case <-gone:
			if err == nil {
				drop(v)
			}
		}
	}()
	select {
	case r := <-got:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
