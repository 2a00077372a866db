package watchdog

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// A node that does not answer is seen from two sides before anything is concluded: this watchdog has not heard of it for the grace time, and
// none of some other nodes, asked over their own connections, reaches it either. What then becomes of its pods is decided by
// evictions (brake.go).

// The times of finding out.
const (
	askLead  = 2 * time.Second  // so long before the grace time is over others are asked
	askAgain = 10 * time.Second // and then so often
	askMost  = 3                // so many at once
)

// absence is what is known of a node that does not answer.
type absence struct {
	asked   time.Time // when others were last asked; zero before
	waiting int       // their answers that have not come
	answers []Sighted // of the last time
	turn    int       // with whom the next time begins
	found   *api.LostNode
	sure    bool      // it was found out by this watchdog, and is not only what another has recorded
	told    string    // what was said of it last
	notYet  time.Time // nothing is evicted before
	leaseBy time.Time // by when its leases are over; with the reading of a clock that nobody sets, which found does not have
}

// goneSince is since when a node cannot be looked after; zero while it can.
func (n *node) goneSince() time.Time {
	if !n.lost.IsZero() {
		return n.lost
	}
	return n.unlisted
}

// goes notes that a node cannot be looked after.
func (m *Mind) goes(n *node) {
	if m.away[n.Name] == nil {
		m.away[n.Name] = n
		if n.found == nil && m.applied != nil {
			if n.found = m.recordedLoss(n.Name); n.found != nil && !n.found.LeaseOver { // by a watchdog before
				n.found.LeaseEnd = m.leaseEnd(n)
			}
		}
	}
	m.lossDue = m.now
}

// returns notes that it can again: what was concluded is over.
func (m *Mind) returns(n *node) {
	if m.away[n.Name] == nil && n.found == nil {
		return
	}
	delete(m.away, n.Name)
	n.absence = absence{}
	m.lossDue = m.now
	m.resumes(n)
	m.compareNode(n)
}

func (m *Mind) recordedLoss(name string) *api.LostNode {
	if m.applied == nil {
		return nil
	}
	for i := range m.applied.Lost {
		if m.applied.Lost[i].Name == name {
			l := m.applied.Lost[i]
			return &l
		}
	}
	return nil
}

// onLossTime looks at the nodes that are away when it is time to.
func (m *Mind) onLossTime() {
	m.clearAtLast()
	if m.applied == nil || !isDue(m.lossDue, m.now) {
		return
	}
	m.lossDue = time.Time{}
	for _, name := range sortedNames(m.away) {
		m.lookFor(m.away[name])
		m.leaseOver(m.away[name])
	}
	m.evict()
	m.compareLost()
}

// soon has the nodes that are away looked at not later than at a time.
func (m *Mind) soon(at time.Time) { m.lossDue = sooner(m.lossDue, at) }

// lookFor comes to a conclusion about a node, or finds out more.
func (m *Mind) lookFor(n *node) {
	over := n.goneSince().Add(m.opts.Grace)
	switch {
	case n.why != nil && n.why.Refused:
		n.say(m, "NodeRefuses", "Node "+n.Name+" answers, and does not let the watchdog in: nothing is concluded about it, and nothing of it is moved: "+text(n.why.Err))
		return
	case n.why != nil && n.why.Reached:
		if m.now.Before(over) {
			m.soon(over)
			return
		}
		m.find(n, corev1.ConditionFalse, "The host answers and its container runtime does not: "+text(n.why.Err))
		return
	}
	if begin := over.Add(-min(askLead, m.opts.Grace)); m.now.Before(begin) {
		m.soon(begin)
		return
	}
	if n.waiting == 0 && !m.now.Before(n.asked.Add(askAgain)) {
		m.askOthers(n)
	}
	if n.waiting == 0 {
		m.soon(n.asked.Add(askAgain))
	}
	if m.now.Before(over) {
		m.soon(over)
		return
	}
	if n.waiting == 0 {
		m.conclude(n)
	}
}

// askOthers has some other nodes try to reach one, in turns.
func (m *Mind) askOthers(n *node) {
	var others []string
	for _, name := range sortedNames(m.nodes) {
		if o := m.nodes[name]; o != n && o.watched() && m.away[name] == nil {
			others = append(others, name)
		}
	}
	n.asked, n.answers, n.waiting = m.now, nil, min(askMost, len(others))
	for i := range n.waiting {
		by := others[(n.turn+i)%len(others)]
		control := others[(n.turn+i+1)%len(others)]
		if control == by {
			control = ""
		}
		m.do(LookFor{Node: n.Name, By: by, Control: control})
	}
	n.turn += n.waiting
}

// sighted takes in what another node has seen.
func (m *Mind) sighted(f Sighted) {
	n := m.nodes[f.Node]
	if n == nil || n.waiting == 0 {
		return
	}
	n.waiting--
	n.answers = append(n.answers, f)
	m.soon(m.now)
}

// conclude says what follows from the answers of others. Who reaches nobody else either has no say.
func (m *Mind) conclude(n *node) {
	var reached, not, blind []string
	for _, a := range n.answers {
		switch a.Sight {
		case Reached:
			reached = append(reached, a.By)
		case NotReached:
			not = append(not, a.By)
		default:
			blind = append(blind, a.By)
		}
	}
	slices.Sort(not)
	switch {
	case len(reached) > 0:
		n.say(m, "NodeUnseen", fmt.Sprintf("Node %s does not answer here, but %s reaches it: it is the way from here, and nothing of it is moved: %s", n.Name, strings.Join(reached, ", "), text(n.why.Err)))
		if n.found != nil {
			n.found = nil
			m.resumes(n)
			m.compareNode(n)
		}
	case len(not) > 0:
		m.find(n, corev1.ConditionUnknown, fmt.Sprintf("Nobody reaches the host: not berth watch (%s), not %s.", text(n.why.Err), strings.Join(not, ", ")))
	case n.found != nil: // nothing new
	case len(blind) > 0:
		n.say(m, "NodeUnseen", fmt.Sprintf("Node %s does not answer, and %s, asked to try, could tell nothing: nothing of it is moved", n.Name, strings.Join(blind, ", ")))
	default:
		n.say(m, "NodeUnseen", fmt.Sprintf("Node %s does not answer, and there is no other node that could try: nothing of it is moved", n.Name))
	}
}

// say tells of a node's absence, once for each reason.
func (n *node) say(m *Mind, reason, message string) {
	if n.absence.told == reason {
		return
	}
	n.absence.told = reason
	m.say(true, n.Name, reason, message)
}

// find concludes that a node is lost.
func (m *Mind) find(n *node, ready corev1.ConditionStatus, message string) {
	n.sure = true
	if n.found != nil && n.found.Ready == ready {
		return
	}
	before := n.found
	n.found = &api.LostNode{Name: n.Name, Ready: ready, Message: message, Heard: stamp(n.goneSince()), Since: stamp(m.now), Who: m.opts.Who, LeaseEnd: m.leaseEnd(n)}
	if before != nil { // the taint is another one, and its turn stays
		n.found.Since, n.found.Evict, n.found.LeaseOver = before.Since, before.Evict, before.LeaseOver
	}
	n.say(m, "NodeLost", "Node "+n.Name+" status is now: NodeNotReady. "+message)
	m.compareNode(n)
}

// stamp is a time as the state keeps it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// takeLosses compares what was recorded of lost nodes with what is known. A record that somebody else has taken away tells that
// the node has answered them: it has its grace time anew.
func (m *Mind) takeLosses() {
	for _, name := range sortedNames(m.nodes) {
		n := m.nodes[name]
		recorded := m.recordedLoss(name)
		if n.found != nil && recorded == nil && n.kept {
			n.absence = absence{told: n.absence.told}
			n.lost = m.now
			m.say(false, name, "NodeSeen", "Node "+name+" has answered somebody else")
		}
		n.kept = recorded != nil
	}
	m.lossDue = m.now
}

// compareLost notes whether the state says of lost nodes, and of leases, what is known.
func (m *Mind) compareLost() {
	want := m.losses()
	same := slices.EqualFunc(want, m.applied.Lost, func(a, b api.LostNode) bool {
		return a.Name == b.Name && a.Ready == b.Ready && a.LeaseOver == b.LeaseOver && sameTime(a.Evict, b.Evict) && sameTime(a.LeaseEnd, b.LeaseEnd)
	})
	m.round.losses = !same || len(m.leasesToRecord()) > 0
	if m.round.losses {
		m.round.less = sooner(m.round.less, m.now)
	}
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

// losses are the nodes that are lost, as far as this watchdog can tell: of one that was not tried yet, what is recorded.
func (m *Mind) losses() []api.LostNode {
	var out []api.LostNode
	for _, name := range sortedNames(m.nodes) {
		n := m.nodes[name]
		switch recorded := m.recordedLoss(name); {
		case n.found != nil:
			out = append(out, *n.found)
		case recorded != nil && m.away[name] == nil && !n.watched():
			out = append(out, *recorded)
		}
	}
	return out
}

// compareNode compares the pods of a node with the state.
func (m *Mind) compareNode(n *node) {
	for _, p := range m.pods {
		if p.Node == n.Name {
			m.compare(p)
		}
	}
	m.compareLost()
}
