package watchdog

import (
	"errors"
	"maps"
	"slices"
	"time"
)

// round is what is known of rounds: why the next one is wanted, and whether one is being made.
type round struct {
	making  bool
	stale   bool      // the state was not read since the last one
	kind    RoundKind // of the one that is being made
	why     map[string]bool
	whole   time.Time       // when a whole one is due; zero for never
	less    time.Time       // when one that is less is due
	events  time.Time       // when events are to be kept
	changed map[string]bool // uids of pods that are not as recorded
	losses  bool            // what the state says of lost nodes, or of leases, is not so
	lost    map[string]bool // nodes that are lost, by the last one
	back    map[string]bool // nodes that are back with pods that were given up
	clears  []string        // of these, those that the last one was told of
	backDue time.Time
	clearBy time.Time // when nodes that are back are tended all the same
	pause   backoff
	busy    time.Time // no round before
	overdue string    // for which one was wanted
	last    time.Time // when the last whole one ended well
	waiting string
	drift   int
}

func newRoundState() round {
	return round{why: map[string]bool{}, changed: map[string]bool{}, back: map[string]bool{}, pause: backoff{first: time.Second, most: 5 * time.Minute}}
}

// retryBusy is the pause after another had the lock.
const retryBusy = 500 * time.Millisecond

// wantRound has a whole round made, soon.
func (m *Mind) wantRound(why string) {
	if len(m.round.why) < 20 {
		m.round.why[why] = true
	}
	m.round.whole = sooner(m.round.whole, m.now.Add(m.opts.Gather))
}

// compareAll finds the pods that are not as the state says.
func (m *Mind) compareAll() {
	for _, p := range m.pods {
		m.compare(p)
	}
	for uid := range m.round.changed {
		if m.pods[uid] == nil {
			delete(m.round.changed, uid)
		}
	}
	if !m.round.small() {
		m.round.less = time.Time{}
	}
}

// small reports whether there is something for a round of endpoints.
func (r *round) small() bool { return len(r.changed) > 0 || r.losses }

// standing is how a pod stands, if that is known: nothing of a lost node is ready.
func (m *Mind) standing(p *pod) (Standing, bool) {
	if n := m.nodes[p.Node]; n != nil && n.found != nil {
		s := p.Recorded
		s.Ready = false
		return s, s.SandboxID != ""
	}
	return p.last.Standing, p.tended && p.last.SandboxID != ""
}

// compare notes whether a pod stands as the state says. What is said of a pod that a run is about is that run's.
func (m *Mind) compare(p *pod) {
	now, known := m.standing(p)
	if !known || p.busy || m.held[p.UID] > 0 || now == p.Recorded {
		delete(m.round.changed, p.UID)
		return
	}
	m.round.changed[p.UID] = true
	m.round.less = sooner(m.round.less, m.now)
}

// noted has events kept, some time later.
func (m *Mind) noted() { m.round.events = sooner(m.round.events, m.now.Add(m.opts.Keep)) }

// takeOverdue has a round made for what is due by the clock, once.
func (m *Mind) takeOverdue(what string) {
	if what != "" && what != m.round.overdue {
		m.wantRound("it is time for " + what)
	}
	m.round.overdue = what
}

// takeApproval goes on with a plan that waited for it.
func (m *Mind) takeApproval(digest string) {
	if m.round.waiting != "" && digest == m.round.waiting {
		m.wantRound("the plan was approved")
	}
}

// onRoundTime makes the round that is due, one at a time: what makes endpoints right goes before what may take long.
func (m *Mind) onRoundTime() {
	r := &m.round
	if r.making || r.stale || m.applied == nil || m.now.Before(r.busy) {
		return
	}
	whole := sooner(r.whole, m.resync())
	switch {
	case isDue(r.backDue, m.now) && len(r.back) > 0:
		m.makeRound(RoundBack)
	case isDue(r.less, m.now) && r.small():
		m.makeRound(RoundEndpoints)
	case isDue(whole, m.now):
		m.makeRound(RoundWhole)
	case isDue(r.events, m.now):
		m.makeRound(RoundEvents)
	}
}

func isDue(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

func (m *Mind) resync() time.Time {
	if m.round.last.IsZero() {
		return time.Time{}
	}
	return m.round.last.Add(m.opts.Resync)
}

func (m *Mind) roundNext() time.Time {
	r := &m.round
	if r.making || r.stale || m.applied == nil {
		return time.Time{}
	}
	next := sooner(r.whole, sooner(m.resync(), r.events))
	if r.small() {
		next = sooner(next, r.less)
	}
	if len(r.back) > 0 {
		next = sooner(next, r.backDue)
	}
	if next.Before(r.busy) && !next.IsZero() {
		return r.busy
	}
	return next
}

// makeRound orders a round with everything that is known.
func (m *Mind) makeRound(kind RoundKind) {
	r := &m.round
	q := Request{Kind: kind, Standings: map[string]Standing{}, Boots: map[string]string{}, Fence: m.fence}
	for uid := range r.changed {
		q.Standings[uid], _ = m.standing(m.pods[uid])
	}
	q.Lost, q.Leases, q.Back = m.losses(), m.leasesToRecord(), slices.Sorted(maps.Keys(r.back))
	r.clears, r.lost = q.Back, map[string]bool{}
	for _, l := range q.Lost {
		r.lost[l.Name] = true
	}
	for _, uid := range sortedNames(m.pods) {
		if m.pods[uid].lacks != "" {
			q.Lacking = append(q.Lacking, uid)
		}
	}
	for name, n := range m.nodes {
		if n.watched() {
			q.Boots[name] = n.boot
		}
	}
	if kind == RoundEvents || kind == RoundWhole {
		q.Scales = m.giveScales()
	}
	r.events, r.less, r.backDue = time.Time{}, time.Time{}, time.Time{}
	if kind == RoundWhole {
		q.Why = slices.Sorted(maps.Keys(r.why))
		if len(q.Why) == 0 {
			q.Why = []string{"nothing has asked for one for long"}
		}
		r.why, r.whole = map[string]bool{}, time.Time{}
	}
	r.making, r.kind = true, kind
	m.stats.Rounds++
	m.do(MakeRound{q})
}

// rounded takes in how a round went. What it was to change is read from the state; what it failed to do is tried again.
func (m *Mind) rounded(f Rounded) {
	r := &m.round
	r.making, r.stale = false, true
	m.reread = m.now
	kind := r.kind
	m.scaled(f.Err != nil)
	if f.Err != nil {
		var busy *BusyError
		pause := retryBusy
		if !errors.As(f.Err, &busy) {
			pause = r.pause.fail()
			m.stats.RoundErrors++
			m.say(true, "", "RoundFailed", f.Err.Error())
		}
		r.busy = m.now.Add(pause)
		switch kind {
		case RoundWhole:
			r.why["the last round did not come to its end"] = true
			r.whole = r.busy
		case RoundEvents:
			r.events = r.busy
		}
		if r.less = r.busy; !r.small() {
			r.less = time.Time{}
		}
		if r.backDue = r.busy; kind == RoundBack {
			m.cleared(r.clears)
		}
		return
	}
	r.pause.reset()
	if kind == RoundBack {
		for _, name := range r.clears {
			delete(r.back, name)
		}
		m.cleared(r.clears)
	}
	if kind == RoundWhole {
		r.last, r.waiting, r.drift = m.now, f.Outcome.Waiting, f.Outcome.Drift
		m.stats.Synced = m.now
	}
	if r.small() { // compared anew when the state was read
		r.less = m.now.Add(m.opts.Reread)
	}
}
