package watchdog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Clock is where the time comes from.
type Clock interface {
	Now() time.Time
	// NewTimer returns a channel that gets the time after d, and a function that stops it.
	NewTimer(d time.Duration) (<-chan time.Time, func())
}

// System is the clock of the machine.
type System struct{}

// Now returns the time.
func (System) Now() time.Time { return time.Now() }

// NewTimer returns a timer's channel and its end.
func (System) NewTimer(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// Config is what a watchdog is made of. All but Source, Housekeeper and Notify must be set.
type Config struct {
	Options
	Clock  Clock
	Goal   Goal
	Sight  Sight
	Hands  Hands
	Rounds Rounds
	Leader Leadership
	Source Source // nil for none: only what was applied counts
	Scaler Scaler // nil where there are no autoscalers
	// Housekeeper does chores; nil for nobody.
	Housekeeper Housekeeper
	// Notify takes what people should know; nil for nobody. It is called by one goroutine and does not block.
	Notify func(Notice)
	// Stop, when it is closed, ends the work: nothing new begins, a round that is being made comes to its own end.
	Stop <-chan struct{}
	// Observe takes how long something took: "wait" (a pod from when it was due until it was tended), "tend", "round", "chores". nil for nobody.
	Observe func(what string, took time.Duration)
	// PerNode bounds the pods of one node that are worked on at once; 0 means 8.
	PerNode int
}

// Watchdog carries out what a mind orders.
type Watchdog struct {
	c     Config
	noted chan struct{}
	ask   chan func(*Mind)

	mu    sync.Mutex
	leads bool
	since time.Time // of the term
	stats Stats     // of the last term
}

// New returns a watchdog that [Watchdog.Run] runs.
func New(c Config) *Watchdog {
	if c.PerNode == 0 {
		c.PerNode = 8
	}
	if c.Observe == nil {
		c.Observe = func(string, time.Duration) {}
	}
	if c.Notify == nil {
		c.Notify = func(Notice) {}
	}
	c.Sourced, c.Chores = c.Source != nil, c.Housekeeper != nil
	return &Watchdog{c: c, noted: make(chan struct{}, 1), ask: make(chan func(*Mind))}
}

// Run leads whenever it may, and keeps things true while it leads, until ctx ends. It returns when nothing of it runs any more: what
// changes a host at that time is finished or stopped by the context, as each of its parts has it.
func (w *Watchdog) Run(ctx context.Context) error {
	for {
		term, err := w.c.Leader.Lead(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("lead: %w", err)
		}
		if ctx.Err() == nil {
			w.reign(ctx, term)
		}
		if err := term.Resign(context.WithoutCancel(ctx)); err != nil {
			w.c.Notify(Notice{Warning: true, Reason: "NotResigned", Message: err.Error()})
		}
		if ctx.Err() != nil || w.stopped() {
			return nil
		}
	}
}

func (w *Watchdog) stopped() bool {
	select {
	case <-w.c.Stop:
		return true
	default:
		return false // also when there is none
	}
}

// Noted says that there are events to be kept.
func (w *Watchdog) Noted() {
	select {
	case w.noted <- struct{}{}:
	default:
	}
}

// Leads reports whether this watchdog acts now, and since when.
func (w *Watchdog) Leads() (bool, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leads, w.since
}

// Answers reports whether the loop of a watchdog that leads takes part in anything before ctx ends.
func (w *Watchdog) Answers(ctx context.Context) bool {
	select {
	case w.ask <- func(*Mind) {}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Stats returns how things stand, or how they last stood while this watchdog led.
func (w *Watchdog) Stats(ctx context.Context) Stats {
	answer := make(chan Stats, 1)
	if leads, _ := w.Leads(); leads {
		wait, stop := w.c.Clock.NewTimer(time.Second)
		defer stop()
		select {
		case w.ask <- func(m *Mind) { answer <- m.Stats() }:
			return <-answer
		case <-ctx.Done():
		case <-wait:
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// reign is one term: one mind, and everything that it orders.
type reign struct {
	*Watchdog
	ctx      context.Context
	mind     *Mind
	inbox    chan Fact
	all      sync.WaitGroup
	lines    map[string]*line // by node
	waits    []*wait          // rounds that wait for pods to be left alone
	stopping bool             // nothing new begins

	mu     sync.Mutex
	follow map[string]context.CancelFunc
}

// line is what is to be done to the pods of one node, in order.
type line struct {
	mu      sync.Mutex
	orders  []TendPod
	working int
}

// wait is a round that waits until nobody tends some pods.
type wait struct {
	uids []string
	free chan struct{}
}

func (w *Watchdog) reign(ctx context.Context, term Term) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(term.Context(), cancel)
	defer stop()
	r := &reign{
		Watchdog: w, ctx: ctx, mind: NewMind(w.c.Options, term.Fence()), inbox: make(chan Fact, 1024),
		lines: map[string]*line{}, follow: map[string]context.CancelFunc{},
	}
	w.mu.Lock()
	w.leads, w.since = true, w.c.Clock.Now()
	w.mu.Unlock()
	r.run()
	cancel()
	r.drain()
	for _, p := range r.mind.pods {
		w.c.Hands.Forget(p.UID)
	}
	w.mu.Lock()
	w.leads, w.stats = false, r.mind.Stats()
	w.mu.Unlock()
}

// drain takes what is still said until nobody is left to say anything.
func (r *reign) drain() {
	done := make(chan struct{})
	go func() { // ends with the last of what was ordered
		r.all.Wait()
		close(done)
	}()
	for {
		select {
		case <-r.inbox:
		case <-done:
			return
		}
	}
}

func (r *reign) run() {
	stop := r.c.Stop
	r.take(Tick{})
	for r.ctx.Err() == nil && !(r.stopping && !r.mind.round.making) {
		var due <-chan time.Time
		end := func() {}
		if next := r.mind.Next(); !next.IsZero() && !r.stopping {
			due, end = r.c.Clock.NewTimer(max(next.Sub(r.c.Clock.Now()), 0))
		}
		select {
		case <-r.ctx.Done():
		case f := <-r.inbox:
			r.take(f)
		case <-r.noted:
			r.take(Noted{})
		case ask := <-r.ask:
			ask(r.mind)
		case <-due:
			r.take(Tick{})
		case <-stop:
			stop, r.stopping = nil, true
		}
		end()
	}
}

// take has the mind take in a fact, and carries out what it orders.
func (r *reign) take(f Fact) {
	for _, o := range r.mind.Take(r.c.Clock.Now(), f) {
		if _, ok := o.(Say); ok || !r.stopping {
			r.carryOut(o)
		}
	}
	r.waits = slices.DeleteFunc(r.waits, func(w *wait) bool {
		if slices.ContainsFunc(w.uids, r.mind.Tending) {
			return false
		}
		close(w.free)
		return true
	})
}

// post says something to the mind.
func (r *reign) post(f Fact) { r.inbox <- f }

func (r *reign) carryOut(o Order) {
	switch o := o.(type) {
	case ReadGoal:
		r.all.Go(func() {
			a, err := r.c.Goal.Read(r.ctx, o.Known)
			r.post(Read{a, err})
		})
	case FollowNode:
		r.followNode(o.Node)
	case LeaveNode:
		r.mu.Lock()
		if end := r.follow[o.Node]; end != nil {
			end()
		}
		r.mu.Unlock()
	case ListNode:
		r.all.Go(func() {
			l, err := r.c.Sight.List(r.ctx, o.Node)
			r.post(Listed{o.Node, l, err})
		})
	case BeatNode:
		r.all.Go(func() {
			up, err := r.c.Sight.Beat(r.ctx, o.Node, o.Lease)
			r.post(Beaten{o.Node, up, err})
		})
	case LookFor:
		r.all.Go(func() { r.post(Sighted{o.Node, o.By, r.c.Sight.Look(r.ctx, o.Node, o.By, o.Control)}) })
	case TendPod:
		r.tend(o)
	case ForgetPod:
		r.all.Go(func() { r.c.Hands.Forget(o.UID) })
	case ReadSource:
		r.all.Go(func() {
			v, err := r.c.Source.Version(r.ctx)
			r.post(Edited{v, err})
		})
	case MeasureLoad:
		r.all.Go(func() {
			var scales []Scale
			var err error
			if r.c.Scaler != nil {
				scales, err = r.c.Scaler.Sync(r.ctx, o.Anew)
			}
			r.post(Measured{scales, err})
		})
	case MakeRound:
		r.all.Go(func() {
			o.Request.Hold = r.hold
			began := r.c.Clock.Now()
			out, err := r.c.Rounds.Round(r.ctx, o.Request)
			r.c.Observe("round", r.c.Clock.Now().Sub(began))
			r.post(Rounded{out, err})
		})
	case DoChores:
		r.all.Go(func() {
			ctx, cancel := context.WithTimeout(r.ctx, chorePatience)
			defer cancel()
			began := r.c.Clock.Now()
			err := r.c.Housekeeper.Keep(ctx, o.Node, o.Chores, o.Fence)
			r.c.Observe("chores", r.c.Clock.Now().Sub(began))
			r.post(Chored{o.Node, o.Chores, err})
		})
	case Say:
		r.c.Notify(o.Notice)
	}
}

func (r *reign) followNode(name string) {
	ctx, end := context.WithCancel(r.ctx)
	r.mu.Lock()
	r.follow[name] = end
	r.mu.Unlock()
	r.all.Go(func() {
		defer end()
		err := r.c.Sight.Follow(ctx, name, func() { r.post(Opened{name}) }, func(h Hint) { r.post(Hinted{name, h}) })
		if err == nil {
			err = errors.New("it ended")
		}
		r.post(Lost{name, err})
	})
}

// tend works through the pods of a node, a bounded number at once.
func (r *reign) tend(o TendPod) {
	node := o.Request.Pod.Node
	l := r.lines[node]
	if l == nil {
		l = &line{}
		r.lines[node] = l
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.orders = append(l.orders, o)
	if l.working < r.c.PerNode {
		l.working++
		r.all.Go(func() { r.work(l) })
	}
}

// work tends pods until there are none in line.
func (r *reign) work(l *line) {
	for {
		l.mu.Lock()
		if len(l.orders) == 0 {
			l.working--
			l.mu.Unlock()
			return
		}
		o := l.orders[0]
		l.orders = l.orders[1:]
		l.mu.Unlock()
		uid := o.Request.Pod.UID
		o.Request.Wake = func(look bool) {
			select {
			case r.inbox <- Woken{uid, look}:
			case <-r.ctx.Done():
			}
		}
		began := r.c.Clock.Now()
		r.c.Observe("wait", began.Sub(o.Since))
		t, err := r.c.Hands.Tend(r.ctx, o.Request)
		r.c.Observe("tend", r.c.Clock.Now().Sub(began))
		r.post(Done{uid, t, err})
	}
}

// hold is what rounds call before they do something to pods.
func (r *reign) hold(ctx context.Context, uids []string) (func(), error) {
	w := &wait{uids, make(chan struct{})}
	asked := func(*Mind) {
		r.waits = append(r.waits, w)
		r.take(Held{uids})
	}
	release := func() { r.post(Released{uids}) }
	select {
	case r.ask <- asked:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case <-w.free:
		return release, nil
	case <-ctx.Done():
		release()
		return nil, context.Cause(ctx)
	}
}
