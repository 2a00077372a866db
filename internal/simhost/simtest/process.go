package simtest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/providers"
)

// Process is one run of Berth that can be killed: from that instant on nothing that it does has an effect on hosts or on the state, and what
// lay in its folder then is what the next run finds.
type Process struct {
	Round   *Round
	Journal executor.Journal // what it writes to; the state file unless somebody stands between

	// At is called at each point of each step, before anything else happens; it may call Kill.
	At func(Point, *api.Step)

	mu     sync.Mutex
	dead   bool
	grave  string // the folder into which the state was copied
	cancel context.CancelFunc
	done   []api.Step // recorded as done
}

// Point is a moment of a step.
type Point string

// The points of a step, in order.
const (
	BeforeJournal Point = "before its begin is in the journal"
	BeforeAct     Point = "before it acts"
	Acting        Point = "while it acts"
	AfterAct      Point = "after it has acted"
	AfterJournal  Point = "after it is in the journal"
)

// errKilled is what a killed process' own calls end with. Nobody hears it.
var errKilled = errors.New("the process was killed")

// Start prepares a round to be carried out by a process that may be killed. The grave is an empty folder.
func (r *Round) Start(grave string) *Process {
	return &Process{Round: r, Journal: r.File, grave: grave, At: func(Point, *api.Step) {}}
}

// Run carries the plan out. It reports whether the process was killed; then the state of its last instant lies in the grave.
func (p *Process) Run(ctx context.Context) (killed bool, err error) {
	ctx, p.cancel = context.WithCancel(ctx)
	defer p.cancel()
	before := p.Round.c.Registry
	var list providers.Registry
	for _, x := range before {
		list = append(list, &watched{x, p})
	}
	c := *p.Round.c
	c.Registry = list
	p.Round.c = &c
	out, err := p.Round.Apply(ctx, (*journal)(p))
	if p.Killed() {
		return true, nil
	}
	for _, f := range out.Failed {
		err = errors.Join(err, f)
	}
	return false, err
}

// Killed reports whether it was killed.
func (p *Process) Killed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// Done are the steps that were recorded as done before the end.
func (p *Process) Done() []api.Step {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Kill is kill -9: the connections end. What runs on hosts goes on to its end.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kill()
}

func (p *Process) kill() {
	if p.dead {
		return
	}
	p.dead = true
	if err := Copy(p.Round.c.Dir, p.grave); err != nil {
		panic(err) // the test's own disk
	}
	p.Round.hangup()
	p.cancel()
}

// Copy copies a flat folder.
func Copy(from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != from:
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, strings.TrimPrefix(name, from)), b, i.Mode().Perm())
	})
}

// reach is where a step comes to a point. An error means that the process is dead.
func (p *Process) reach(at Point, s *api.Step) error {
	if p.Killed() {
		return errKilled
	}
	p.At(at, s)
	if p.Killed() {
		return errKilled
	}
	return nil
}

// journal is the journal of a process: nothing is written after its end. Writing and killing exclude each other, so that the grave holds whole
// lines; tests tear them themselves.
type journal Process

func (j *journal) write(do func(executor.Journal) error) error {
	p := (*Process)(j)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return errKilled
	}
	return do(p.Journal)
}

// Begin records that a step begins.
func (j *journal) Begin(s *api.Step) error {
	p := (*Process)(j)
	if err := p.reach(BeforeJournal, s); err != nil {
		return err
	}
	if err := j.write(func(to executor.Journal) error { return to.Begin(s) }); err != nil {
		return err
	}
	return p.reach(BeforeAct, s)
}

// Done records that a step is done.
func (j *journal) Done(s *api.Step, d api.Delta) error {
	p := (*Process)(j)
	if err := p.reach(AfterAct, s); err != nil {
		return err
	}
	err := j.write(func(to executor.Journal) error {
		err := to.Done(s, d)
		if err == nil {
			recorded := *s
			recorded.Delta = d
			p.done = append(p.done, recorded)
		}
		return err
	})
	if err != nil {
		return err
	}
	return p.reach(AfterJournal, s)
}

// Failed records that a step has failed.
func (j *journal) Failed(s *api.Step, err error) error {
	return j.write(func(to executor.Journal) error { return to.Failed(s, err) })
}

// Event records an event.
func (j *journal) Event(e api.ObjectEvent) error {
	return j.write(func(to executor.Journal) error { return to.Event(e) })
}

// watched is a provider of a process.
type watched struct {
	providers.Provider
	p *Process
}

// Apply acts unless the process is dead.
func (w *watched) Apply(ctx context.Context, h providers.Host, work *providers.Work) (providers.Result, error) {
	if w.p.Killed() {
		return providers.Result{}, errKilled
	}
	w.p.At(Acting, work.Step)
	return w.Provider.Apply(ctx, h, work)
}
