package ssh

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// keepAlive asks a silent host now and then whether it is there, and ends the connection when it does not answer, so that
// everything that waits on it fails at once instead of when TCP gives up. Any byte counts as an answer: behind a large
// upload on a slow line the answer itself may come late.
func (r *remote) keepAlive(every, deadAfter time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-r.ended:
			return
		case <-tick.C:
		}
		if !r.answers(deadAfter) {
			r.fail(silentError(deadAfter))
			return
		}
	}
}

// silentError is the end of a connection from which nothing has come for a time.
type silentError time.Duration

func (e silentError) Error() string {
	return fmt.Sprintf("the host has not answered for %s", e.Silent())
}

// Silent is that time.
func (e silentError) Silent() time.Duration { return time.Duration(e) }

// answers reports whether the host said anything within the time. It returns early when the connection ends.
func (r *remote) answers(within time.Duration) bool {
	asked := time.Now()
	reply := make(chan struct{})
	go func() { // ends with the reply or the connection
		defer close(reply)
		// Servers answer requests that they do not know too; only the answer's coming counts.
		_, _, _ = r.client.SendRequest("keepalive@openssh.com", true, nil)
	}()
	limit := time.NewTimer(within)
	defer limit.Stop()
	for {
		select {
		case <-reply:
			return true
		case <-r.ended:
			return true
		case <-limit.C:
		}
		heard := r.seen.at()
		if !heard.After(asked) {
			return false
		}
		asked = heard
		limit.Reset(within - min(within, time.Since(heard)))
	}
}

// lastSeen is a network connection that remembers when it last read something, and the error that ended it: what was
// opened on it learns of its end in any order, but never before broken does.
type lastSeen struct {
	net.Conn
	nanos atomic.Int64
	end   atomic.Pointer[error]
}

func (c *lastSeen) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.nanos.Store(time.Now().UnixNano())
	}
	if err != nil {
		c.end.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (c *lastSeen) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.end.CompareAndSwap(nil, &err)
	}
	return n, err
}

// broken returns the error that ended the connection, nil while it lives.
func (c *lastSeen) broken() error {
	if err := c.end.Load(); err != nil {
		return endOf(*err)
	}
	return nil
}

// endOf words the end of a connection: that the other side closed it is no error of the network's.
func endOf(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return errors.New("the host closed the SSH connection")
	}
	return err
}

func (c *lastSeen) at() time.Time { return time.Unix(0, c.nanos.Load()) }
