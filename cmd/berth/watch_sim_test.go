package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/all"
	"berth.dev/berth/providers/image"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/local"
)

// simDog is a process of berth watch in which everything is real but SSH: what it reaches hosts and state by can be stopped, as SIGSTOP stops a process, and
// cut for good, as kill -9 does.
type simDog struct {
	name   string
	gate   *gate
	store  *gatedStore
	pool   *simhost.Pool
	parts  *watchParts
	cancel context.CancelFunc
	ended  chan error
}

// The times of simulated watchdogs.
const (
	simGrace     = 10 * time.Second
	simLease     = 6 * time.Second
	simDeadAfter = simGrace / 2
)

func startSimDog(t testing.TB, ctx context.Context, name string, w *simhost.World, state, dir string, log io.Writer, wrote wrote) *simDog {
	t.Helper()
	return startSimDogBy(t, ctx, time.Now, name, w, state, dir, log, wrote)
}

// startSimDogBy starts one on a machine with a clock of its own.
func startSimDogBy(t testing.TB, ctx context.Context, clock func() time.Time, name string, w *simhost.World, state, dir string, log io.Writer, wrote wrote) *simDog {
	t.Helper()
	d := &simDog{name: name, gate: &gate{}, pool: w.Pool(), ended: make(chan error, 1)}
	d.pool.DeadAfter, d.pool.Name = simDeadAfter, name
	d.store = newGatedStore(t, state, d.gate, wrote)
	proc := &Process{Now: clock, Version: "test", Stdout: io.Discard, Stderr: io.Discard, NoSystem: true}
	g := &globals{proc: proc, dir: dir, stopper: &stopper{stop: make(chan struct{})}, watching: true}
	g.open()
	images := image.NewBuilder(image.BuilderOptions{Dir: dir, CacheDir: filepath.Join(dir, "layers")})
	r := &round{
		g: g, store: d.store, module: &hcl.Module{}, emit: func(api.Event) {}, warnOne: func(api.Diagnostic) {},
		images: images, pool: &gatedPool{d.pool, d.gate}, registry: all.Registry(all.Options{Images: images}),
	}
	r.opts.parallelism = defaultParallelism
	logger := slog.New(slog.NewTextHandler(log, nil)).With("by", name)
	d.parts = newWatchParts(r, watchCommand{drift: "repair", approve: "auto", grace: simGrace, lease: simLease}, logger, g.stopper.Graceful(), nil, nil)
	ctx, d.cancel = context.WithCancel(ctx)
	go func() { d.ended <- d.parts.dog.Run(ctx) }()
	return d
}

// kill ends the process: nothing that it does has an effect from now on.
func (d *simDog) kill() {
	d.gate.kill()
	d.store.release()
	d.pool.Close()
	d.cancel()
}

// gate is what a process' calls pass.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil while it is open
	opened time.Time     // when it was opened last
	dead   bool
}

var errDead = errors.New("the process is dead")

// pass waits while the process is stopped. It reports whether it was.
func (g *gate) pass() (stopped bool, err error) {
	for {
		g.mu.Lock()
		closed, dead := g.closed, g.dead
		g.mu.Unlock()
		switch {
		case dead:
			return stopped, errDead
		case closed == nil:
			return stopped, nil
		}
		stopped = true
		<-closed
	}
}

// alive reports whether the process is not dead.
func (g *gate) alive() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead {
		return errDead
	}
	return nil
}

func (g *gate) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil && !g.dead {
		g.closed = make(chan struct{})
	}
}

func (g *gate) cont() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed, g.opened = nil, time.Now()
	}
}

// openSince is since when the process runs; now while it is stopped.
func (g *gate) openSince() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		return time.Now()
	}
	return g.opened
}

func (g *gate) kill() {
	g.mu.Lock()
	g.dead = true
	g.mu.Unlock()
	g.cont()
}

// gatedPool reaches hosts through the gate.
type gatedPool struct {
	*simhost.Pool
	gate *gate
}

// Close ends the connections.
func (p *gatedPool) Close() error {
	p.Pool.Close()
	return nil
}

// Host connects.
func (p *gatedPool) Host(ctx context.Context, n *api.Node) (providers.Host, error) {
	if _, err := p.gate.pass(); err != nil {
		return nil, err
	}
	h, err := p.Pool.Host(ctx, n)
	if err != nil {
		return nil, err
	}
	return &gatedHost{h, p.gate}, nil
}

type gatedHost struct {
	providers.Host
	gate *gate
}

// Run runs a script. One that was to be sent just when the process was stopped is sent when it goes on, whatever has become of its reason.
func (h *gatedHost) Run(ctx context.Context, c providers.Command) (providers.Output, error) {
	stopped, err := h.gate.pass()
	if err != nil {
		return providers.Output{}, err
	}
	if stopped {
		ctx = context.WithoutCancel(ctx)
	}
	out, err := h.Host.Run(ctx, c)
	if _, derr := h.gate.pass(); derr != nil {
		return providers.Output{}, derr
	}
	return out, err
}

// Dial opens a connection whose bytes pass the gate.
func (h *gatedHost) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := h.gate.pass(); err != nil {
		return nil, err
	}
	c, err := h.Host.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &gatedConn{c, h.gate}, nil
}

type gatedConn struct {
	net.Conn
	gate *gate
}

// Read passes the gate when something has come.
func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if _, derr := c.gate.pass(); derr != nil {
		return 0, derr
	}
	return n, err
}

// Write passes the gate first.
func (c *gatedConn) Write(b []byte) (int, error) {
	if _, err := c.gate.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// gatedStore is the state's files through the gate.
type gatedStore struct {
	*local.Store
	gate  *gate
	wrote wrote // is told what was written

	mu     sync.Mutex
	leases map[statefile.Lease]bool
}

// wrote is told of a state that was written: what it was based on, and its version.
type wrote func(data []byte, before, version string)

func newGatedStore(t testing.TB, state string, g *gate, wrote wrote) *gatedStore {
	t.Helper()
	files, err := local.New(state)
	if err != nil {
		t.Fatal(err)
	}
	return &gatedStore{Store: files, gate: g, wrote: wrote, leases: map[statefile.Lease]bool{}}
}

// release gives locks back as the end of a process does.
func (s *gatedStore) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.leases {
		_ = l.Unlock(context.Background()) // what was not written is lost with the process
	}
	clear(s.leases)
}

// Peek passes the gate.
func (s *gatedStore) Peek(ctx context.Context) (string, error) {
	if _, err := s.gate.pass(); err != nil {
		return "", err
	}
	return s.Store.Peek(ctx)
}

// Get passes the gate.
func (s *gatedStore) Get(ctx context.Context) ([]byte, string, error) {
	if _, err := s.gate.pass(); err != nil {
		return nil, "", err
	}
	return s.Store.Get(ctx)
}

// Journal passes the gate.
func (s *gatedStore) Journal(ctx context.Context) ([]byte, error) {
	if _, err := s.gate.pass(); err != nil {
		return nil, err
	}
	return s.Store.Journal(ctx)
}

// Lock passes the gate.
func (s *gatedStore) Lock(ctx context.Context, info statefile.LockInfo) (statefile.Lease, error) {
	if _, err := s.gate.pass(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.gate.alive(); err != nil {
		return nil, err
	}
	l, err := s.Store.Lock(ctx, info)
	if err != nil {
		return nil, err
	}
	s.leases[l] = true
	return &gatedLease{l, s}, nil
}

// Crown passes the gate.
func (s *gatedStore) Crown(ctx context.Context, w statefile.Watcher, above uint64) (statefile.Crown, bool, error) {
	if _, err := s.gate.pass(); err != nil {
		return nil, false, err
	}
	c, held, err := s.Store.Crown(ctx, w, above)
	if c == nil || err != nil {
		return nil, held, err
	}
	return &gatedCrown{c, s.gate}, held, nil
}

type gatedCrown struct {
	statefile.Crown
	gate *gate
}

// Say passes the gate.
func (c *gatedCrown) Say(ctx context.Context, w statefile.Watcher) error {
	if _, err := c.gate.pass(); err != nil {
		return err
	}
	return c.Crown.Say(ctx, w)
}

// gatedLease writes for the living. A stopped process has written what it was about to: others hold locks while they wait for it.
type gatedLease struct {
	statefile.Lease
	s *gatedStore
}

// Put is a living process'.
func (l *gatedLease) Put(ctx context.Context, data []byte, ifVersion string) (string, error) {
	if err := l.s.gate.alive(); err != nil {
		return "", err
	}
	version, err := l.Lease.Put(ctx, data, ifVersion)
	if err == nil {
		l.s.wrote(data, ifVersion, version)
	}
	return version, err
}

// Append is a living process'.
func (l *gatedLease) Append(ctx context.Context, line []byte) error {
	if err := l.s.gate.alive(); err != nil {
		return err
	}
	return l.Lease.Append(ctx, line)
}

// Sync is a living process'.
func (l *gatedLease) Sync(ctx context.Context) error {
	if err := l.s.gate.alive(); err != nil {
		return err
	}
	return l.Lease.Sync(ctx)
}

// ClearJournal is a living process'.
func (l *gatedLease) ClearJournal(ctx context.Context) error {
	if err := l.s.gate.alive(); err != nil {
		return err
	}
	return l.Lease.ClearJournal(ctx)
}

// Unlock is a living process'. The dead hold nothing any more.
func (l *gatedLease) Unlock(ctx context.Context) error {
	if err := l.s.gate.alive(); err != nil {
		return err
	}
	l.s.mu.Lock()
	delete(l.s.leases, l.Lease)
	l.s.mu.Unlock()
	return l.Lease.Unlock(ctx)
}
