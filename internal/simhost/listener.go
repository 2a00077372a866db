package simhost

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/test/bufconn"
)

// listener is containerd's socket. Who is at the other end of a connection is its address there.
type listener struct {
	*bufconn.Listener

	mu      sync.Mutex // held while a connection is on its way, so that they come in the order of their names
	callers chan string
}

func newListener() *listener {
	return &listener{Listener: bufconn.Listen(32 << 10), callers: make(chan string, 1)}
}

func (l *listener) dial(ctx context.Context, by string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.DialContext(ctx) // until it is accepted
	if err == nil {
		l.callers <- by
	}
	return c, err
}

// Accept waits for a connection.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return named{c, caller(<-l.callers)}, nil
}

// named is a connection of somebody.
type named struct {
	net.Conn
	by caller
}

// RemoteAddr is who is at the other end.
func (c named) RemoteAddr() net.Addr { return c.by }

type caller string

// Network is none.
func (c caller) Network() string { return "sim" }

// String is the name of the pool that it has come through.
func (c caller) String() string { return string(c) }

// callerOf is by whom a call was made; "" for one of whom nothing is known.
func callerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}
