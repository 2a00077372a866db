package watchdog_test

import (
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/watchdog"
)

// TestHistories has a mind look after a small cluster through seeded random histories: containers that crash, reboots, hosts that are cut off or slow,
// events that are lost or told twice, applies by another, rounds that lose the lock, and the end of the watchdog itself at any moment, with
// another one after it. While that lasts: one pod is never tended twice at a time, one round is made at a time, nothing is done under an
// old fencing number, no volume goes. When it is over: what runs is what was applied, nothing else does, and traffic goes to just the pods that are ready.
//
// Everything happens in one goroutine and in virtual time, so that a seed always tells the same story:
//
//	HISTORY=4711 go test -run TestHistories -v ./watchdog
func TestHistories(t *testing.T) {
	if text := os.Getenv("HISTORY"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s := newHistory(seed)
		for _, p := range s.play() {
			t.Error(p)
		}
		t.Log("\n" + strings.Join(s.trace, "\n"))
		return
	}
	const histories = 10_000
	orders := 0
	for seed := range uint64(histories) {
		s := newHistory(seed)
		if problems := s.play(); len(problems) > 0 {
			t.Errorf("history %d: %s\nreplay it with HISTORY=%d go test -run TestHistories -v ./watchdog", seed, strings.Join(problems, "; "), seed)
			if seed > 3 && t.Failed() {
				break
			}
		}
		orders += s.orders
		if seed%1000 == 0 { // the same seed tells the same story
			again := newHistory(seed)
			again.play()
			if !slices.Equal(s.trace, again.trace) {
				t.Fatalf("history %d is another one the second time: %s", seed, difference(s.trace, again.trace))
			}
		}
	}
	t.Logf("%d histories, %d orders", histories, orders)
}

func difference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d is %q and then %q", i, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d and then %d lines", len(a), len(b))
}

// history is a cluster, its state, and what happens to them.
type history struct {
	chance *rand.Rand
	now    time.Time
	queue  happenings
	seq    int
	trace  []string
	wrong  []string
	orders int

	hosts map[string]*simHost
	state simState

	mind    *watchdog.Mind
	life    int // of the watchdog: answers to an earlier one are heard by nobody
	fence   uint64
	tending map[string]bool
	making  bool // a round of this watchdog
	loses   bool // the round that is being made loses the lock
	ids     int
}

// simHost is a host with the pods that run there.
type simHost struct {
	name     string
	up, cut  bool
	slow     time.Duration
	boot     int
	fence    uint64 // the newest that was seen
	pods     map[string]*simPod
	volumes  map[string]bool
	follower int // the life of the watchdog that follows it, 0 for none
}

// simPod is a pod on a host.
type simPod struct {
	sandbox  string
	attempt  int
	running  bool
	since    time.Time // it is ready a second later
	restarts int
}

// simState is what was applied.
type simState struct {
	version   int
	pods      map[string]watchdog.Pod
	endpoints map[string]string // address by uid: what services on all nodes hold
	boots     map[string]string
	busy      []string
	locked    string
}

type happening struct {
	at  time.Time
	seq int
	do  func()
}

type happenings []happening

func (h happenings) Len() int { return len(h) }
func (h happenings) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].seq < h[j].seq
}
func (h happenings) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *happenings) Push(x any)   { *h = append(*h, x.(happening)) }
func (h *happenings) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

const (
	troubles = time.Minute     // for so long something goes wrong now and then
	quiet    = 8 * time.Minute // and for so long nothing does
)

func newHistory(seed uint64) *history {
	s := &history{
		chance: rand.New(rand.NewPCG(seed, 42)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), hosts: map[string]*simHost{},
		state: simState{version: 1, pods: map[string]watchdog.Pod{}, endpoints: map[string]string{}, boots: map[string]string{}},
	}
	for i := range 2 + s.chance.IntN(3) {
		h := &simHost{name: fmt.Sprintf("n%d", i+1), up: true, boot: 1, pods: map[string]*simPod{}, volumes: map[string]bool{}}
		s.hosts[h.name] = h
		s.state.boots[h.name] = h.bootID()
	}
	for range 1 + s.chance.IntN(5) {
		s.place(s.anyHost())
	}
	return s
}

func (h *simHost) bootID() string { return fmt.Sprintf("%s-boot-%d", h.name, h.boot) }

// place makes a pod that runs and is ready, as an apply does.
func (s *history) place(h *simHost) {
	s.ids++
	uid := fmt.Sprintf("pod-%d", s.ids)
	p := &simPod{running: true, since: s.now.Add(-time.Minute)}
	s.sandbox(p)
	h.pods[uid], h.volumes[uid] = p, true
	s.state.pods[uid] = watchdog.Pod{UID: uid, Node: h.name, Recorded: p.standing(s.now)}
	s.state.endpoints[uid] = p.sandbox
}

func (s *history) sandbox(p *simPod) {
	s.ids++
	p.sandbox = fmt.Sprintf("box-%d", s.ids)
}

func (p *simPod) ready(now time.Time) bool { return p.running && !now.Before(p.since.Add(time.Second)) }

func (p *simPod) standing(now time.Time) watchdog.Standing {
	return watchdog.Standing{Ready: p.ready(now), IP: p.sandbox, SandboxID: p.sandbox}
}

func (p *simPod) listing(uid string) watchdog.PodListing {
	return watchdog.PodListing{Digest: fmt.Sprint(p.sandbox, p.attempt, p.running), IDs: []string{p.sandbox, uid + "-c"}}
}

func (s *history) anyHost() *simHost {
	return s.hosts[fmt.Sprintf("n%d", 1+s.chance.IntN(len(s.hosts)))]
}

func (s *history) anyPod() (string, bool) {
	uids := slices.Sorted(maps.Keys(s.state.pods))
	if len(uids) == 0 {
		return "", false
	}
	return uids[s.chance.IntN(len(uids))], true
}

func (s *history) note(format string, args ...any) {
	s.trace = append(s.trace, s.now.Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

func (s *history) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.note("WRONG: %s", text)
	s.wrong = append(s.wrong, text)
}

func (s *history) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, happening{s.now.Add(d), s.seq, do})
}

// some is a time between two.
func (s *history) some(least, most time.Duration) time.Duration {
	return least + time.Duration(s.chance.Int64N(int64(most-least)+1))
}

// play lets everything happen and returns what was wrong.
func (s *history) play() []string {
	begin := s.now
	s.start()
	for at := s.some(0, 5*time.Second); at < troubles; at += s.some(100*time.Millisecond, 8*time.Second) {
		s.after(at, s.trouble)
	}
	s.after(troubles, s.heal)
	for end := begin.Add(troubles + quiet); len(s.wrong) == 0; {
		next := end
		if len(s.queue) > 0 {
			next = s.queue[0].at
		}
		if s.mind != nil {
			if due := s.mind.Next(); !due.IsZero() && due.Before(next) {
				s.now = later(s.now, due)
				s.tell(watchdog.Tick{})
				continue
			}
		}
		if !next.Before(end) {
			break
		}
		x := heap.Pop(&s.queue).(happening)
		s.now = later(s.now, x.at)
		x.do()
	}
	s.check()
	return s.wrong
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// start is the beginning of a watchdog's life.
func (s *history) start() {
	s.life++
	s.fence++
	s.tending, s.making, s.loses = map[string]bool{}, false, false
	s.mind = watchdog.NewMind(watchdog.Options{}, s.fence)
	s.note("watchdog %d begins", s.life)
	s.tell(watchdog.Tick{})
}

// answer tells the watchdog that is alive something, if it is still the one that asked.
func (s *history) answer(life int, f watchdog.Fact) {
	if s.life == life && s.mind != nil {
		s.tell(f)
	}
}

func (s *history) tell(f watchdog.Fact) {
	for _, o := range s.mind.Take(s.now, f) {
		s.orders++
		if s.mind == nil {
			return
		}
		s.carryOut(o)
	}
}

// reachable says whether the operator reaches a host.
func (h *simHost) reachable() bool { return h.up && !h.cut }

var errGone = errors.New("the host does not answer")

// lag is how long a call to a host takes.
func (s *history) lag(h *simHost) time.Duration {
	if !h.reachable() {
		return s.some(time.Second, 10*time.Second)
	}
	return s.some(time.Millisecond, 50*time.Millisecond) + h.slow
}

func (s *history) carryOut(o watchdog.Order) {
	life := s.life
	switch o := o.(type) {
	case watchdog.ReadGoal:
		s.after(s.some(time.Millisecond, 20*time.Millisecond), func() { s.answer(life, s.read(o.Known)) })
	case watchdog.FollowNode:
		h := s.hosts[o.Node]
		s.after(s.lag(h), func() {
			if !h.reachable() {
				s.answer(life, watchdog.Lost{Node: h.name, Err: errGone})
				return
			}
			if s.life == life {
				h.follower = life
			}
			s.answer(life, watchdog.Opened{Node: h.name})
		})
	case watchdog.LeaveNode:
		s.after(time.Millisecond, func() { s.hosts[o.Node].follower = 0; s.answer(life, watchdog.Lost{Node: o.Node, Err: errGone}) })
	case watchdog.ListNode:
		s.list(life, s.hosts[o.Node])
	case watchdog.TendPod:
		s.tend(life, o.Request)
	case watchdog.MakeRound:
		s.makeRound(life, o.Request)
	case watchdog.Say:
		s.note("says %s %s", o.Notice.Reason, o.Notice.Node)
	case watchdog.ReadSource:
		s.after(time.Millisecond, func() { s.answer(life, watchdog.Edited{Version: "1"}) })
	}
}

func (s *history) read(known string) watchdog.Fact {
	version := strconv.Itoa(s.state.version)
	if version == known {
		return watchdog.Read{}
	}
	a := &watchdog.Applied{Version: version, Busy: slices.Clone(s.state.busy)}
	for _, name := range slices.Sorted(maps.Keys(s.hosts)) {
		a.Nodes = append(a.Nodes, watchdog.Node{Name: name, BootID: s.state.boots[name]})
	}
	for _, uid := range slices.Sorted(maps.Keys(s.state.pods)) {
		a.Pods = append(a.Pods, s.state.pods[uid])
	}
	return watchdog.Read{Applied: a}
}

// list looks at a host at one time and tells of it at another.
func (s *history) list(life int, h *simHost) {
	s.after(s.lag(h), func() {
		if !h.reachable() {
			s.answer(life, watchdog.Listed{Node: h.name, Err: errGone})
			return
		}
		l := &watchdog.Listing{BootID: h.bootID(), Pods: map[string]watchdog.PodListing{}}
		for uid, p := range h.pods {
			l.Pods[uid] = p.listing(uid)
		}
		s.after(s.lag(h), func() { s.answer(life, watchdog.Listed{Node: h.name, Listing: l}) })
	})
}

// tend does to a pod what is to be done. A watchdog that dies meanwhile may have done it all the same.
func (s *history) tend(life int, r watchdog.TendRequest) {
	uid := r.Pod.UID
	if s.tending[uid] {
		s.fault("%s is tended twice at a time", uid)
	}
	s.tending[uid] = true
	h := s.hosts[r.Pod.Node]
	done := func(t watchdog.Tended, err error) {
		if s.life == life {
			delete(s.tending, uid)
		}
		s.answer(life, watchdog.Done{UID: uid, Tended: t, Err: err})
	}
	s.after(s.lag(h), func() {
		if !h.reachable() {
			done(watchdog.Tended{}, errGone)
			return
		}
		if r.Fence < h.fence {
			done(watchdog.Tended{}, errors.New("fenced"))
			return
		}
		if s.life > life && s.chance.IntN(2) == 0 {
			return // the dead did not come so far
		}
		p := h.pods[uid]
		if p == nil {
			p = &simPod{}
			s.sandbox(p)
			h.pods[uid] = p
			h.volumes[uid] = true
		}
		if !p.running {
			p.running, p.since = true, s.now
			p.attempt++
			p.restarts++
			h.fence = max(h.fence, r.Fence)
			s.note("%s started on %s", uid, h.name)
		}
		t := watchdog.Tended{Standing: p.standing(s.now), PodListing: p.listing(uid), Restarts: p.restarts, Phase: "Running"}
		if !t.Ready {
			t.Again = p.since.Add(time.Second)
		}
		s.after(s.lag(h), func() {
			if !h.reachable() {
				done(watchdog.Tended{}, errGone)
				return
			}
			done(t, nil)
		})
	})
}

// makeRound is a round as far as the watchdog knows one: it takes the lock, brings standings and boots into the state, and, when it is a whole
// one, takes away what was not applied.
func (s *history) makeRound(life int, r watchdog.Request) {
	if s.making {
		s.fault("two rounds at a time")
	}
	s.making = true
	end := func(out watchdog.Outcome, err error) {
		if s.life == life {
			s.making = false
		}
		s.answer(life, watchdog.Rounded{Outcome: out, Err: err})
	}
	me := fmt.Sprintf("watchdog %d", life)
	s.after(s.some(time.Millisecond, 100*time.Millisecond), func() {
		if s.life != life {
			return
		}
		if s.state.locked != "" {
			end(watchdog.Outcome{}, &watchdog.BusyError{Err: errors.New("locked by " + s.state.locked)})
			return
		}
		s.state.locked = me
		s.after(s.some(5*time.Millisecond, 300*time.Millisecond), func() {
			if s.state.locked == me {
				s.state.locked = ""
			}
			if s.life != life && s.chance.IntN(2) == 0 {
				return // killed before it wrote
			}
			if s.life == life && s.loses {
				s.loses = false
				end(watchdog.Outcome{}, errors.New("the lock was lost"))
				return
			}
			s.write(r)
			end(watchdog.Outcome{Changed: true, Steps: 1}, nil)
		})
	})
}

func (s *history) write(r watchdog.Request) {
	changed := false
	for _, uid := range slices.Sorted(maps.Keys(r.Standings)) {
		p, ok := s.state.pods[uid]
		if !ok {
			continue
		}
		p.Recorded = r.Standings[uid]
		s.state.pods[uid], changed = p, true
		delete(s.state.endpoints, uid)
		if p.Recorded.Ready {
			s.state.endpoints[uid] = p.Recorded.IP
		}
	}
	if r.Kind == watchdog.RoundWhole {
		for name, boot := range r.Boots {
			changed = changed || s.state.boots[name] != boot
			s.state.boots[name] = boot
		}
		for _, name := range slices.Sorted(maps.Keys(s.hosts)) {
			h := s.hosts[name]
			for _, uid := range slices.Sorted(maps.Keys(h.pods)) {
				if p, ok := s.state.pods[uid]; (!ok || p.Node != name) && h.reachable() && r.Fence >= h.fence {
					delete(h.pods, uid)
					s.note("%s, which was not applied, is removed from %s", uid, name)
				}
			}
		}
	}
	if changed {
		s.state.version++
	}
}

// trouble is one thing that goes wrong.
func (s *history) trouble() {
	h := s.anyHost()
	switch s.chance.IntN(12) {
	case 0, 1, 2: // containers crash, and the event may be lost or told twice
		if uid, ok := s.anyPod(); ok {
			s.crash(uid)
		}
	case 3:
		s.powerOff(h)
		s.after(s.some(time.Second, 20*time.Second), func() { s.powerOn(h) })
	case 4, 5:
		h.cut = true
		s.note("%s is cut off", h.name)
		s.lose(h, 10*time.Second)
		s.after(s.some(100*time.Millisecond, 30*time.Second), func() { h.cut = false; s.note("%s is heard again", h.name) })
	case 6:
		h.slow = s.some(0, 3*time.Second)
		s.note("%s is slow: %s", h.name, h.slow)
	case 7, 8:
		s.applyByAnother(h)
	case 9:
		s.loses = s.making
		s.note("lock lost: %v", s.loses)
	case 10:
		s.note("the watchdog is killed")
		for _, h := range s.hosts {
			h.follower = 0
		}
		s.mind = nil
		s.life++ // nobody hears its answers
		s.after(s.some(10*time.Millisecond, 5*time.Second), func() {
			if s.mind == nil {
				s.start()
			}
		})
	case 11: // the connection alone ends
		s.lose(h, 0)
	}
}

// lose ends the following of a host, some time later if it only went silent.
func (s *history) lose(h *simHost, after time.Duration) {
	life := h.follower
	if life == 0 {
		return
	}
	s.after(after, func() {
		if h.follower == life && (after == 0 || !h.reachable()) {
			h.follower = 0
			s.answer(life, watchdog.Lost{Node: h.name, Err: errGone})
		}
	})
}

func (s *history) crash(uid string) {
	h := s.hosts[s.state.pods[uid].Node]
	p := h.pods[uid]
	if p == nil || !p.running {
		return
	}
	p.running = false
	s.note("%s crashes on %s", uid, h.name)
	times := []int{0, 1, 1, 1, 2}[s.chance.IntN(5)]
	for range times {
		life := h.follower
		s.after(s.some(time.Millisecond, 200*time.Millisecond), func() {
			if h.reachable() && h.follower == life && life != 0 {
				s.answer(life, watchdog.Hinted{Node: h.name, Hint: watchdog.Hint{ID: uid + "-c", Kind: watchdog.HintExit, At: s.now}})
			}
		})
	}
}

func (s *history) powerOff(h *simHost) {
	if !h.up {
		return
	}
	h.up = false
	s.note("%s loses its power", h.name)
	for _, p := range h.pods {
		p.running = false
	}
	s.lose(h, 0)
}

func (s *history) powerOn(h *simHost) {
	if h.up {
		return
	}
	h.up = true
	h.boot++
	s.note("%s is up again", h.name)
	for _, uid := range slices.Sorted(maps.Keys(h.pods)) { // sandboxes do not outlive a boot
		s.sandbox(h.pods[uid])
	}
}

// applyByAnother is a person's apply: pods come and go.
func (s *history) applyByAnother(h *simHost) {
	if s.state.locked != "" || !h.reachable() {
		return
	}
	s.state.locked = "another"
	uid, ok := s.anyPod()
	if ok {
		s.state.busy = []string{uid}
		delete(s.state.endpoints, uid)
	}
	s.state.version++
	s.note("another applies: %s goes", uid)
	s.after(s.some(50*time.Millisecond, 4*time.Second), func() {
		s.state.locked, s.state.busy = "", nil
		s.state.version++
		if ok {
			if old := s.hosts[s.state.pods[uid].Node]; old.reachable() {
				delete(old.pods, uid)
			} // else it stays there, an orphan
			delete(s.state.pods, uid)
		}
		if h.reachable() {
			s.place(h)
		}
		s.note("another has applied")
	})
}

// heal ends everything that was wrong.
func (s *history) heal() {
	s.note("all is well from now on")
	for _, name := range slices.Sorted(maps.Keys(s.hosts)) {
		h := s.hosts[name]
		h.cut, h.slow = false, 0
		s.powerOn(h)
	}
	if s.mind == nil {
		s.start()
	}
}

// check compares the end with what should be.
func (s *history) check() {
	if len(s.wrong) > 0 {
		return
	}
	for _, uid := range slices.Sorted(maps.Keys(s.state.pods)) {
		want := s.state.pods[uid]
		p := s.hosts[want.Node].pods[uid]
		switch {
		case p == nil || !p.running:
			s.fault("%s does not run on %s", uid, want.Node)
		case p.standing(s.now) != want.Recorded:
			s.fault("%s is %+v, recorded as %+v", uid, p.standing(s.now), want.Recorded)
		case s.state.endpoints[uid] != p.sandbox:
			s.fault("traffic for %s goes to %q instead of %q", uid, s.state.endpoints[uid], p.sandbox)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.hosts)) {
		h := s.hosts[name]
		if s.state.boots[name] != h.bootID() {
			s.fault("%s is recorded with boot %s, and has %s", name, s.state.boots[name], h.bootID())
		}
		for _, uid := range slices.Sorted(maps.Keys(h.pods)) {
			if p, ok := s.state.pods[uid]; !ok || p.Node != name {
				s.fault("%s runs on %s and was not applied", uid, name)
			}
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(s.state.endpoints)) {
		if _, ok := s.state.pods[uid]; !ok {
			s.fault("traffic goes to %s, which is gone", uid)
		}
	}
}
