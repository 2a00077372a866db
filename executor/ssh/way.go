package ssh

import (
	"context"
	"fmt"

	xssh "golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"berth.dev/berth/api"
)

// Way is how a host is reached, for somebody who will reach it so with a key of his own.
type Way struct {
	HostName, Port, User string
	HostKey              xssh.PublicKey // that it has shown, and that was verified
	Via                  *Way           // the jump host before it; nil for none
}

// Known is the line of known_hosts for the host under another name.
func (w *Way) Known(alias string) string { return xknownhosts.Line([]string{alias}, w.HostKey) }

// Way connects to a node, if that has not been done, and says how; nil for this machine.
func (p *Pool) Way(ctx context.Context, node *api.Node) (*Way, error) {
	h, err := p.Host(ctx, node)
	if err != nil {
		return nil, err
	}
	r, ok := h.(*Host).link.(*remote)
	if !ok {
		return nil, nil
	}
	return p.way(ctx, r)
}

func (p *Pool) way(ctx context.Context, r *remote) (*Way, error) {
	t := r.target
	w := &Way{HostName: t.host, Port: t.port, User: t.user, HostKey: t.shown}
	if w.HostKey == nil {
		return nil, fmt.Errorf("%s has shown no host key", t.address())
	}
	if t.via == nil {
		return w, nil
	}
	jump, err := p.jump(ctx, t.via)
	if err != nil {
		return nil, err
	}
	w.Via, err = p.way(ctx, jump)
	return w, err
}
