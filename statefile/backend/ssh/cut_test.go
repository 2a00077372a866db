package ssh_test

import (
	"context"
	"net"
	"sync"
	"time"
)

// cutter dials connections whose traffic can be held up, both ways, as a network does that swallows everything.
type cutter struct {
	mu     sync.Mutex
	frozen chan struct{} // nil while traffic flows; closed when it flows again
}

func (c *cutter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: conn, c: c, closed: make(chan struct{})}, nil
}

func (c *cutter) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = make(chan struct{})
}

func (c *cutter) thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.frozen)
	c.frozen = nil
}

type cutConn struct {
	net.Conn
	c      *cutter
	once   sync.Once
	closed chan struct{}
}

func (c *cutConn) wait() {
	c.c.mu.Lock()
	frozen := c.c.frozen
	c.c.mu.Unlock()
	if frozen == nil {
		return
	}
	select {
	case <-frozen:
	case <-c.closed:
	}
}

// Read holds back what came while traffic is held up.
func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wait()
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	return n, err
}

// Write holds back as well.
func (c *cutConn) Write(b []byte) (int, error) {
	c.wait()
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	return c.Conn.Write(b)
}

// Close cannot be seen by the other end while traffic is held up.
func (c *cutConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.c.mu.Lock()
	frozen := c.c.frozen != nil
	c.c.mu.Unlock()
	if frozen { // reading ends; the connection itself goes with the test's process
		return c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	return c.Conn.Close()
}
