package simhost

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"

	xssh "golang.org/x/crypto/ssh"

	"berth.dev/berth/internal/simhost/shell"
)

// sshServer is a host's SSH server: sessions run in the host's shell, direct-streamlocal leads to its containerd, direct-tcpip to its pods.
type sshServer struct {
	h        *Host
	listener net.Listener
	config   *xssh.ServerConfig
	key      xssh.Signer
	tasks    sync.WaitGroup
}

// Listen serves SSH on a port of this machine's loopback, to whoever has the key. It returns the port's address and the host's key, and goes on
// through reboots until the world is closed.
func (h *Host) Listen(allowed xssh.PublicKey) (net.Addr, xssh.PublicKey, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	seed := sha256.Sum256([]byte("host key of " + h.name))
	key, err := xssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		return nil, nil, err
	}
	s := &sshServer{h: h, listener: l, key: key}
	s.config = &xssh.ServerConfig{
		ServerVersion: "SSH-2.0-simhost",
		PublicKeyCallback: func(_ xssh.ConnMetadata, k xssh.PublicKey) (*xssh.Permissions, error) {
			if string(k.Marshal()) != string(allowed.Marshal()) {
				return nil, errors.New("unknown key")
			}
			return nil, nil
		},
	}
	s.config.AddHostKey(key)
	h.mu.Lock()
	h.server = s
	h.mu.Unlock()
	s.tasks.Go(s.accept)
	return l.Addr(), key.PublicKey(), nil
}

func (h *Host) closeServer() {
	h.mu.Lock()
	s := h.server
	h.server = nil
	h.mu.Unlock()
	if s != nil {
		_ = s.listener.Close() // nobody reads from it any more
		h.Silence(false)
		h.Hangup()
		s.tasks.Wait()
	}
}

func (s *sshServer) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		h := s.h
		h.mu.Lock()
		up, ctx, m := h.up, h.ctx, h.machine
		if up {
			h.conns[c] = true
		}
		h.mu.Unlock()
		if !up {
			_ = c.Close() // nobody is there
			continue
		}
		s.tasks.Go(func() { s.serve(ctx, m, c) })
	}
}

func (s *sshServer) serve(ctx context.Context, m *shell.Machine, c net.Conn) {
	defer func() {
		_ = c.Close()
		s.h.mu.Lock()
		delete(s.h.conns, c)
		s.h.mu.Unlock()
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, channels, requests, err := xssh.NewServerConn(&silenced{Conn: c, h: s.h, done: ctx.Done()}, s.config)
	if err != nil {
		return
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for r := range requests {
			if r.WantReply {
				_ = r.Reply(false, nil) // keep-alives count the answer, forwarded ports are not there
			}
		}
	})
	for ch := range channels {
		tasks.Go(func() { s.channel(ctx, m, ch) })
	}
	cancel()
	_ = conn.Close() // it has ended
	tasks.Wait()
}

// silenced stands still while the operator cannot reach the host.
type silenced struct {
	net.Conn
	h    *Host
	done <-chan struct{}
}

func (c *silenced) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.h.heard(c.done) {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *silenced) Write(p []byte) (int, error) {
	if !c.h.heard(c.done) {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (s *sshServer) channel(ctx context.Context, m *shell.Machine, n xssh.NewChannel) {
	switch n.ChannelType() {
	case "session":
		ch, requests, err := n.Accept()
		if err == nil {
			s.session(ctx, m, ch, requests)
		}
	case "direct-streamlocal@openssh.com":
		var to struct {
			Path, Reserved string
			Port           uint32
		}
		if xssh.Unmarshal(n.ExtraData(), &to) != nil {
			_ = n.Reject(xssh.ConnectionFailed, "bad request") // the client is told by the channel's end, too
			return
		}
		s.forward(ctx, n, "unix", to.Path)
	case "direct-tcpip":
		var to struct {
			Host     string
			Port     uint32
			FromHost string
			FromPort uint32
		}
		if xssh.Unmarshal(n.ExtraData(), &to) != nil {
			_ = n.Reject(xssh.ConnectionFailed, "bad request") // likewise
			return
		}
		s.forward(ctx, n, "tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	default:
		_ = n.Reject(xssh.UnknownChannelType, "unknown channel type") // likewise
	}
}

// forward joins a channel with a connection on the host.
func (s *sshServer) forward(ctx context.Context, n xssh.NewChannel, network, address string) {
	c, err := s.h.dial(ctx, network, address, "ssh")
	if err != nil {
		text := "open failed"
		for _, e := range []syscall.Errno{syscall.ECONNREFUSED, syscall.EHOSTUNREACH} {
			if errors.Is(err, e) && network == "tcp" {
				text = map[syscall.Errno]string{syscall.ECONNREFUSED: "Connection refused", syscall.EHOSTUNREACH: "No route to host"}[e]
			}
		}
		_ = n.Reject(xssh.ConnectionFailed, text) // the client learns it by the connection's end otherwise
		return
	}
	defer c.Close()
	ch, requests, err := n.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	go xssh.DiscardRequests(requests)
	stop := context.AfterFunc(ctx, func() { _ = c.Close(); _ = ch.Close() }) // the host is gone
	defer stop()
	done := make(chan struct{})
	go func() { // ends with either side
		defer close(done)
		_, _ = io.Copy(c, ch)
		_ = c.Close()
	}()
	_, _ = io.Copy(ch, c)
	_ = ch.Close()
	<-done
}

// session runs one command.
func (s *sshServer) session(ctx context.Context, m *shell.Machine, ch xssh.Channel, requests <-chan *xssh.Request) {
	defer ch.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for r := range requests {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		var payload struct{ Command string }
		if xssh.Unmarshal(r.Payload, &payload) != nil {
			return
		}
		_ = r.Reply(true, nil)
		go func() { // the client has closed the session, or the connection has ended
			for r := range requests {
				if r.WantReply {
					_ = r.Reply(false, nil)
				}
			}
			cancel()
		}()
		stop := context.AfterFunc(ctx, func() { _ = ch.Close() }) // ends who reads from it
		defer stop()
		env := map[string]string{"SSH_CONNECTION": "10.77.255.254 50000 " + s.h.address + " 22"}
		code := m.Serve(ctx, payload.Command, env, shell.Streams{In: ch, Out: ch, Err: ch.Stderr()})
		var status struct{ Status uint32 }
		status.Status = uint32(code & 255) //nolint:gosec // a byte
		_, _ = ch.SendRequest("exit-status", false, xssh.Marshal(&status))
		return
	}
}

// Addresses of a host for messages.
func (h *Host) String() string { return fmt.Sprintf("%s (%s)", h.name, h.address) }
