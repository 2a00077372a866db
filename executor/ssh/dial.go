package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/skeema/knownhosts"
	xssh "golang.org/x/crypto/ssh"

	"berth.dev/berth/api"
)

// maxDials is how many handshakes with one address run at once: sshd drops some of more than ten.
const maxDials = 8

// handshakeTries is how often a handshake is tried that the server dropped, which it does when it has too many at once.
const handshakeTries = 4

// connect opens a node's connection and its standing shell.
func (p *Pool) connect(ctx context.Context, n *api.Node) (*Host, error) {
	if n.SSH.Become != "" && n.SSH.Become != becomeSudo {
		return nil, refuse(BadSettings, nil, "become = %q is not supported. Write \"sudo\", or leave it out.", n.SSH.Become)
	}
	if n.Address == api.LocalAddress {
		return newHost(ctx, n.Name, newLocal(), n.SSH.Become == becomeSudo, p.opts)
	}
	t, err := p.opts.targetOf(n)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	r, err := p.dial(ctx, t)
	if err != nil {
		return nil, err
	}
	h, err := newHost(ctx, n.Name, r, n.SSH.Become == becomeSudo && t.user != "root", p.opts)
	if err != nil {
		return nil, err
	}
	p.opts.Log.Debug("connected", "node", n.Name, "address", t.address(), "user", t.user, "took", time.Since(began))
	return h, nil
}

// dial reaches a target, through its jump hosts where it has some, verifies it and logs in.
func (p *Pool) dial(ctx context.Context, t *target) (*remote, error) {
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	release, err := p.dialTurn(limited, t.address())
	if err != nil {
		return nil, notReached(t, limited, err)
	}
	defer release()
	for try := 1; ; try++ {
		r, err := p.tryDial(limited, t)
		if err == nil || try == handshakeTries || !dropped(err) {
			return r, notReached(t, limited, err)
		}
		if err := pause(limited, time.Duration(try)*200*time.Millisecond); err != nil {
			return nil, notReached(t, limited, err)
		}
	}
}

// dialTurn waits until fewer than maxDials handshakes with the address run.
func (p *Pool) dialTurn(ctx context.Context, address string) (release func(), err error) {
	p.mu.Lock()
	turn := p.dials[address]
	if turn == nil {
		turn = make(chan struct{}, maxDials)
		p.dials[address] = turn
	}
	p.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *Pool) tryDial(ctx context.Context, t *target) (*remote, error) {
	verify, err := hostKeysFor(t)
	if err != nil {
		return nil, err
	}
	keys, err := keysFor(ctx, t)
	if err != nil {
		return nil, err
	}
	defer keys.close()
	conn, err := p.open(ctx, t)
	if err != nil {
		return nil, err
	}
	seen := &lastSeen{Conn: conn}
	client, err := handshake(ctx, seen, t, verify, keys)
	if err != nil {
		return nil, err
	}
	r := newRemote(client, seen, p.opts.KeepAlive, p.opts.DeadAfter)
	r.target = t
	return r, nil
}

// open reaches the target's port: by TCP, or through the jump host before it.
func (p *Pool) open(ctx context.Context, t *target) (net.Conn, error) {
	if t.via == nil {
		return p.opts.Dial(ctx, "tcp", t.address())
	}
	return p.openThrough(ctx, t)
}

// handshake verifies the host and logs in. The library knows no context: closing the connection ends it.
func handshake(ctx context.Context, conn net.Conn, t *target, verify hostKeys, k *keys) (*xssh.Client, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	var keyErr error // the library does not pass it on as it is
	c, channels, requests, err := xssh.NewClientConn(conn, t.keyAddress(), &xssh.ClientConfig{
		User:              t.user,
		Auth:              []xssh.AuthMethod{xssh.PublicKeys(k.signers...)},
		HostKeyAlgorithms: verify.algorithms,
		ClientVersion:     "SSH-2.0-berth",
		HostKeyCallback: func(address string, remote net.Addr, key xssh.PublicKey) error {
			keyErr = verify.check(address, remote, key)
			t.shown = key
			return keyErr
		},
	})
	inTime := stop()
	switch {
	case keyErr != nil:
		_ = conn.Close() // the key's error counts
		return nil, keyErr
	case err != nil && strings.Contains(err.Error(), "unable to authenticate"):
		return nil, k.refused(t, err)
	case err != nil && strings.Contains(err.Error(), "no common algorithm for host key"):
		return nil, noCommonKey(t, verify, err)
	case err != nil:
		_ = conn.Close() // the first error counts
		return nil, err
	case !inTime:
		return nil, ctx.Err()
	}
	return xssh.NewClient(c, channels, requests), nil
}

func noCommonKey(t *target, verify hostKeys, err error) error {
	return refuse(HostKeyChanged, err, "%s has no host key of a kind that is known for it (%s). Either its keys were made anew, or somebody "+
		"stands between and pretends to be it. If you know that they were made anew, run: ssh-keygen -R '%s' && %s",
		t.address(), strings.Join(verify.algorithms, ", "), knownhosts.Normalize(t.keyAddress()), keyscan(t))
}

// dropped reports whether the server ended the connection before the handshake was over, as sshd does at random when too
// many connect at once (MaxStartups).
func dropped(err error) bool {
	var ce *ConnectError
	return !errors.As(err, &ce) && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}

// notReached gives the sentences for what is neither a key nor a setting.
func notReached(t *target, ctx context.Context, err error) error {
	var ce *ConnectError
	if err == nil || errors.As(err, &ce) {
		return err
	}
	var dns *net.DNSError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return refuse(NotReached, err, "%s did not answer within %s. Check that the host is up, its address and port are right, and no "+
			"firewall is in between.", t.address(), t.timeout)
	case errors.As(err, &dns):
		return refuse(NotReached, err, "the name %s cannot be resolved (%v). Correct the node's address.", t.host, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return refuse(NotReached, err, "%s refuses the connection. Check that the SSH server runs there and listens on this port.", t.address())
	case dropped(err):
		return refuse(NotReached, err, "%s ended the connection during the handshake (%v), %d times. Check that an SSH server listens there "+
			"and that it does not limit this machine (MaxStartups, PerSourceMaxStartups, fail2ban).", t.address(), err, handshakeTries)
	}
	return refuse(NotReached, err, "%s", fmt.Sprintf("reach %s: %v. Check that the host is up and its address is right.", t.address(), err))
}
