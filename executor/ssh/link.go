package ssh

import (
	"context"
	"io"
	"net"
)

// link is a way to a machine: an SSH connection (remote), or no way at all because it is this one (local).
type link interface {
	connection
	done() <-chan struct{} // closed when everything on it has been told of its end
	// start starts a command, as a login shell would, and returns its three streams.
	start(ctx context.Context, command string) (*process, error)
	dial(ctx context.Context, network, address string) (net.Conn, error)
	listen(ctx context.Context, address string) (net.Listener, error)
	// cause says why the link has ended; nil while it lives.
	cause() error
}

// process is a command that was started. Both outputs must be read to their ends before wait.
type process struct {
	stdin          io.WriteCloser
	stdout, stderr io.Reader
	// wait returns the exit status; an error means that there is none, because the connection or the session ended.
	wait func() (status int, err error)
	// close gives the process up: its streams end. It need not end the process.
	close func()
}
