package ssh

import (
	"context"
	"errors"
	"net"

	xssh "golang.org/x/crypto/ssh"
)

// openThrough reaches the target's port from its jump host, whose connection all nodes behind it share.
func (p *Pool) openThrough(ctx context.Context, t *target) (net.Conn, error) {
	jump, err := p.jump(ctx, t.via)
	if err != nil {
		return nil, err
	}
	c, err := jump.client.DialContext(ctx, "tcp", t.address())
	var refused *xssh.OpenChannelError
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &refused) && refused.Reason == xssh.Prohibited:
		return nil, refuse(NotReached, err, "the jump host %s does not forward connections. Set AllowTcpForwarding yes in its sshd_config.",
			t.via.address())
	}
	return nil, refuse(NotReached, err, "the jump host %s cannot reach %s (%v). Check that the host is up and its address is right as seen from "+
		"there.", t.via.address(), t.address(), err)
}

// jump returns the connection to a jump host. It is verified like any host.
func (p *Pool) jump(ctx context.Context, t *target) (*remote, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	s := p.jumps[t.chain()]
	if s == nil {
		s = newSlot[*remote]()
		p.jumps[t.chain()] = s
	}
	p.mu.Unlock()
	r, err := s.get(ctx, func() (*remote, error) {
		r, err := p.dial(ctx, t)
		if err == nil {
			r.warm(ctx)
		}
		return r, err
	})
	var ce *ConnectError
	if errors.As(err, &ce) {
		return nil, &ConnectError{Cause: ce.Cause, Detail: "jump host: " + ce.Detail, Err: ce.Err}
	}
	return r, err
}

// warm runs a session: sshd delays small packets of a connection that has never had one. A jump host that allows none
// works all the same.
func (r *remote) warm(ctx context.Context) {
	s, err := await(ctx, r.client.NewSession, func(s *xssh.Session) { _ = s.Close() })
	if err != nil {
		return
	}
	defer s.Close()
	_, _ = await(ctx, func() (struct{}, error) { return struct{}{}, s.Run("exit 0") }, func(struct{}) {})
}
