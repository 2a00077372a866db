package watchdog

import "time"

// Options say how often and how much.
type Options struct {
	// Relist is the time between two full listings of a node; 0 means 30 s.
	Relist time.Duration
	// Reread is the time between two looks whether somebody has applied something; 0 means 1 s.
	Reread time.Duration
	// Resync is the time between two whole rounds that nothing has asked for; 0 means 5 min.
	Resync time.Duration
	// Gather is how long a whole round waits for more reasons; 0 means 200 ms.
	Gather time.Duration
	// Keep is how long events may wait to be kept in the state, which each time is written anew; 0 means 20 s.
	Keep time.Duration
	// Grace is how long a node may be silent before it counts as lost; 0 means 50 s.
	Grace time.Duration
	// Lease is for how long a pod of which at most one may run goes on without a word of the watchdog; 0 means 30 s.
	Lease time.Duration
	// Who is the watchdog, for people.
	Who string
	// Autoscale is the time between two looks at what autoscalers go by; 0 means 15 s.
	Autoscale time.Duration
	// Sourced says that there is a configuration to be read.
	Sourced bool
	// Chores says that there is somebody to do them.
	Chores bool
}

func (o Options) complete() Options {
	for _, d := range []struct {
		at       *time.Duration
		fallback time.Duration
	}{{&o.Relist, 30 * time.Second}, {&o.Reread, time.Second}, {&o.Resync, 5 * time.Minute}, {&o.Gather, 200 * time.Millisecond}, {&o.Keep, 20 * time.Second}, {&o.Grace, 50 * time.Second}, {&o.Lease, 30 * time.Second}, {&o.Autoscale, 15 * time.Second}} {
		if *d.at == 0 {
			*d.at = d.fallback
		}
	}
	return o
}

// Mind is what a watchdog knows and decides, during one term. The same facts at the same times give the same orders.
type Mind struct {
	opts  Options
	fence uint64
	now   time.Time
	out   []Order

	applied *Applied // nil before the first reading
	reading bool
	reread  time.Time

	nodes    map[string]*node
	nodesDue time.Time        // when one of them is to be seen to
	away     map[string]*node // those that cannot be looked after
	lossDue  time.Time        // when they are to be looked at
	brake    brake
	begun    time.Time
	pods     map[string]*pod   // by uid
	byID     map[string]string // uid by the id of a container or sandbox
	held     map[string]int    // by rounds of ours, by uid
	due      queue

	edit  edit
	round round
	keep  housekeeping
	stats Stats

	scaling scaling
}

// NewMind returns the mind of one term, whose fencing number is given.
func NewMind(o Options, fence uint64) *Mind {
	return &Mind{
		opts: o.complete(), fence: fence, nodes: map[string]*node{}, away: map[string]*node{}, pods: map[string]*pod{}, byID: map[string]string{}, held: map[string]int{},
		round: newRoundState(), brake: brake{next: map[string]time.Time{}}, keep: newHousekeeping(),
	}
}

// Take takes in a fact and returns what is to be done because of it, and because of the time, in this order.
func (m *Mind) Take(now time.Time, f Fact) []Order {
	if now.After(m.now) {
		m.now = now
	}
	if m.begun.IsZero() {
		m.begun = m.now
	}
	m.out = nil
	switch f := f.(type) {
	case Read:
		m.read(f)
	case Opened:
		m.opened(f.Node)
	case Lost:
		m.lost(f)
	case Hinted:
		m.hinted(f)
	case Listed:
		m.listed(f)
	case Beaten:
		m.beaten(f)
	case Sighted:
		m.sighted(f)
	case Done:
		m.done(f)
	case Woken:
		if p := m.pods[f.UID]; p != nil {
			m.want(p, m.now, f.Look)
		}
	case Edited:
		m.edited(f)
	case Held:
		m.hold(f.UIDs)
	case Released:
		m.release(f.UIDs)
	case Rounded:
		m.rounded(f)
	case Noted:
		m.noted()
	case Measured:
		m.measured(f)
	case Chored:
		m.chored(f)
	}
	m.onTime()
	out := m.out
	m.out = nil
	return out
}

// onTime does what has become due.
func (m *Mind) onTime() {
	if !m.reading && !m.now.Before(m.reread) {
		known := ""
		if m.applied != nil {
			known = m.applied.Version
		}
		m.reading = true
		m.do(ReadGoal{Known: known})
	}
	m.onNodesTime()
	m.onLossTime()
	m.tendDue()
	m.onEditTime()
	m.onRoundTime()
	m.onScalingTime()
	m.onChoresTime()
}

// Next is when something will be due though no fact comes; zero for never.
func (m *Mind) Next() time.Time {
	var next time.Time
	if !m.reading {
		next = m.reread
	}
	next = sooner(next, m.nodesDue)
	if m.applied != nil {
		next = sooner(sooner(next, m.lossDue), m.round.clearBy)
	}
	if len(m.due) > 0 {
		next = sooner(next, m.due[0].due)
	}
	next = sooner(next, m.editNext())
	next = sooner(next, m.scalingNext())
	next = sooner(next, m.keep.next)
	return sooner(next, m.roundNext())
}

func (m *Mind) do(o Order) { m.out = append(m.out, o) }

// say tells people.
func (m *Mind) say(warning bool, node, reason, message string) {
	m.do(Say{Notice{Warning: warning, Node: node, Reason: reason, Message: message}})
}

// sooner is the earlier of two times, of which the zero one means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// read takes over what was last applied.
func (m *Mind) read(f Read) {
	m.reading, m.reread = false, m.now.Add(m.opts.Reread)
	if f.Err != nil {
		if m.stats.GoalError == "" {
			m.say(true, "", "StateNotRead", f.Err.Error())
		}
		m.stats.GoalError = f.Err.Error()
		return
	}
	m.stats.GoalError, m.stats.Read = "", m.now
	written := m.round.stale
	m.round.stale = false
	if f.Applied == nil {
		if written {
			m.takeLeases()
		}
		return
	}
	first := m.applied == nil
	m.applied = f.Applied
	m.takeNodes(f.Applied.Nodes)
	m.takePods(f.Applied)
	m.takeLosses()
	m.takeLeases()
	m.takeLeft()
	m.takeRules(f.Applied.Rules)
	if first {
		m.wantRound("the watchdog has started")
	}
	m.takeApproval(f.Applied.Approval)
	m.takeOverdue(f.Applied.Overdue)
	m.compareAll()
}
