// Package shell runs shell scripts on a simulated host: a POSIX shell, the usual programs, and processes as far as scripts see them. The text is
// parsed and words are expanded by mvdan.cc/sh, awk programs run by goawk; files lie on a [disk.FS]. What only a particular host
// knows (its network, its containerd) are programs that it adds.
//
// Commands of a pipeline run one after the other, each with all that the one before it has printed: scripts of providers are written so that
// this makes no difference, and a run is the same every time. Nothing here waits in real time but for input.
//
// Start with [Machine.Run], then interp.go.
package shell

import (
	"context"
	"io"
	"sync"
	"time"

	"berth.dev/berth/internal/simhost/disk"
)

// Program is what a command does. Its status is returned.
type Program func(p *Process) int

// Machine is what programs see of their host.
type Machine struct {
	Disk     *disk.FS
	Now      func() time.Time
	Programs map[string]Program // by name, beside those of this package; nil takes one of those away
	// Before is called before every program starts, with its name and arguments; an error ends the script as the machine's end would. May be nil.
	Before func(ctx context.Context, argv []string) error
	// Signal takes signals to processes that no script has started, and reports whether there is such a one. May be nil.
	Signal func(pid int, sig string) bool

	lib    *Library
	mu     sync.Mutex
	pids   int
	groups map[int]context.CancelFunc
	procs  map[int]context.CancelFunc
	locks  map[uint64]chan struct{}
}

// New returns a machine with this package's programs. The library may be that of other machines, too.
func New(d *disk.FS, now func() time.Time, lib *Library) *Machine {
	return &Machine{
		Disk: d, Now: now, Programs: map[string]Program{}, lib: lib, pids: 300,
		groups: map[int]context.CancelFunc{}, procs: map[int]context.CancelFunc{}, locks: map[uint64]chan struct{}{},
	}
}

// Boot forgets processes and locks, as a reboot does. The context of everything that runs must have ended.
func (m *Machine) Boot() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.groups)
	clear(m.procs)
	m.locks = map[uint64]chan struct{}{}
}

// Streams are a script's standard streams; nil reads nothing and drops what is written.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run runs a script with arguments as /bin/sh would and returns its status. Background commands are ended with it.
func (m *Machine) Run(ctx context.Context, script string, args []string, env map[string]string, s Streams) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := m.start(ctx, cancel, env, s)
	defer r.end()
	r.params = args
	return r.source(script)
}

// Serve runs what a login runs: a command by /bin/sh -c.
func (m *Machine) Serve(ctx context.Context, command string, env map[string]string, s Streams) int {
	return m.Run(ctx, command, nil, env, s)
}

// start makes the first process of a session, which is a group of its own.
func (m *Machine) start(ctx context.Context, cancel context.CancelFunc, env map[string]string, s Streams) *interp {
	r := &interp{
		m: m, ctx: ctx, vars: map[string]variable{}, funcs: map[string]*function{}, name: "sh", cwd: "/", umask: 0o022,
		fds: descriptors{}, jobs: &jobs{byPid: map[int]*job{}},
	}
	r.pid = m.newPid(cancel)
	r.group = r.pid
	m.mu.Lock()
	m.groups[r.group] = cancel
	m.mu.Unlock()
	r.own = true
	r.vars["PATH"] = variable{value: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", exported: true}
	r.vars["HOME"] = variable{value: "/root", exported: true}
	for k, v := range env {
		r.vars[k] = variable{value: v, exported: true}
	}
	r.fds.set(0, &description{r: s.In})
	r.fds.set(1, &description{w: s.Out})
	r.fds.set(2, &description{w: s.Err})
	return r
}

func (m *Machine) newPid(cancel context.CancelFunc) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pids++
	m.procs[m.pids] = cancel
	return m.pids
}

func (m *Machine) exited(pid int) {
	m.mu.Lock()
	cancel := m.procs[pid]
	delete(m.procs, pid)
	delete(m.groups, pid)
	m.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// signal sends a signal to a process or, with a negative number, a group. Only whether it ends them matters: 0 asks whether they are there.
func (m *Machine) signal(pid int, sig string) bool {
	m.mu.Lock()
	cancel, ok := m.procs[pid]
	if pid < 0 {
		cancel, ok = m.groups[-pid]
	}
	if ok && sig != "0" {
		cancel()
	}
	m.mu.Unlock()
	return ok || m.Signal != nil && m.Signal(pid, sig)
}

// lock waits for the lock on a file, at most for so long; a negative time is for ever.
func (m *Machine) lock(ctx context.Context, node uint64, wait time.Duration) (release func(), ok bool) {
	m.mu.Lock()
	l := m.locks[node]
	if l == nil {
		l = make(chan struct{}, 1)
		m.locks[node] = l
	}
	m.mu.Unlock()
	release = func() { <-l }
	select {
	case l <- struct{}{}:
		return release, true
	default:
	}
	var late <-chan time.Time
	if wait >= 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		late = t.C
	}
	select {
	case l <- struct{}{}:
		return release, true
	case <-late:
	case <-ctx.Done():
	}
	return nil, false
}
