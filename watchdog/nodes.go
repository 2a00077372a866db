package watchdog

import (
	"errors"
	"time"
)

// node is what is known of one host.
type node struct {
	Node
	state   nodeState
	again   time.Time // when it is to be followed anew
	pause   backoff
	listing bool
	list    time.Time // the next listing
	listed  time.Time // the last one that came; zero before the first
	boot    string    // the boot id that was last seen; "" before
	lost    time.Time // since when it is not followed; zero while it is
	why     *LostError
	told    bool // that it is not watched

	unlisted time.Time // since when it is followed and cannot be listed; zero for not
	kept     bool      // the state says that it is lost
	leases   bool      // pods of it have or had a lease
	left     []string  // pods that were given up while it was lost
	clearing bool      // these are removed first thing: nothing else is tended
	absence
	heart
}

type nodeState int

const (
	nodeIdle    nodeState = iota // not followed
	nodeOpening                  // asked for
	nodeOpen                     // followed
	nodeLeaving                  // asked to end
)

// soonest is the shortest time between two listings of a node.
const soonest = time.Second

// takeNodes follows what was applied: nodes that are new, that have gone, or that have to be reached in another way.
func (m *Mind) takeNodes(list []Node) {
	wanted := map[string]bool{}
	for _, w := range list {
		wanted[w.Name] = true
		n := m.nodes[w.Name]
		switch {
		case n == nil:
			n = &node{Node: w, pause: backoff{first: 100 * time.Millisecond, most: 10 * time.Second}, lost: m.now, again: m.now}
			m.nodes[w.Name] = n
			m.arrange(n)
		case n.Way != w.Way:
			n.Node = w
			n.pause.reset()
			m.leave(n)
		default:
			n.Node = w
		}
	}
	for _, name := range sortedNames(m.nodes) {
		n := m.nodes[name]
		if wanted[name] {
			continue
		}
		if n.state == nodeIdle {
			delete(m.nodes, name)
			delete(m.away, name)
			continue
		}
		m.leave(n)
	}
}

func (m *Mind) leave(n *node) {
	if n.state == nodeOpening || n.state == nodeOpen {
		n.state = nodeLeaving
		m.do(LeaveNode{n.Name})
	}
}

// onNodesTime follows and lists those nodes for which it is time to.
func (m *Mind) onNodesTime() {
	if !isDue(m.nodesDue, m.now) {
		return
	}
	m.nodesDue = time.Time{}
	for _, name := range sortedNames(m.nodes) {
		m.onNodeTime(m.nodes[name])
		m.arrange(m.nodes[name])
	}
}

// arrange notes when a node that has changed is next to be seen to.
func (m *Mind) arrange(n *node) { m.nodesDue = sooner(m.nodesDue, m.nodeNext(n)) }

func (m *Mind) onNodeTime(n *node) {
	if n.state == nodeIdle && !m.now.Before(n.again) {
		n.state = nodeOpening
		m.do(FollowNode{n.Name})
	}
	if n.state == nodeOpen && !n.listing && !m.now.Before(n.list) {
		n.listing = true
		m.do(ListNode{n.Name})
	}
	if isDue(n.beatNext(), m.now) {
		m.beat(n)
	}
}

func (m *Mind) nodeNext(n *node) time.Time {
	switch {
	case n.state == nodeIdle:
		return n.again
	case n.state == nodeOpen && !n.listing:
		return sooner(n.beatNext(), n.list)
	case n.state == nodeOpen:
		return n.beatNext()
	}
	return time.Time{}
}

// opened lists at once: whatever happened before was not told.
func (m *Mind) opened(name string) {
	n := m.nodes[name]
	if n == nil || n.state != nodeOpening {
		return
	}
	n.state, n.list = nodeOpen, m.now
	n.heart = heart{end: n.end}
	if n.leases {
		n.due = m.now
	}
	m.arrange(n)
}

// lost tries again after a pause. Nothing is concluded about what runs there.
func (m *Mind) lost(f Lost) {
	n := m.nodes[f.Node]
	if n == nil {
		return
	}
	left := n.state == nodeLeaving
	n.why = &LostError{Err: f.Err}
	errors.As(f.Err, &n.why)
	if n.state == nodeOpen || n.lost.IsZero() {
		if n.lost = m.now; !n.unlisted.IsZero() {
			n.lost, n.unlisted = n.unlisted, time.Time{}
		}
		if n.why.Silent > 0 && n.lost.Equal(m.now) {
			n.lost = m.now.Add(-n.why.Silent)
		}
	}
	n.state, n.listing = nodeIdle, false
	m.answered(n.Name, f.Err)
	n.heart = heart{end: n.end}
	for _, p := range m.pods {
		if p.Node == n.Name {
			p.tended = false // what ran beside them has ended with the connection
		}
	}
	if left {
		n.again = m.now
		m.arrange(n)
		if !m.appliedHas(f.Node) {
			delete(m.nodes, f.Node)
			delete(m.away, f.Node)
		}
		return
	}
	m.goes(n)
	n.again = m.now.Add(n.pause.fail())
	m.arrange(n)
	if !n.told {
		n.told = true
		m.say(true, n.Name, "NodeNotReady", "Node "+n.Name+" cannot be watched, and nothing is concluded about its pods: "+text(f.Err))
	}
}

func (m *Mind) appliedHas(name string) bool {
	if m.applied == nil {
		return false
	}
	for _, n := range m.applied.Nodes {
		if n.Name == name {
			return true
		}
	}
	return false
}

// listed compares with what is known: every pod that does not look as it did is looked at.
func (m *Mind) listed(f Listed) {
	n := m.nodes[f.Node]
	if n == nil || n.state != nodeOpen {
		return
	}
	n.listing = false
	n.list = m.now.Add(m.opts.Relist)
	defer m.arrange(n)
	if f.Err != nil {
		n.list = m.now.Add(max(n.pause.fail(), soonest))
		if n.unlisted.IsZero() && n.lost.IsZero() {
			n.unlisted = m.now
		}
		n.why = &LostError{Err: f.Err}
		errors.As(f.Err, &n.why)
		m.goes(n)
		if !n.told {
			n.told = true
			m.say(true, n.Name, "NodeNotReady", "Node "+n.Name+" cannot be listed: "+text(f.Err))
		}
		return
	}
	if n.told {
		n.told = false
		m.say(false, n.Name, "NodeReady", "Node "+n.Name+" is watched again")
		m.wantRound("node " + n.Name + " is back")
	}
	n.pause.reset()
	back := n.listed.IsZero() || !n.lost.IsZero()
	n.listed, n.lost, n.unlisted, n.why = m.now, time.Time{}, time.Time{}, nil
	m.answered(n.Name, nil)
	m.returns(n)
	m.clearFirst(n)
	if back {
		m.chore(n.Name)
	}
	m.booted(n, f.Listing.BootID)
	m.compareListing(n, f.Listing)
}

// booted notices that a host was started anew: everything on it is looked at, and its boot id is recorded.
func (m *Mind) booted(n *node, id string) {
	before := n.boot
	n.boot = id
	if before != "" && before != id {
		m.say(true, n.Name, "Rebooted", "Node "+n.Name+" has been rebooted, boot id: "+id)
	}
	if before != id && n.BootID != "" && n.BootID != id {
		m.wantRound("node " + n.Name + " was rebooted")
		for _, p := range m.pods {
			if p.Node == n.Name {
				m.want(p, m.now, true)
			}
		}
	}
}

// hinted looks at what a hint is about; at everything, soon, when it is not known whose it is.
func (m *Mind) hinted(f Hinted) {
	n := m.nodes[f.Node]
	if n == nil || n.state != nodeOpen {
		return
	}
	m.stats.Hints++
	if uid, ok := m.byID[f.Hint.ID]; ok && m.pods[uid] != nil {
		if f.Hint.Kind == HintExit {
			m.pods[uid].end(f.Hint)
		}
		m.want(m.pods[uid], m.now, true)
		return
	}
	if f.Hint.Kind == HintStart {
		return // of something that we, or a run in progress, have just made, or of another's
	}
	n.list = sooner(n.list, n.listed.Add(soonest))
	m.arrange(n)
}

// watched reports whether a node's pods can be tended.
func (n *node) watched() bool {
	return n != nil && n.state == nodeOpen && !n.listed.IsZero() && n.lost.IsZero()
}

func text(err error) string {
	if err == nil {
		return "it ended"
	}
	return err.Error()
}
