// Package ssh reaches hosts: it implements providers.Host over one SSH connection per node, or on this machine itself
// for a node whose address is "local".
//
// On a connection the first thing opened is a shell that stays (shell.go): sshd turns Nagle's algorithm off only when a
// session runs, and a command in a standing shell costs a tenth of a millisecond instead of three. Commands that need
// standard input, or whose output is wanted as it comes, get a session of their own (session.go). Sockets are
// forwarded over the same connection (forward.go).
//
// Of the user's ssh configuration these keywords are read: HostName, Port, User, IdentityFile, CertificateFile,
// IdentitiesOnly, IdentityAgent, UserKnownHostsFile, GlobalKnownHostsFile, HostKeyAlias, ProxyJump and ConnectTimeout.
// ProxyCommand is refused by name. Host keys are always verified; StrictHostKeyChecking cannot turn that off. Nothing
// ever asks for a password or a passphrase.
//
// The package decides nothing about what runs on a host. Start reading at [Pool.Host], then host.go.
package ssh

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/user"
	"sync"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// Options says where a Pool finds what belongs to the user, and how patient it is. The zero value reads no ssh
// configuration, asks no agent and has no default keys; FromEnvironment fills it in for the user who runs the program.
type Options struct {
	Home        string // the user's home directory, for ~/.ssh; "" for none
	User        string // whom to log in as when neither the node nor the ssh configuration says so; "" means root
	AgentSocket string // the ssh agent's socket; "" for none
	System      string // the system's ssh configuration directory, "/etc/ssh"; "" for none
	Dir         string // what relative file names of nodes are relative to

	// Ways is a file in the form of ssh's configuration that says for each node, by its name in the inventory, how to reach it. It counts in place of
	// the nodes' own settings and of the user's configuration; "" for none.
	Ways string

	ConnectTimeout time.Duration // for reaching, verifying and logging in to one host; 0 means 15 s
	KeepAlive      time.Duration // how often a silent connection is asked whether it lives; 0 means 5 s
	DeadAfter      time.Duration // how long a connection may stay silent when asked; 0 means 10 s

	// AnyUser takes logins that are not root's: for machines that keep a file, not for hosts that run pods.
	AnyUser bool

	// Dial opens the TCP connection; nil means net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *slog.Logger // nil for silence
}

// FromEnvironment returns the options of the user who runs the program: home directory, login name, SSH_AUTH_SOCK.
func FromEnvironment() Options {
	o := Options{AgentSocket: os.Getenv("SSH_AUTH_SOCK"), System: "/etc/ssh"}
	if home, err := os.UserHomeDir(); err == nil {
		o.Home = home
	}
	if u, err := user.Current(); err == nil {
		o.User = u.Username
	}
	return o
}

func (o Options) complete() Options {
	if o.User == "" {
		o.User = "root"
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 15 * time.Second
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = 5 * time.Second
	}
	if o.DeadAfter == 0 {
		o.DeadAfter = 10 * time.Second
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Pool keeps one connection per node, shared by everyone who asks for it.
type Pool struct {
	opts Options

	mu     sync.Mutex
	closed bool
	nodes  map[nodeKey]*slot[*Host]
	jumps  map[string]*slot[*remote] // by the chain of hosts that leads to them
	dials  map[string]chan struct{}  // limits parallel handshakes with one address
}

// nodeKey is what makes two nodes share a connection: everything that decides whom we talk to, and as whom.
type nodeKey struct {
	name, address string
	ssh           api.SSH
}

// NewPool returns an empty pool. Close it when done.
func NewPool(o Options) *Pool {
	return &Pool{
		opts: o.complete(), nodes: map[nodeKey]*slot[*Host]{},
		jumps: map[string]*slot[*remote]{}, dials: map[string]chan struct{}{},
	}
}

// Host returns the node's host, connecting to it at the first call and again after its connection was lost. The error is
// a *ConnectError, which is providers.ErrUnreachable, or the context's. After a failure further calls fail at once
// with the same error for a time that grows from half a second to five, so that a thousand steps on a dead host do not
// each wait for it.
func (p *Pool) Host(ctx context.Context, node *api.Node) (providers.Host, error) {
	s, err := p.slotOf(nodeKey{node.Name, node.Address, node.SSH})
	if err != nil {
		return nil, err
	}
	h, err := s.get(ctx, func() (*Host, error) {
		h, err := p.connect(ctx, node)
		if err == nil {
			h.more.open = func(ctx context.Context) (*Host, error) { return p.connect(ctx, node) }
		}
		return h, err
	})
	if err != nil {
		return nil, named(node.Name, err)
	}
	return h, nil
}

// errClosed: the pool was closed, which only its owner does.
var errClosed = errors.New("ssh: the pool is closed")

func (p *Pool) slotOf(k nodeKey) (*slot[*Host], error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	s := p.nodes[k]
	if s == nil {
		s = newSlot[*Host]()
		p.nodes[k] = s
	}
	return s, nil
}

// Close ends every connection and waits until all that ran on them has noticed.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	nodes, jumps := p.nodes, p.jumps
	p.nodes, p.jumps = nil, nil
	p.mu.Unlock()
	for _, s := range nodes {
		s.shut()
	}
	for _, s := range jumps {
		s.shut()
	}
	return nil
}
