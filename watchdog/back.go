package watchdog

import (
	"slices"
	"time"
)

// clearWait is for how long the pods of a node that is back wait for that at most, where another round is being made or another has the lock.
const clearWait = 10 * time.Second

// A node that comes back may still run pods that were given up meanwhile, and of which others run elsewhere. They are removed there before
// anything else of the node is tended.

// takeLeft takes over which pods were given up where.
func (m *Mind) takeLeft() {
	for name, n := range m.nodes {
		n.left = m.applied.Left[name]
		if len(n.left) == 0 {
			delete(m.round.back, name)
		} else if n.watched() && !n.clearing && !m.round.back[name] {
			m.removeLeft(n) // somebody has given them up while the node was there again
		}
	}
}

// clearFirst has what was left on a node that is back removed, first thing.
func (m *Mind) clearFirst(n *node) {
	if len(n.left) > 0 && !m.round.back[n.Name] {
		n.clearing = true
		m.round.clearBy = m.now.Add(clearWait)
		m.removeLeft(n)
	}
}

// clearAtLast does not let nodes wait for ever behind a round that takes long.
func (m *Mind) clearAtLast() {
	if isDue(m.round.clearBy, m.now) {
		m.cleared(sortedNames(m.nodes))
	}
}

func (m *Mind) removeLeft(n *node) {
	m.round.back[n.Name] = true
	m.round.backDue = sooner(m.round.backDue, m.now)
}

// cleared lets nodes be tended again: what was left there is removed, or that has to wait for the state's lock. Those that came back since still wait.
func (m *Mind) cleared(names []string) {
	for _, name := range names {
		n := m.nodes[name]
		if n == nil || !n.clearing {
			continue
		}
		n.clearing = false
		for _, p := range m.pods {
			if p.Node == name {
				m.want(p, m.now, true)
			}
		}
	}
	for _, n := range m.nodes {
		if n.clearing {
			return
		}
	}
	m.round.clearBy = time.Time{}
}

// leftOn reports whether a pod was given up on a node.
func (n *node) leftOn(uid string) bool { return slices.Contains(n.left, uid) }
