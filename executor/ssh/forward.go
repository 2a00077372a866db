package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"berth.dev/berth/providers"
)

// Dial opens a connection from the machine's point of view. Where the login itself may not open a socket (it is not root,
// or the SSH server refuses forwarding) a small pump in a session does, as root; it leaves nothing behind.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := h.link.dial(ctx, network, address)
	if err == nil {
		return c, nil
	}
	if ctx.Err() == nil && h.link.cause() == nil && needsPump(network, err) {
		c, err = h.pump(ctx, network, address)
		if err == nil {
			return c, nil
		}
	}
	return nil, h.blame(ctx, fmt.Sprintf("dial %s on %s", address, h.name), plain(err))
}

// refusals are what sshd says when its own connect failed, with the error that a connect on the machine itself gives.
var refusals = map[string]syscall.Errno{
	"Connection refused": syscall.ECONNREFUSED, "Connection timed out": syscall.ETIMEDOUT, "Connection reset by peer": syscall.ECONNRESET,
	"No route to host": syscall.EHOSTUNREACH, "Network is unreachable": syscall.ENETUNREACH,
}

// plain turns a refusal of the other side into the error of a local connect: it is no word of the SSH connection's.
func plain(err error) error {
	var refused *xssh.OpenChannelError
	if !errors.As(err, &refused) || refused.Reason != xssh.ConnectionFailed {
		return err
	}
	if errno, ok := refusals[refused.Message]; ok {
		return fmt.Errorf("connect: %w", errno)
	}
	return err
}

// needsPump reports whether root on the host may succeed where the login failed. sshd says the same about a socket that is
// missing, forbidden or not forwarded; about TCP it tells a refusal of its own from one of the other side.
func needsPump(network string, err error) bool {
	var refused *xssh.OpenChannelError
	if errors.As(err, &refused) {
		return network == "unix" || refused.Reason == xssh.Prohibited
	}
	return network == "unix" && errors.Is(err, errPermission)
}

// pump opens the socket by a script in a session of its own, and is a connection over that session's streams.
func (h *Host) pump(ctx context.Context, network, address string) (net.Conn, error) {
	on, free, err := h.place(ctx)
	if err != nil {
		return nil, err
	}
	c, err := on.openPump(ctx, network, address, free)
	if err != nil {
		free()
	}
	return c, on.ended(err)
}

func (h *Host) openPump(ctx context.Context, network, address string, free func()) (net.Conn, error) {
	text, err := program(providers.Command{Script: pumpScript, Args: []string{network, address, pumpPerl, pumpPython}})
	if err != nil {
		return nil, err
	}
	mark := newMark()
	text = sessionText(mark, text)
	p, err := h.link.start(ctx, h.command(sessionCommand(len(text))))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, p.close)
	defer stop()
	said := make(chan []byte, 1)
	go func() { // ends with the session
		var last tail
		_, _ = io.Copy(&last, p.stderr) // its end is the session's end, which wait and stdout tell of
		said <- last.b
	}()
	if _, err := io.WriteString(p.stdin, text); err == nil {
		out := &markReader{r: p.stdout}
		_, err = out.upTo(mark + "\n")
		if err == nil {
			_, err = out.upTo(pumpOpen)
		}
		if err == nil && stop() {
			return &pumpConn{process: p, out: out, free: free, address: pumpAddr{network, address}}, nil
		}
	}
	b := lastWords(p, said)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if i := bytes.Index(b, []byte(mark)); i >= 0 { // what came before is the start-up files'
		_, b, _ = bytes.Cut(b[i:], []byte("\n"))
	}
	if text := lastLines(b); text != "" {
		return nil, errors.New(text)
	}
	return nil, errNotBegun
}

// lastWords closes a session that is of no use, and returns what it has said on standard error. One that ends by itself has a moment to
// finish: its outputs end one after the other.
func lastWords(p *process, said <-chan []byte) []byte {
	moment := time.NewTimer(time.Second)
	defer moment.Stop()
	select {
	case b := <-said:
		p.close()
		return b
	case <-moment.C:
		p.close()
		return <-said
	}
}

// pumpConn is a connection through a pump.
type pumpConn struct {
	process *process
	out     *markReader
	free    func()
	address pumpAddr
}

func (c *pumpConn) Read(p []byte) (int, error)  { return c.out.Read(p) }
func (c *pumpConn) Write(p []byte) (int, error) { return c.process.stdin.Write(p) }

// CloseWrite tells the other side that nothing more will come.
func (c *pumpConn) CloseWrite() error { return c.process.stdin.Close() }

func (c *pumpConn) Close() error {
	c.process.close()
	c.free()
	return nil
}

func (c *pumpConn) LocalAddr() net.Addr              { return c.address }
func (c *pumpConn) RemoteAddr() net.Addr             { return c.address }
func (c *pumpConn) SetDeadline(time.Time) error      { return nil }
func (c *pumpConn) SetReadDeadline(time.Time) error  { return nil }
func (c *pumpConn) SetWriteDeadline(time.Time) error { return nil }

type pumpAddr struct{ network, address string }

func (a pumpAddr) Network() string { return a.network }
func (a pumpAddr) String() string  { return a.address }

// noDeadline is a forwarded connection. SSH channels have no deadlines and say so with an error, which gRPC and HTTP take
// for a broken connection; the contract of providers.Host says that there are none.
type noDeadline struct{ net.Conn }

func (noDeadline) SetDeadline(time.Time) error      { return nil }
func (noDeadline) SetReadDeadline(time.Time) error  { return nil }
func (noDeadline) SetWriteDeadline(time.Time) error { return nil }

// CloseWrite tells the other side that nothing more will come.
func (c noDeadline) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// listener gives its connections no-op deadlines.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return noDeadline{c}, nil
}
