package watchdog

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// What is concluded of one node after the other may be wrong about all of them together: when many vanish at once it is rather the network in
// between. So evictions have a brake and rates (semantics.md 3.11).

const (
	// atOnce is how long two losses may lie apart and still be one. A node whose pods have had so long to go counts no more.
	atOnce = 5 * time.Minute
	// evictEvery is the pause between two nodes of one zone whose pods may go; evictSlowly that in a zone which is partly disrupted, where
	// it has more than largeZone nodes. In a smaller one such nodes wait.
	evictEvery  = 10 * time.Second
	evictSlowly = 100 * time.Second
	largeZone   = 50
	// A roll is called before anything is evicted: of all others, who has answered lately has not vanished with the one.
	rollWait  = 3 * time.Second
	rollValid = 5 * time.Second
)

// brake is what is known of losses together.
type brake struct {
	on     bool
	why    string
	called time.Time            // when the roll was called last
	missed map[string]bool      // who did not answer it
	await  map[string]bool      // who has not answered it yet
	next   map[string]time.Time // by zone, when the next node's pods may go
}

// settled reports whether a lost node's pods have had their time to go: what happens to other nodes is another story.
func (m *Mind) settled(n *node) bool {
	return n.found != nil && n.found.Evict != nil && !m.now.Before(n.found.Evict.Add(atOnce))
}

// evict lets nodes that are lost have their turn, and stops all of it when too many have vanished at once.
func (m *Mind) evict() {
	b := &m.brake
	candidate := false
	for _, name := range sortedNames(m.away) {
		n := m.away[name]
		if m.settled(n) {
			continue
		}
		if n.found != nil && n.found.Evict != nil {
			m.soon(n.found.Evict.Add(atOnce))
		}
		candidate = candidate || m.nearlyLost(n)
	}
	if !candidate {
		m.letGo()
		return
	}
	if !m.rolled() {
		return
	}
	if why := m.massLoss(); why != "" {
		m.halt(why)
		return
	}
	m.letGo()
	m.grant()
	if b.on {
		m.soon(m.now.Add(rollValid))
	}
}

// nearlyLost reports whether a node's grace time is over, or will be soon.
func (m *Mind) nearlyLost(n *node) bool {
	if n.why != nil && n.why.Refused {
		return false
	}
	return n.found != nil || !m.now.Before(n.goneSince().Add(m.opts.Grace-min(askLead, m.opts.Grace)))
}

// wantsTurn reports whether some node's pods wait for their turn.
func (m *Mind) wantsTurn() bool {
	for _, n := range m.away {
		if m.nearlyLost(n) && (n.found == nil || n.found.Evict == nil) {
			return true
		}
	}
	return m.brake.on
}

// rolled calls the roll where it has to be known who is there, and reports whether it is.
func (m *Mind) rolled() bool {
	b := &m.brake
	valid := !b.called.IsZero() && m.now.Before(b.called.Add(rollValid))
	if !valid && m.wantsTurn() {
		b.called, b.await, b.missed, valid = m.now, map[string]bool{}, map[string]bool{}, true
		for _, name := range sortedNames(m.nodes) {
			if m.away[name] == nil {
				b.await[name] = true
				m.beat(m.nodes[name])
			}
		}
	}
	if !valid {
		return true // nobody waits for anything
	}
	if len(b.await) > 0 {
		if late := b.called.Add(rollWait); m.now.Before(late) {
			m.soon(late)
			return false
		}
		for name := range b.await {
			b.missed[name] = true
		}
		b.await = map[string]bool{}
	}
	m.soon(b.called.Add(rollValid))
	return true
}

// answered strikes a node off the roll.
func (m *Mind) answered(name string, err error) {
	b := &m.brake
	if err == nil {
		delete(b.missed, name)
	}
	if !b.await[name] {
		return
	}
	delete(b.await, name)
	if err != nil {
		b.missed[name] = true
	}
	if len(b.await) == 0 {
		m.soon(m.now)
	}
}

// massLoss says why nothing may be moved: more than half of the nodes, or a whole zone of several, have vanished at once. "" when it may.
func (m *Mind) massLoss() string {
	type count struct{ gone, all int }
	zones := map[string]*count{}
	var all count
	var names []string
	for _, name := range sortedNames(m.nodes) {
		n := m.nodes[name]
		if m.settled(n) {
			continue
		}
		z := zones[n.Zone]
		if z == nil {
			z = &count{}
			zones[n.Zone] = z
		}
		z.all++
		all.all++
		if m.away[name] != nil && !(n.why != nil && n.why.Refused) || m.brake.missed[name] {
			z.gone++
			all.gone++
			names = append(names, name)
		}
	}
	if 2*all.gone > all.all {
		return fmt.Sprintf("%d of %d nodes have vanished at once (%s)", all.gone, all.all, someOf(names))
	}
	for _, zone := range sortedNames(zones) {
		if z := zones[zone]; zone != "" && z.all > 1 && z.gone == z.all {
			return fmt.Sprintf("all %d nodes of zone %s have vanished at once", z.all, zone)
		}
	}
	return ""
}

func someOf(names []string) string {
	const most = 10
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
}

// halt moves nothing any more, and takes back what was allowed lately.
func (m *Mind) halt(why string) {
	b := &m.brake
	if !b.on || b.why != why {
		m.do(Say{Notice{Warning: true, Alarm: true, Reason: "MassNodeLoss", Message: "Mass loss: " + why + ". Nothing is moved, because it may be the network in between. When the nodes answer again, all goes on by itself. Nodes that are off for good: take them out of the inventory, or apply with --confirm-dead."}})
	}
	b.on, b.why = true, why
	for _, name := range sortedNames(m.away) {
		n := m.away[name]
		n.notYet = time.Time{}
		if n.found != nil && n.found.Evict != nil && !m.settled(n) {
			found := *n.found
			found.Evict = nil
			n.found = &found
		}
	}
	m.soon(m.now.Add(rollValid))
}

// letGo ends the brake. What is still lost has its grace time anew.
func (m *Mind) letGo() {
	b := &m.brake
	if !b.on {
		return
	}
	b.on, b.why = false, ""
	for _, n := range m.away {
		n.notYet = m.now.Add(m.opts.Grace)
		m.soon(n.notYet)
	}
	m.do(Say{Notice{Alarm: true, Reason: "MassNodeLossOver", Message: "The mass loss is over: nodes that do not answer have their grace time anew"}})
}

// grant gives nodes that are lost their turn, in each zone at its rate, who is lost the longest first.
func (m *Mind) grant() {
	var waiting []*node
	for _, name := range sortedNames(m.away) {
		n := m.away[name]
		switch {
		case n.found == nil || n.found.Evict != nil || !n.sure:
		case m.now.Before(n.notYet):
			m.soon(n.notYet)
		default:
			waiting = append(waiting, n)
		}
	}
	slices.SortStableFunc(waiting, func(a, b *node) int { return a.found.Since.Compare(b.found.Since) })
	for _, n := range waiting {
		every := m.evictionPause(n.Zone)
		if every == 0 {
			continue
		}
		if next := m.brake.next[n.Zone]; m.now.Before(next) {
			m.soon(next)
			continue
		}
		m.brake.next[n.Zone] = m.now.Add(every)
		found, at := *n.found, stamp(m.now)
		found.Evict = &at
		n.found = &found
		m.say(true, n.Name, "TaintManagerEviction", "Pods of node "+n.Name+" are made elsewhere as their tolerations run out: "+found.TaintKey())
	}
}

// evictionPause is the pause between two nodes of a zone, 0 when none has its turn: by how many of its nodes are lost.
func (m *Mind) evictionPause(zone string) time.Duration {
	lost, all := 0, 0
	for _, n := range m.nodes {
		if n.Zone != zone || m.settled(n) {
			continue
		}
		all++
		if n.found != nil {
			lost++
		}
	}
	switch {
	case lost < 3 || 100*lost < 55*all || lost == all:
		return evictEvery
	case all > largeZone:
		return evictSlowly
	}
	return 0
}
