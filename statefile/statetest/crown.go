package statetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/statefile"
)

// RunCrown checks the contract of statefile.Crowner, as Run does that of statefile.Store.
func RunCrown(t *testing.T, newStore func(t *testing.T) func() statefile.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, func() statefile.Crowner)
	}{
		{"one leads", testCrown},
		{"one of many at once", testCrownRace},
		{"one that says so goes on", testCrownKept},
		{"one that is silent loses it", testCrownSilent},
		{"greater than a number that hosts have seen", testCrownAbove},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			open := newStore(t)
			c.test(t, func() statefile.Crowner {
				s := statefile.CrownerOf(open())
				if s == nil {
					t.Fatal("it is no Crowner")
				}
				return s
			})
		})
	}
}

func watcher(who string) statefile.Watcher {
	return statefile.Watcher{Who: who, PID: 7, Since: time.Unix(100, 0).UTC(), Seen: time.Unix(100, 0).UTC()}
}

func lead(t *testing.T, s statefile.Crowner, who string) statefile.Crown {
	t.Helper()
	c, held, err := s.Crown(t.Context(), watcher(who), 0)
	if err != nil || held {
		t.Fatalf("%s does not lead: held %v, %v", who, held, err)
	}
	return c
}

// soon leads as soon as whoever was silent has been so for long enough.
func soon(t *testing.T, s statefile.Crowner) statefile.Crown {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		c, _, err := s.Crown(t.Context(), watcher("ann@ws1"), 0)
		if err != nil {
			t.Fatalf("Crown: %v", err)
		}
		if c != nil {
			return c
		}
	}
	t.Fatal("nobody can lead")
	return nil
}

func standBy(t *testing.T, s statefile.Crowner, who string) {
	t.Helper()
	if _, held, err := s.Crown(t.Context(), watcher(who), 0); err != nil || !held {
		t.Fatalf("%s leads beside another: held %v, %v", who, held, err)
	}
}

func testCrown(t *testing.T, open func() statefile.Crowner) {
	one, two := open(), open()
	if w, err := one.Watcher(t.Context()); w != nil || err != nil {
		t.Fatalf("before the first: %+v, %v", w, err)
	}
	c := lead(t, one, "ann@ws1")
	standBy(t, two, "bob@ws2")
	w := watcher("ann@ws1")
	w.Seen = time.Unix(105, 0).UTC()
	check(t, "Say", c.Say(t.Context(), w))
	if got, err := two.Watcher(t.Context()); err != nil || got == nil || got.Who != w.Who || !got.Seen.Equal(w.Seen) || got.Fence != c.Fence() {
		t.Errorf("the one that leads says %+v (%v)", got, err)
	}
	check(t, "Held", c.Held(t.Context()))
	check(t, "Abdicate", c.Abdicate(t.Context()))
	check(t, "Abdicate again", c.Abdicate(t.Context()))
	if c.Context().Err() == nil {
		t.Error("its work goes on")
	}
	if got, err := two.Watcher(t.Context()); err != nil || got == nil || !got.Stopped {
		t.Errorf("the one that has stopped says %+v (%v)", got, err)
	}
	next := lead(t, two, "bob@ws2")
	if next.Fence() <= c.Fence() {
		t.Errorf("the next has number %d after %d", next.Fence(), c.Fence())
	}
	check(t, "Abdicate", next.Abdicate(t.Context()))
}

func testCrownRace(t *testing.T, open func() statefile.Crowner) {
	last := uint64(0)
	for round := range 5 {
		began := time.Now()
		var mu sync.Mutex
		var crowns []statefile.Crown
		var all sync.WaitGroup
		for range 6 {
			s := open()
			all.Go(func() {
				for range 3 {
					c, _, err := s.Crown(t.Context(), watcher("x"), 0)
					if err != nil {
						t.Errorf("Crown: %v", err)
					}
					if c != nil {
						mu.Lock()
						crowns = append(crowns, c)
						mu.Unlock()
						return
					}
				}
			})
		}
		all.Wait()
		if len(crowns) == 0 {
			t.Fatalf("round %d: nobody leads", round)
		}
		var leads statefile.Crown
		for _, c := range crowns { // one that was outdone at once finds it at its next word
			err := c.Say(t.Context(), watcher("x"))
			switch {
			case err == nil && leads != nil:
				t.Fatalf("round %d: two lead, with numbers %d and %d", round, leads.Fence(), c.Fence())
			case err == nil:
				leads = c
			case !errors.Is(err, statefile.ErrCrownLost):
				t.Errorf("Say: %v", err)
			}
		}
		if leads == nil && time.Since(began) > statefile.CrownSure { // who was not heard for so long gives up by himself
			leads = soon(t, open())
			crowns = append(crowns, leads)
		}
		if leads == nil || leads.Fence() <= last {
			t.Fatalf("round %d: %v leads after number %d", round, leads, last)
		}
		last = leads.Fence()
		for _, c := range crowns {
			check(t, "Abdicate", c.Abdicate(t.Context()))
		}
	}
}

// testCrownKept has one lead for longer than a silent one may.
func testCrownKept(t *testing.T, open func() statefile.Crowner) {
	one, two := open(), open()
	c, said := lead(t, one, "ann@ws1"), time.Now()
	for until := time.Now().Add(statefile.CrownTTL + 2*time.Second); time.Now().Before(until); {
		other, held, err := two.Crown(t.Context(), watcher("bob@ws2"), 0)
		if other != nil && time.Since(said) > statefile.CrownSure { // it was not heard in time: the machine stood still
			t.Logf("nothing was said for %s", time.Since(said))
			check(t, "Abdicate", errors.Join(other.Abdicate(t.Context()), c.Abdicate(t.Context())))
			return
		}
		if err != nil || !held {
			t.Fatalf("bob@ws2 leads beside another: held %v, %v", held, err)
		}
		w := watcher("ann@ws1")
		w.Seen = time.Now().UTC()
		says := time.Now()
		if unheard(t, said, "Say", c.Say(t.Context(), w)) {
			break
		}
		said = says
		time.Sleep(statefile.CrownBeat / 2)
	}
	unheard(t, said, "Held", c.Held(t.Context()))
	check(t, "Abdicate", c.Abdicate(t.Context()))
}

// unheard reports whether one that leads gave up by itself, as nothing had been said for too long: the machine stood still. Any other error fails
// the test.
func unheard(t *testing.T, said time.Time, what string, err error) bool {
	t.Helper()
	if silent := time.Since(said); errors.Is(err, statefile.ErrCrownLost) && silent > statefile.CrownSure {
		t.Logf("%s: nothing was said for %s", what, silent)
		return true
	}
	check(t, what, err)
	return false
}

// testCrownSilent has one fall silent, as one does that sleeps: another leads in less than ten seconds, with a greater number, and whatever the
// first one does then tells it that it has lost.
func testCrownSilent(t *testing.T, open func() statefile.Crowner) {
	one, two := open(), open()
	c := lead(t, one, "ann@ws1")
	began := time.Now()
	var next statefile.Crown
	for next == nil {
		if time.Since(began) > 20*time.Second { // some six on a machine with little else to do
			t.Fatal("nobody has taken the place of one that is silent")
		}
		var err error
		next, _, err = two.Crown(t.Context(), watcher("bob@ws2"), 0)
		check(t, "Crown", err)
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("another leads after %s", time.Since(began).Round(10*time.Millisecond))
	if next.Fence() <= c.Fence() {
		t.Errorf("the next has number %d after %d", next.Fence(), c.Fence())
	}
	if err := c.Held(t.Context()); !errors.Is(err, statefile.ErrCrownLost) {
		t.Errorf("the one that was silent: %v", err)
	}
	if err := c.Say(t.Context(), watcher("ann@ws1")); !errors.Is(err, statefile.ErrCrownLost) {
		t.Errorf("the one that was silent says something: %v", err)
	}
	if cause := context.Cause(c.Context()); !errors.Is(cause, statefile.ErrCrownLost) {
		t.Errorf("its context ends with %v", cause)
	}
	check(t, "Abdicate", c.Abdicate(t.Context()))
	w := watcher("bob@ws2")
	w.Seen = time.Unix(200, 0).UTC()
	check(t, "Say", next.Say(t.Context(), w))
	if got, err := one.Watcher(t.Context()); err != nil || got == nil || got.Who != w.Who || got.Stopped || got.Fence != next.Fence() {
		t.Errorf("the one that leads says %+v (%v)", got, err)
	}
	check(t, "Abdicate", next.Abdicate(t.Context()))
}

func testCrownAbove(t *testing.T, open func() statefile.Crowner) {
	s := open()
	c, held, err := s.Crown(t.Context(), watcher("ann@ws1"), 41)
	if err != nil || held || c.Fence() <= 41 {
		t.Fatalf("held %v, %v, %+v", held, err, c)
	}
	check(t, "Abdicate", c.Abdicate(t.Context()))
	if next := lead(t, s, "ann@ws1"); next.Fence() <= c.Fence() {
		t.Errorf("the next has number %d after %d", next.Fence(), c.Fence())
	} else {
		check(t, "Abdicate", next.Abdicate(t.Context()))
	}
}
