package watchdog

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"berth.dev/berth/api"
)

// oneOnB makes the pod of node b one of which at most one may run, with a lease that the state tells of.
func (c *cluster) oneOnB(leased time.Duration) {
	c.applied.Pods = slices.Clone(c.applied.Pods)
	c.applied.Pods[1].AtMostOne, c.applied.Pods[1].Leased = true, leased
	c.version++
	c.applied.Version = fmt.Sprint(c.version)
}

// given is until when the leases on node b were renewed, by its uptime, at the latest of what was ordered.
func (c *cluster) given() (until time.Duration) {
	for _, o := range c.orders {
		if b, ok := o.(BeatNode); ok && b.Node == "b" && b.Lease != nil {
			until = max(until, b.Lease.Until)
		}
	}
	return until
}

// No lease that was ever asked for outlives what the state says: "the leases are over".
func TestLeasesAreNotRenewedWhileTheNodeIsLost(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(c *cluster)
		over    string
	}{
		"its container runtime hangs, and the host answers": {func(c *cluster) {
			c.hung["b"] = true
		}, "b False"},
		"it is reached again, and breaks before it could be listed": {func(c *cluster) {
			c.lose(c.gone, "b")
			c.run(75)
			c.is("b Unknown evict@70 leases over")
			c.gone["b"], c.hung["b"] = false, true
			c.run(106) // heartbeats go there
			c.lose(c.gone, "b")
		}, "b Unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, Options{Lease: 30 * time.Second}, "a", "b", "c")
			c.oneOnB(0)
			c.run(20)
			tt.happens(c)
			for c.at < 400 {
				c.run(c.at + 0.1)
				if until := c.given() - c.uptime; strings.Contains(c.recorded(), "leases over") && time.Duration(c.at*float64(time.Second)) < until+leaseMargin-time.Second {
					t.Fatalf("at %g s the state says %q, and a lease was given until %s", c.at, c.recorded(), until)
				}
			}
			if got := c.recorded(); !strings.HasPrefix(got, tt.over) || !strings.HasSuffix(got, "leases over") {
				t.Errorf("the state says %q", got)
			}
			c.want("beat b") // it is still asked

			c.said = nil
			c.gone["b"], c.hung["b"] = false, false
			c.run(435)
			c.is("")
			list, beat := -1, -1
			for i, l := range c.said {
				if list < 0 && strings.Contains(l, "list b") {
					list = i
				}
				if beat < 0 && strings.Contains(l, "beat b [pod-b]") {
					beat = i
				}
			}
			if list < 0 || beat < list {
				t.Errorf("no lease after it was listed:\n%s", strings.Join(c.said, "\n"))
			}
		})
	}
}

// When a node is back its leases are renewed as soon as the state has been read that says so.
func TestLeasesOfANodeThatIsBackAreDueAtOnce(t *testing.T) {
	c := newCluster(t, Options{Lease: 30 * time.Second, Relist: 5 * time.Second}, "a", "b", "c")
	c.oneOnB(0)
	c.run(20)
	c.hung["b"] = true
	for c.recorded() == "" && c.at < 100 {
		c.run(c.at + 0.1)
	}
	c.run(c.at + 45)
	before := c.given()
	c.hung["b"] = false
	for c.recorded() != "" && c.at < 300 {
		c.run(c.at + 0.1)
	}
	c.run(c.at + 1.5)
	if c.given() == before || c.given()-c.uptime < time.Duration((c.at+25)*float64(time.Second)) {
		t.Errorf("at %g s: the last lease is until %s, and was until %s", c.at, c.given()-c.uptime, before-c.uptime)
	}
}

// What was concluded of the end of leases is looked at anew.
func TestTheEndOfLeasesIsTheLastOne(t *testing.T) {
	m := NewMind(Options{}, 1)
	at := func(s int) *time.Time { t := stamp(epoch.Add(time.Duration(s) * time.Second)); return &t }
	for _, tt := range []struct {
		found    *time.Time
		end, now int
		want     *time.Time
		over     bool
	}{
		{at(40), 30, 39, at(40), false},
		{at(40), 30, 40, at(40), true},
		{at(40), 60, 45, at(70), false},
		{at(40), 60, 70, at(70), true},
		{nil, 60, 45, at(70), false},
		{nil, 0, 45, nil, false},
	} {
		first := &api.LostNode{Name: "a", LeaseEnd: tt.found}
		n := &node{Node: Node{Name: "a"}, absence: absence{found: first}}
		if tt.found != nil {
			n.leaseBy = *tt.found
		}
		if tt.end > 0 {
			n.end = epoch.Add(time.Duration(tt.end) * time.Second)
		}
		m.now = epoch.Add(time.Duration(tt.now) * time.Second)
		m.leaseOver(n)
		if !sameTime(n.found.LeaseEnd, tt.want) || n.found.LeaseOver != tt.over || first.LeaseOver || !sameTime(first.LeaseEnd, tt.found) {
			t.Errorf("%+v: %+v", tt, n.found)
		}
	}
}

// Whoever sets the clock of the watchdog's machine neither ends leases before hosts have stopped their pods, nor makes them last longer.
func TestLeasesEndWhateverTheClockIsSetTo(t *testing.T) {
	for _, set := range []time.Duration{time.Hour, -time.Hour} {
		m := NewMind(Options{}, 1)
		m.now = time.Now()
		n := &node{Node: Node{Name: "a"}, absence: absence{found: &api.LostNode{Name: "a"}}, heart: heart{end: m.now.Add(30 * time.Second)}}
		m.leaseOver(n)
		for _, tt := range []struct {
			later time.Duration
			over  bool
		}{{39 * time.Second, false}, {41 * time.Second, true}} {
			m.now = setClock(m.now.Add(tt.later), set)
			m.leaseOver(n)
			if n.found.LeaseOver != tt.over {
				t.Errorf("with the clock set by %s, %s later: over: %t", set, tt.later, n.found.LeaseOver)
			}
			m.now = setClock(m.now, -set).Add(-tt.later)
		}
	}
}

// setClock is a moment as it is told after the clock was set: another time of day, and the same reading of the clock that nobody sets.
func setClock(at time.Time, by time.Duration) time.Time {
	const second = 1 << 30 // in the first word of a time with both readings: 33 bits of seconds above 30 of nanoseconds
	word := (*uint64)(unsafe.Pointer(&at))
	*word += uint64(by/time.Second) * second
	return at
}

// A lease is never longer than what the state says: a watchdog that comes after waits for as long.
func TestALongerLeaseIsRecordedFirst(t *testing.T) {
	for name, tt := range map[string]struct{ recorded, option, first, later time.Duration }{
		"longer":         {6 * time.Second, 30 * time.Second, 6 * time.Second, 30 * time.Second},
		"shorter":        {30 * time.Second, 6 * time.Second, 6 * time.Second, 6 * time.Second},
		"none was given": {0, 30 * time.Second, 30 * time.Second, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, Options{Lease: tt.option}, "a", "b", "c")
			c.oneOnB(tt.recorded)
			first, longest := time.Duration(0), time.Duration(0)
			for c.at < 60 {
				before, said := len(c.orders), c.applied.Pods[1].Leased
				at := float64(int(c.at*10+0.5)+1) / 10
				c.run(at)
				for _, o := range c.orders[before:] {
					b, ok := o.(BeatNode)
					if !ok || b.Lease == nil {
						continue
					}
					lease := b.Lease.Until - c.uptime - time.Duration(at*float64(time.Second))
					if first == 0 {
						first = lease
					}
					longest = max(longest, lease)
					if said > 0 && lease > said+100*time.Millisecond {
						t.Errorf("at %g s: a lease of %s, and the state said %s", at, lease, said)
					}
				}
			}
			near := func(a, b time.Duration) bool { return (a - b).Abs() < 10*time.Millisecond }
			if !near(first, tt.first) || !near(longest, tt.later) && tt.later >= tt.first || c.applied.Pods[1].Leased != tt.option {
				t.Errorf("first %s, at most %s, recorded %s", first, longest, c.applied.Pods[1].Leased)
			}
			if !c.mind.now.Before(c.mind.nodes["b"].good) {
				t.Error("the lease has run out")
			}
		})
	}
}

// What came back while others were cleared is cleared next, and not forgotten.
func TestANodeThatComesBackWhileOthersAreCleared(t *testing.T) {
	for name, err := range map[string]error{"it ends well": nil, "it fails": errCut} {
		t.Run(name, func(t *testing.T) {
			m := NewMind(Options{}, 1)
			m.now, m.applied = epoch, &Applied{Left: map[string][]string{"a": {"x"}, "b": {"y"}}}
			for _, name := range []string{"a", "b"} {
				m.nodes[name] = &node{Node: Node{Name: name}, left: m.applied.Left[name]}
			}
			m.clearFirst(m.nodes["a"])
			m.makeRound(RoundBack)
			m.clearFirst(m.nodes["b"])
			m.rounded(Rounded{Err: err})
			if m.nodes["a"].clearing || !m.nodes["b"].clearing || m.round.clearBy.IsZero() {
				t.Errorf("a waits: %t, b waits: %t, until %s", m.nodes["a"].clearing, m.nodes["b"].clearing, m.round.clearBy)
			}
			if m.round.back["a"] != (err != nil) || !m.round.back["b"] || m.round.backDue.IsZero() {
				t.Errorf("the next is for %v, at %s", m.round.back, m.round.backDue)
			}
		})
	}
}
