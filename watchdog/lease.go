package watchdog

import (
	"slices"
	"time"
)

// Pods of which at most one may ever run have a lease on their host: a time, by a clock there that nobody sets, until which they may run. The
// watchdog moves it on with each heartbeat, and a timer on the host stops what has outlived it. So a host that cannot be reached has
// stopped them when the lease is over, and only then is another one started.
//
// What is sent is the end of the lease by the host's own clock, as it was told with the heartbeat before: a request that arrives late, or
// twice, grants nothing more than it did.

// leaseMargin is for the timer's period, the stopping, and clocks that do not run alike.
const leaseMargin = 10 * time.Second

// heart is what is known of a node's heartbeats.
type heart struct {
	beating bool
	due     time.Time     // the next one; zero for none
	sent    time.Time     // of the one in progress, or the last
	until   time.Time     // the end of the lease that it asked for; zero for none
	given   time.Duration // how long it is
	named   []string      // for these pods
	uptime  time.Duration // of the host, as it was told at got; 0 when it is not known on this connection
	got     time.Time
	vouched map[string]bool // the pods that have a lease, by what the host has confirmed on this connection
	good    time.Time       // until when
	end     time.Time       // by when each lease that was ever asked for is over
	failed  bool            // it was said

	withheld bool // the last one renewed nothing, because the node counts as lost
}

// leased are the pods of a node that are to have a lease, sorted; stale reports whether others had one.
func (m *Mind) leased(n *node) (uids []string, stale bool) {
	for uid, p := range m.pods {
		if p.Node != n.Name {
			continue
		}
		if p.AtMostOne && !p.Over {
			uids = append(uids, uid)
		} else if p.Leased > 0 {
			stale = true
		}
	}
	slices.Sort(uids)
	return uids, stale
}

// takeLeases begins and ends heartbeats as pods come and go.
func (m *Mind) takeLeases() {
	wanted := map[string]bool{}
	for _, p := range m.pods {
		if p.AtMostOne && !p.Over || p.Leased > 0 {
			wanted[p.Node] = true
		}
	}
	for _, name := range sortedNames(m.nodes) {
		n := m.nodes[name]
		n.leases = wanted[name]
		if n.leases && n.state == nodeOpen {
			if !m.renews(n) {
				n.withheld = true
			} else if n.withheld || m.unvouched(n) {
				n.due = m.now
			}
		}
		m.arrange(n)
	}
}

// renews reports whether leases on a node may be renewed: not while it counts as lost here, in the state as it was read last, or in the
// state as a round has written it since. What was concluded about the end of its leases holds until the state says that it is back.
func (m *Mind) renews(n *node) bool {
	r := &m.round
	return n.found == nil && m.recordedLoss(n.Name) == nil && !((r.making || r.stale) && r.lost[n.Name])
}

// resumes has the leases of a node that is back renewed at once.
func (m *Mind) resumes(n *node) {
	if n.leases && n.withheld && n.state == nodeOpen && m.renews(n) {
		n.due = m.now
		m.arrange(n)
	}
}

// beatNext is when the next heartbeat is due; zero for never, or while one is on its way.
func (n *node) beatNext() time.Time {
	if n.state != nodeOpen || n.beating {
		return time.Time{}
	}
	return n.due
}

// unvouched reports whether some pod waits for its lease.
func (m *Mind) unvouched(n *node) bool {
	uids, stale := m.leased(n)
	return stale || slices.ContainsFunc(uids, func(uid string) bool { return !n.vouched[uid] })
}

// beat sends a heartbeat.
func (m *Mind) beat(n *node) {
	if n.state != nodeOpen || n.beating {
		return
	}
	n.beating, n.due, n.sent, n.until, n.named = true, time.Time{}, m.now, time.Time{}, nil
	o := BeatNode{Node: n.Name}
	n.withheld = n.leases && !m.renews(n)
	if n.leases && !n.withheld && n.uptime > 0 {
		n.named, _ = m.leased(n)
		n.given = m.lease(n.named)
		n.until = m.now.Add(n.given)
		o.Lease = &Lease{Pods: n.named, Until: n.uptime + n.until.Sub(n.got)}
		if n.until.After(n.end) && len(n.named) > 0 {
			n.end = n.until // also when no answer comes
		}
	}
	m.do(o)
}

// lease is how long a lease for pods may be: no longer than what the state says of each, because a watchdog that comes after goes by that.
// Of a pod of which it says nothing yet no other is made elsewhere.
func (m *Mind) lease(uids []string) time.Duration {
	out := m.opts.Lease
	for _, uid := range uids {
		if l := m.pods[uid].Leased; l > 0 {
			out = min(out, l)
		}
	}
	return out
}

// beaten takes in the answer to a heartbeat.
func (m *Mind) beaten(f Beaten) {
	n := m.nodes[f.Node]
	if n == nil || !n.beating {
		return
	}
	n.beating = false
	m.answered(n.Name, f.Err)
	if n.state != nodeOpen {
		return
	}
	if f.Err != nil {
		if n.leases {
			n.due = m.now.Add(soonest)
			if !n.failed {
				n.failed = true
				m.say(true, n.Name, "LeaseNotRenewed", "The leases on node "+n.Name+" were not renewed: "+text(f.Err))
			}
		}
		m.arrange(n)
		return
	}
	n.failed = false
	first := n.uptime == 0
	n.uptime, n.got = f.Uptime, m.now
	if !n.until.IsZero() {
		n.good, n.vouched = n.until, map[string]bool{}
		for _, uid := range n.named {
			n.vouched[uid] = true
			if p := m.pods[uid]; p != nil && (!p.tended || p.look) { // it was wanted while it had none
				m.want(p, m.now, true)
			}
		}
		m.compareLost()
	}
	if n.leases {
		every := m.opts.Lease
		if !n.until.IsZero() {
			every = n.given
		}
		n.due = n.sent.Add(every / 3)
		if uids, _ := m.leased(n); m.renews(n) && (first || n.withheld || slices.ContainsFunc(uids, func(uid string) bool { return !n.vouched[uid] })) {
			n.due = m.now
		}
	}
	m.arrange(n)
}

// vouches reports whether a pod may be made to run, or kept running, as far as leases go.
func (m *Mind) vouches(n *node, p *pod) bool {
	return !p.AtMostOne || n.vouched[p.UID] && m.now.Before(n.good)
}

// leaseEnd is by when each lease on a node is over, those that a watchdog before has renewed among them; nil when there is none. That is for people and
// for the state: what is waited for is leaseBy, by a clock that does not jump.
func (m *Mind) leaseEnd(n *node) *time.Time {
	end := n.end
	for _, p := range m.pods {
		if p.Node == n.Name && p.Leased > 0 {
			if by := m.begun.Add(p.Leased); by.After(end) {
				end = by
			}
		}
	}
	if end.IsZero() {
		return nil
	}
	if end = end.Add(leaseMargin); end.After(n.leaseBy) {
		n.leaseBy = end
	}
	end = stamp(n.leaseBy)
	return &end
}

// leaseOver notes that the leases on a lost node have run out.
func (m *Mind) leaseOver(n *node) {
	if n.found == nil || n.found.LeaseOver {
		return
	}
	if end := m.leaseEnd(n); end != nil && (n.found.LeaseEnd == nil || end.After(*n.found.LeaseEnd)) {
		found := *n.found
		found.LeaseEnd = end
		n.found = &found
	}
	if n.leaseBy.IsZero() {
		return
	}
	if m.now.Before(n.leaseBy) {
		m.soon(n.leaseBy)
		return
	}
	found := *n.found
	found.LeaseOver = true
	n.found = &found
}

// leasesToRecord are the pods of which the state does not say that they have a lease, or says so wrongly, with how long it is to be:
// a longer one is given when the state says so.
func (m *Mind) leasesToRecord() map[string]time.Duration {
	var out map[string]time.Duration
	for uid, p := range m.pods {
		n := m.nodes[p.Node]
		if n == nil || n.vouched == nil || !m.now.Before(n.good) {
			continue
		}
		want := time.Duration(0)
		if n.vouched[uid] {
			want = m.opts.Lease
		} else if p.AtMostOne {
			continue // it will be
		}
		if p.Leased != want {
			if out == nil {
				out = map[string]time.Duration{}
			}
			out[uid] = want
		}
	}
	return out
}
