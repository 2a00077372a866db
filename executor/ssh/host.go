package ssh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"berth.dev/berth/providers"
)

// maxSessions is how many sessions run at once on a connection beside the standing shell. sshd allows ten, and frees one a little
// after the client saw it end. Who needs more opens further connections (more.go).
const maxSessions = 5

// shellPatience is how long a command waits for the standing shell before it takes a session of its own.
const shellPatience = 25 * time.Millisecond

// Host is one machine with its connection open. It is useless once its connection has ended: ask the Pool again.
type Host struct {
	name  string
	link  link
	sudo  bool
	any   bool // a login that is not root's will do
	log   *slog.Logger
	shell chan *shell   // holds the standing shell when nobody uses it
	slots chan struct{} // holds a token per running session

	more      *more // further connections to the same machine
	resources resources
	closed    chan struct{} // closed when the link has ended and what lived on it is closed
}

var _ providers.Host = (*Host)(nil)

// newHost takes over an open link and opens the standing shell on it, which proves that commands run as root.
func newHost(ctx context.Context, name string, l link, sudo bool, o Options) (*Host, error) {
	h := &Host{
		name: name, link: l, sudo: sudo, any: o.AnyUser, log: o.Log, more: newMore(nil),
		shell: make(chan *shell, 1), slots: make(chan struct{}, maxSessions), closed: make(chan struct{}),
	}
	s, err := h.openShell(ctx)
	if err != nil {
		l.close()
		return nil, err
	}
	h.shell <- s
	go func() { // ends with the link
		defer close(h.closed)
		<-l.done()
		h.more.close()
		h.resources.close()
	}()
	return h, nil
}

// Name is the node's name in the inventory.
func (h *Host) Name() string { return h.name }

// Run executes a script as root: in the standing shell, or in a session of its own when it has streams or the shell is
// busy for long. A cancelled script is ended on the host, with everything that it started.
func (h *Host) Run(ctx context.Context, c providers.Command) (providers.Output, error) {
	text, err := program(c)
	if err != nil {
		return providers.Output{}, fmt.Errorf("run a script on %s: %w", h.name, err)
	}
	out, status, err := h.run(ctx, c, text)
	if err != nil {
		return out, h.blame(ctx, "run a script on "+h.name, err)
	}
	if status != 0 {
		return out, &providers.ExitError{Host: h.name, Status: status, Stderr: lastLines(out.Stderr)}
	}
	return out, nil
}

func (h *Host) run(ctx context.Context, c providers.Command, text string) (providers.Output, int, error) {
	if c.Stdin == nil && c.Stdout == nil {
		if s := h.shellSoon(ctx); s != nil {
			return h.runInShell(ctx, s, text)
		}
	}
	if c.Stdin != nil || c.Stdout != nil {
		return h.runPlaced(ctx, c, text)
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
		return h.runInSession(ctx, c, text)
	case s := <-h.shell:
		return h.runInShell(ctx, s, text)
	case <-ctx.Done():
		return providers.Output{}, 0, ctx.Err()
	case <-h.link.done():
		return providers.Output{}, 0, h.link.cause()
	}
}

// shellSoon returns the standing shell if it is free within shellPatience, else nil.
func (h *Host) shellSoon(ctx context.Context) *shell {
	select {
	case s := <-h.shell:
		return s
	default:
	}
	patience := time.NewTimer(shellPatience)
	defer patience.Stop()
	select {
	case s := <-h.shell:
		return s
	case <-patience.C:
	case <-ctx.Done():
	}
	return nil
}

// Listen opens a listener on the machine's loopback whose connections arrive here.
func (h *Host) Listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := h.link.listen(ctx, address)
	if err != nil {
		return nil, h.blame(ctx, "listen on "+address+" of "+h.name, err)
	}
	return l, nil
}

// Resource returns what make returned for the key on this connection.
func (h *Host) Resource(key string, make func() (any, error)) (any, error) {
	if h.link.cause() != nil { // what lives on the connection is closed a little later than it ends
		return nil, h.blame(context.Background(), "use "+key+" of "+h.name, errEnded)
	}
	v, err := h.resources.get(key, make)
	if errors.Is(err, errEnded) {
		return nil, h.blame(context.Background(), "use "+key+" of "+h.name, err)
	}
	return v, err
}

// blame wraps an error with what was being done and makes it ErrUnreachable when the connection has ended. The context's
// own error goes first: a caller who gave up learns that, not what giving up broke.
func (h *Host) blame(ctx context.Context, doing string, err error) error {
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	if errors.Is(err, providers.ErrUnreachable) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if cause := h.link.cause(); cause != nil {
		return fmt.Errorf("%s: %w: %w", doing, providers.ErrUnreachable, cause)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func (h *Host) lives() bool { return h.link.cause() == nil }

// close ends the connection and what lives on it.
func (h *Host) close() {
	h.link.close()
	<-h.closed
}
