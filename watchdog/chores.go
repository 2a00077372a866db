package watchdog

import (
	"context"
	"slices"
	"time"
)

// Chore is housekeeping that comes again and again on each node.
type Chore string

// The chores.
const (
	ChoreLogs       Chore = "logs"       // rotate those that have grown too large
	ChoreContainers Chore = "containers" // take away the dead, and what crashes have left
	ChoreImages     Chore = "images"     // take away those that nothing uses when the disk is full
	ChoreGoal       Chore = "goal"       // hand a node that looks after itself what it needs for that
)

// chores are all of them, with the kubelet's intervals: containerLogMonitorInterval, and the periods of its container and image collectors.
var chores = []struct {
	what  Chore
	every time.Duration
}{
	{ChoreGoal, 10 * time.Second},
	{ChoreLogs, 10 * time.Second},
	{ChoreContainers, time.Minute},
	{ChoreImages, 5 * time.Minute},
}

// mostChores is on how many nodes chores are done at once; chorePatience how long those of one node may take.
const (
	mostChores    = 16
	chorePatience = 2 * time.Minute
)

// Housekeeper does chores.
type Housekeeper interface {
	// Keep does chores on a node, one after the other. What one of them could not do keeps nobody from the others.
	Keep(ctx context.Context, node string, chores []Chore, fence uint64) error
}

// housekeeping is what is known of the chores of all nodes.
type housekeeping struct {
	rules string // by which they were done last
	doing int
	waits bool      // some are due and wait for others to be done
	next  time.Time // when one is due; zero for never
	nodes map[string]*chored
}

// chored is what is known of those of one node.
type chored struct {
	doing bool
	due   map[Chore]time.Time
}

func newHousekeeping() housekeeping { return housekeeping{nodes: map[string]*chored{}} }

// takeRules has everything looked at once more when other rules count than before.
func (m *Mind) takeRules(rules string) {
	if !m.opts.Chores || m.keep.rules == rules {
		return
	}
	m.keep.rules = rules
	for _, c := range m.keep.nodes {
		c.due = map[Chore]time.Time{}
	}
	m.keep.next = m.now
}

// chore has the chores of a node that is watched from now on done: at once those that were never done here.
func (m *Mind) chore(name string) {
	if !m.opts.Chores {
		return
	}
	if m.keep.nodes[name] == nil {
		m.keep.nodes[name] = &chored{due: map[Chore]time.Time{}}
	}
	m.keep.next = m.now
}

// onChoresTime orders the chores that are due on nodes that are watched, on a bounded number of nodes at once.
func (m *Mind) onChoresTime() {
	if !m.opts.Chores || !isDue(m.keep.next, m.now) {
		return
	}
	m.keep.next, m.keep.waits = time.Time{}, false
	for _, name := range sortedNames(m.keep.nodes) {
		c := m.keep.nodes[name]
		n := m.nodes[name]
		if n == nil {
			if !c.doing {
				delete(m.keep.nodes, name)
			}
			continue
		}
		if c.doing || !n.watched() {
			continue // looked at again when that has passed
		}
		var due []Chore
		for _, k := range chores {
			if m.now.Before(c.due[k.what]) {
				m.keep.next = sooner(m.keep.next, c.due[k.what])
				continue
			}
			due = append(due, k.what)
		}
		if len(due) == 0 {
			continue
		}
		if m.keep.waits = m.keep.doing >= mostChores; m.keep.waits {
			continue
		}
		c.doing = true
		m.keep.doing++
		m.do(DoChores{Node: name, Chores: due, Fence: m.fence})
	}
}

// chored takes in that chores were done, well or not: they come again when their time does.
func (m *Mind) chored(f Chored) {
	m.keep.doing--
	if m.keep.waits {
		m.keep.next = m.now
	}
	if f.Err != nil {
		m.stats.ChoreErrors++
	}
	c := m.keep.nodes[f.Node]
	if c == nil {
		return
	}
	c.doing = false
	for _, k := range chores {
		if slices.Contains(f.Chores, k.what) {
			c.due[k.what] = m.now.Add(k.every).Truncate(time.Second) // what is due within a second is done together
		}
		m.keep.next = sooner(m.keep.next, c.due[k.what])
	}
}
