package simhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/simhost/shell"
	"berth.dev/berth/providers"
)

// deadAfter is how long an operator waits for a host that does not answer before the connection counts as lost, unless its pool says otherwise.
const deadAfter = 10 * time.Second

// Pool reaches hosts without SSH: it is a dialer for the executor. Connections end as SSH's would, with the host's power or when it does not
// answer for ten seconds.
type Pool struct {
	// DeadAfter is how long it waits for a host that does not answer before the connection counts as lost; 10 s when World.Pool has made it.
	DeadAfter time.Duration

	// Name is told to Options.Called.
	Name string

	w *World

	mu    sync.Mutex
	conns map[string]*Direct
}

// Pool returns a dialer that shares no connection with others.
func (w *World) Pool() *Pool { return &Pool{DeadAfter: deadAfter, w: w, conns: map[string]*Direct{}} }

// Nodes are the hosts as a configuration would name them, for use with Pool.
func (w *World) Nodes() []*api.Node {
	var all []*api.Node
	for _, h := range w.hosts {
		all = append(all, &api.Node{Name: h.name, Address: h.address})
	}
	return all
}

// Host returns a connection to the node's host.
func (p *Pool) Host(ctx context.Context, n *api.Node) (providers.Host, error) {
	h := p.w.Host(n.Name)
	if h == nil {
		return nil, fmt.Errorf("%w: there is no host %s", providers.ErrUnreachable, n.Name)
	}
	if d := p.conn(n.Name, nil); d != nil {
		return d, nil
	}
	d, err := h.connect(ctx, p.DeadAfter)
	if err != nil {
		return nil, err
	}
	d.by = p.Name
	if first := p.conn(n.Name, d); first != d {
		d.end(errors.New("another connection was faster"))
		return first, nil
	}
	return d, nil
}

// conn returns the connection to a host, which is d when there was none.
func (p *Pool) conn(name string, d *Direct) *Direct {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.conns[name]; old != nil && old.ctx.Err() == nil {
		return old
	}
	if d != nil {
		p.conns[name] = d
	}
	return d
}

// Close ends all connections, as the operator's death does. Scripts that run on hosts go on to their end, or to the end of their input.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.conns {
		d.end(errors.New("the connection was closed"))
	}
	clear(p.conns)
}

// Direct is a connection to a host.
type Direct struct {
	h       *Host
	dead    time.Duration // see Pool.DeadAfter
	by      string        // likewise Name
	machine *shell.Machine
	alive   context.Context // ends with the host's power
	ctx     context.Context // ends with the connection
	cancel  context.CancelCauseFunc

	mu        sync.Mutex
	resources map[string]any
}

var _ providers.Host = (*Direct)(nil)

// Connect opens a connection.
func (h *Host) Connect(ctx context.Context) (*Direct, error) { return h.connect(ctx, deadAfter) }

func (h *Host) connect(ctx context.Context, dead time.Duration) (*Direct, error) {
	h.mu.Lock()
	up, alive, m := h.up, h.ctx, h.machine
	h.mu.Unlock()
	if !up || !h.patient(ctx, dead) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %s did not answer", providers.ErrUnreachable, h.name)
	}
	d := &Direct{h: h, dead: dead, machine: m, alive: alive, resources: map[string]any{}}
	d.ctx, d.cancel = context.WithCancelCause(alive)
	context.AfterFunc(d.ctx, d.closeResources)
	return d, nil
}

// patient waits for the host to be heard of, at most as long as a connection does.
func (h *Host) patient(ctx context.Context, dead time.Duration) bool {
	h.mu.Lock()
	silent := h.silent
	h.mu.Unlock()
	if !silent {
		return true
	}
	limited, cancel := context.WithTimeout(ctx, dead)
	defer cancel()
	return h.heard(limited.Done())
}

func (d *Direct) end(why error) { d.cancel(why) }

func (d *Direct) closeResources() {
	d.mu.Lock()
	all := d.resources
	d.resources = map[string]any{}
	d.mu.Unlock()
	for _, key := range sortedKeys(all) {
		if c, ok := all[key].(io.Closer); ok {
			_ = c.Close() // what it was connected to is gone
		}
	}
}

// arrive is the way of an operation to the host and, after it, of its answer back: either may take until the host is heard of again, or lose the
// connection.
func (d *Direct) arrive(ctx context.Context) error {
	if !d.h.patient(ctx, d.dead) && ctx.Err() == nil {
		d.end(fmt.Errorf("the host has not answered for %s", d.dead))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return d.lost()
}

func (d *Direct) lost() error {
	if d.ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", providers.ErrUnreachable, d.h.name, context.Cause(d.ctx))
}

// Name is the host's name.
func (d *Direct) Name() string { return d.h.name }

// Run runs a script on the host.
func (d *Direct) Run(ctx context.Context, c providers.Command) (providers.Output, error) {
	if err := d.arrive(ctx); err != nil {
		return providers.Output{}, err
	}
	alive, kill := context.WithCancel(d.alive)
	var out, errs sink
	s := shell.Streams{In: d.input(c.Stdin), Out: &out, Err: &errs}
	if c.Stdout != nil {
		s.Out = c.Stdout
	}
	env := map[string]string{"SSH_CONNECTION": "10.77.255.254 50000 " + d.h.address + " 22", "LC_ALL": "C"}
	ended := make(chan int, 1)
	go func() { // ends with the script, which a connection that is lost does not end
		defer kill()
		ended <- d.machine.Run(alive, c.Script, c.Args, env, s)
	}()
	var status int
	select {
	case status = <-ended:
	case <-d.ctx.Done():
		return providers.Output{}, d.lost()
	case <-ctx.Done():
		if err := d.lost(); err != nil {
			return providers.Output{}, err
		}
		kill() // who gives up ends what he has begun
		<-ended
		return providers.Output{}, context.Cause(ctx)
	}
	o := providers.Output{Stdout: out.b, Stderr: errs.b}
	if err := d.arrive(ctx); err != nil {
		return o, err
	}
	if status != 0 {
		return o, &providers.ExitError{Host: d.h.name, Status: status, Stderr: lastLines(string(errs.b))}
	}
	return o, nil
}

// input is standard input, which ends with the connection.
func (d *Direct) input(r io.Reader) io.Reader {
	if r == nil {
		return nil
	}
	return cutReader{r, d}
}

type cutReader struct {
	r io.Reader
	d *Direct
}

func (c cutReader) Read(p []byte) (int, error) {
	if c.d.ctx.Err() != nil {
		return 0, io.EOF
	}
	return c.r.Read(p)
}

// lastLines is the end of what a script said, as executor/ssh keeps it.
func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// Dial opens a connection from the host's point of view. It ends with this connection, and stands still while the host is not heard.
func (d *Direct) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := d.arrive(ctx); err != nil {
		return nil, err
	}
	c, err := d.h.dial(ctx, network, address, d.by)
	if err != nil {
		if lost := d.lost(); lost != nil {
			return nil, lost
		}
		return nil, err
	}
	return newTunnel(d, c), nil
}

// Listen is not there: nothing on a simulated host would connect to it.
func (d *Direct) Listen(context.Context, string) (net.Listener, error) {
	return nil, providers.ErrForwardingRefused
}

// Resource makes a thing once per connection.
func (d *Direct) Resource(key string, make func() (any, error)) (any, error) {
	if err := d.lost(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if v, ok := d.resources[key]; ok {
		return v, nil
	}
	v, err := make()
	if err == nil {
		d.resources[key] = v
	}
	return v, err
}

// tunnel is a connection through the operator's.
type tunnel struct {
	net.Conn
	d    *Direct
	stop func() bool
}

func newTunnel(d *Direct, c net.Conn) *tunnel {
	t := &tunnel{Conn: c, d: d}
	t.stop = context.AfterFunc(d.ctx, func() { _ = c.Close() }) // its connection is gone
	return t
}

// Read gives what has come when the host is heard.
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if e := t.wait(); e != nil {
		return 0, e
	}
	return n, err
}

// Write sends when the host is heard.
func (t *tunnel) Write(p []byte) (int, error) {
	if err := t.wait(); err != nil {
		return 0, err
	}
	return t.Conn.Write(p)
}

func (t *tunnel) wait() error { return t.d.arrive(t.d.ctx) }

// Close ends it.
func (t *tunnel) Close() error {
	t.stop()
	return t.Conn.Close()
}

// Deadlines are not kept: the contract of providers.Host says so.
func (t *tunnel) SetDeadline(time.Time) error      { return nil }
func (t *tunnel) SetReadDeadline(time.Time) error  { return nil }
func (t *tunnel) SetWriteDeadline(time.Time) error { return nil }
