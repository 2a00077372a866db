package watchdog

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// chorer is a mind that watches nodes, and what it has ordered.
type chorer struct {
	t    *testing.T
	m    *Mind
	now  time.Time
	jobs []DoChores
}

func newChorer(t *testing.T, nodes int) *chorer {
	t.Helper()
	c := &chorer{t: t, m: NewMind(Options{Chores: true}, 7), now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	c.take(Tick{})
	a := &Applied{Version: "1", Rules: "r1"}
	for i := range nodes {
		a.Nodes = append(a.Nodes, Node{Name: fmt.Sprintf("n%02d", i)})
	}
	c.take(Read{Applied: a})
	for _, n := range a.Nodes {
		c.take(Opened{n.Name})
		c.take(Listed{Node: n.Name, Listing: &Listing{BootID: "b"}})
	}
	return c
}

func (c *chorer) take(f Fact) {
	for _, o := range c.m.Take(c.now, f) {
		if d, ok := o.(DoChores); ok {
			c.jobs = append(c.jobs, d)
		}
	}
}

// drawn returns what was ordered since it was last asked.
func (c *chorer) drawn() []DoChores {
	out := c.jobs
	c.jobs = nil
	return out
}

// until goes on to a time, step by step as the loop does, without an answer to anything.
func (c *chorer) until(t time.Time) {
	c.t.Helper()
	for i := 0; ; i++ {
		if i > 10000 {
			c.t.Fatal("it is always time for something")
		}
		next := c.m.Next()
		if next.IsZero() || next.After(t) {
			c.now = t
			c.take(Tick{})
			return
		}
		c.now = next
		c.take(Tick{})
	}
}

func TestChores(t *testing.T) {
	c := newChorer(t, 1)
	began := c.now
	all := []Chore{ChoreGoal, ChoreLogs, ChoreContainers, ChoreImages}
	first := c.drawn()
	if len(first) != 1 || !slices.Equal(first[0].Chores, all) || first[0].Fence != 7 {
		t.Fatalf("when a node is watched: %+v", first)
	}
	c.until(began.Add(time.Hour))
	if again := c.drawn(); len(again) != 0 {
		t.Fatalf("while they are done: %+v", again)
	}
	c.take(Chored{"n00", all, errors.New("no")})
	if c.m.Stats().ChoreErrors != 1 {
		t.Error("the error is not counted")
	}
	counts := map[Chore]int{}
	began = c.now
	for c.now.Before(began.Add(10 * time.Minute)) {
		c.until(c.now.Add(time.Second))
		for _, d := range c.drawn() {
			for _, k := range d.Chores {
				counts[k]++
			}
			c.take(Chored{d.Node, d.Chores, nil})
		}
	}
	for k, want := range map[Chore]int{ChoreGoal: 60, ChoreLogs: 60, ChoreContainers: 10, ChoreImages: 2} {
		if n := counts[k]; n < want-want/10 || n > want {
			t.Errorf("%s %d times in ten minutes, want %d", k, n, want)
		}
	}
	// Other rules have all of them done at once.
	c.take(Read{Applied: &Applied{Version: "2", Rules: "r2", Nodes: []Node{{Name: "n00"}}}})
	if d := c.drawn(); len(d) != 1 || !slices.Equal(d[0].Chores, all) {
		t.Errorf("by other rules: %+v", d)
	}
	// A node that is lost gets none, and one that is back gets what is due then.
	c.take(Chored{"n00", all, nil})
	c.take(Lost{"n00", errors.New("cut")})
	c.until(c.now.Add(time.Minute))
	if d := c.drawn(); len(d) != 0 {
		t.Errorf("on a node that is lost: %+v", d)
	}
	c.take(Opened{"n00"})
	c.take(Listed{Node: "n00", Listing: &Listing{BootID: "b"}})
	if d := c.drawn(); len(d) != 1 || !slices.Equal(d[0].Chores, []Chore{ChoreGoal, ChoreLogs, ChoreContainers}) {
		t.Errorf("on a node that is back: %+v", d)
	}
}

func TestChoresAreBounded(t *testing.T) {
	c := newChorer(t, 3*mostChores)
	seen := map[string]bool{}
	for len(seen) < 3*mostChores {
		jobs := c.drawn()
		if len(jobs) == 0 {
			t.Fatalf("after %d nodes nothing more is done", len(seen))
		}
		if len(jobs)+c.m.keep.doing-len(jobs) > mostChores {
			t.Fatalf("%d at once", c.m.keep.doing)
		}
		for _, d := range jobs {
			if seen[d.Node] {
				t.Fatalf("%s twice", d.Node)
			}
			seen[d.Node] = true
			c.take(Chored{d.Node, d.Chores, nil})
		}
		c.until(c.now.Add(time.Millisecond))
	}
}

func TestNoChoresWithoutAnybody(t *testing.T) {
	c := newChorer(t, 0)
	c.m.opts.Chores = false
	c.take(Read{Applied: &Applied{Version: "2", Rules: "r2", Nodes: []Node{{Name: "n00"}}}})
	c.take(Opened{"n00"})
	c.take(Listed{Node: "n00", Listing: &Listing{BootID: "b"}})
	c.take(Rounded{})
	if d := c.drawn(); len(d) != 0 || !c.m.keep.next.IsZero() {
		t.Errorf("%+v, next at %s", d, c.m.keep.next)
	}
}
