package watchdog_test

import (
	"maps"
	"slices"
	"time"

	"berth.dev/berth/watchdog"
)

// dog is one of several watchdogs: a process, and its mind while it leads.
type dog struct {
	name    string
	alive   bool
	process int  // counts those that were begun
	paused  bool // the process is stopped
	blind   bool // it does not reach the state's home
	frozen  []func()

	mind    *watchdog.Mind
	life    int // counts its terms and ends: answers to an earlier one are heard by nobody
	term    uint64
	renewed time.Time // when it last said that it leads
	tending map[string]bool
	making  bool // a round of this term
	loses   bool // that round loses the lock

	sawTag   uint64 // what it has seen of the crown, and since when
	sawSince time.Time
	above    uint64 // a number that hosts have heard of
}

// simCrown is the record of who leads.
type simCrown struct {
	dog      *dog // nil when it was given back
	life     int  // of the dog
	term     uint64
	tag      uint64 // grows with every writing
	sessions bool   // the end of a process is noticed by itself
	ended    bool   // the session of the one that leads
}

// by is after for what a process does or hears: while it is stopped it does and hears nothing.
func (s *history) by(d *dog, after time.Duration, do func()) {
	s.after(after, func() {
		if d.paused {
			d.frozen = append(d.frozen, do)
			return
		}
		do()
	})
}

// nextDue is the mind for which something is due first.
func (s *history) nextDue() (*dog, time.Time) {
	var first *dog
	var at time.Time
	for _, d := range s.dogs {
		if d.mind == nil || d.paused {
			continue
		}
		if due := d.mind.Next(); !due.IsZero() && (first == nil || due.Before(at)) {
			first, at = d, due
		}
	}
	return first, at
}

// ask is what a process does twice a second: it says that it leads, or finds out whether it may.
func (s *history) ask(d *dog, process int) {
	if !d.alive || d.process != process {
		return
	}
	s.by(d, s.some(300*time.Millisecond, 700*time.Millisecond), func() { s.ask(d, process) })
	c := &s.crown
	if d.mind != nil {
		switch ours := c.dog == d && c.life == d.life; {
		case !d.blind && !ours, s.now.Sub(d.renewed) > 4*time.Second:
			s.resign(d, "has lost the lead")
		case !d.blind:
			c.tag++
			d.renewed = s.now
		}
		return
	}
	if d.blind {
		return
	}
	if c.dog != nil && !(c.sessions && c.ended) {
		if c.tag != d.sawTag || d.sawSince.IsZero() {
			d.sawTag, d.sawSince = c.tag, s.now
			return
		}
		if s.now.Sub(d.sawSince) < 6*time.Second {
			return
		}
	}
	s.lead(d)
}

func (s *history) lead(d *dog) {
	c := &s.crown
	d.life++
	d.term, d.renewed = max(c.term, d.above)+1, s.now
	*c = simCrown{dog: d, life: d.life, term: d.term, tag: c.tag + 1, sessions: c.sessions}
	d.tending, d.making, d.loses = map[string]bool{}, false, false
	d.mind = watchdog.NewMind(watchdog.Options{Grace: simGrace, Lease: simLease, Who: d.name}, d.term)
	s.note("%s leads, term %d", d.name, d.term)
	s.tell(d, watchdog.Tick{})
}

// resign ends a term. What is on its way goes on.
func (s *history) resign(d *dog, why string) {
	if d.mind == nil {
		return
	}
	s.note("%s %s", d.name, why)
	if s.crown.dog == d && s.crown.life == d.life && d.alive && !d.blind {
		s.crown.dog = nil
	}
	d.mind, d.sawSince = nil, time.Time{}
	d.life++
	for _, h := range s.hosts {
		delete(h.follower, d)
	}
}

// refused ends the term of one that a host has refused.
func (s *history) refused(d *dog, life int) {
	for _, h := range s.hosts {
		d.above = max(d.above, h.term)
	}
	if d.life == life && d.term < d.above {
		s.resign(d, "is refused by a host")
	}
}

// troubleOf is something that goes wrong with a watchdog, more often with the one that leads.
func (s *history) troubleOf(d *dog) {
	if s.crown.dog != nil && s.chance.IntN(2) == 0 {
		d = s.crown.dog
	}
	if !d.alive || d.paused {
		return
	}
	switch s.chance.IntN(3) {
	case 0:
		s.note("%s is killed", d.name)
		if s.crown.dog == d {
			s.crown.ended = true
		}
		d.alive = false
		s.resign(d, "is dead")
		s.after(s.some(10*time.Millisecond, 20*time.Second), func() { s.begin(d) })
	case 1:
		d.paused = true
		s.note("%s is stopped", d.name)
		s.after(s.some(10*time.Millisecond, 25*time.Second), func() { s.wake(d) })
	case 2:
		d.blind = true
		s.note("%s does not reach the state any more", d.name)
		s.after(s.some(10*time.Millisecond, 20*time.Second), func() { d.blind = false })
	}
}

// begin starts a process anew.
func (s *history) begin(d *dog) {
	if d.alive {
		return
	}
	d.alive, d.sawSince, d.above = true, time.Time{}, 0
	d.process++
	s.note("%s begins", d.name)
	s.ask(d, d.process)
}

// wake lets a process go on, with everything that it was about to do or to hear, in any order.
func (s *history) wake(d *dog) {
	if !d.paused {
		return
	}
	d.paused = false
	s.note("%s goes on", d.name)
	frozen := d.frozen
	d.frozen = nil
	for _, i := range s.chance.Perm(len(frozen)) {
		s.by(d, s.some(0, 20*time.Millisecond), frozen[i])
	}
}

// checkLeader finds one that leads, of whom every host has heard.
func (s *history) checkLeader() {
	leading := slices.DeleteFunc(slices.Clone(s.dogs), func(d *dog) bool { return d.mind == nil })
	if len(leading) != 1 || s.crown.dog != leading[0] {
		s.fault("%d watchdogs lead", len(leading))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.hosts)) {
		if h := s.hosts[name]; h.term != leading[0].term {
			s.fault("%s has heard of term %d, and it is %d", name, h.term, leading[0].term)
		}
	}
}
