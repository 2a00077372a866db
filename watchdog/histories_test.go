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

	"berth.dev/berth/api"
	"berth.dev/berth/watchdog"
)

// TestHistories has watchdogs look after a small cluster through seeded random histories: containers that crash, reboots, hosts that are cut off or slow, cables that are pulled,
// container runtimes that hang, events that are lost or told twice, applies by another, rounds that lose the lock, and watchdogs that are killed, stopped for a while, or cannot
// reach the state, at any moment, with one or two others that stand by. While that lasts: no watchdog tends one pod twice at a time, or makes two rounds
// at a time; nothing is done to a host by one that led before the last one that it has heard of, nor to a pod that a run which the host has heard of
// took away; nothing is written without the lock; no volume goes; no second pod runs of which there may be one; nothing is given up that others reach, or while most hosts are silent. When it is over: one leads; what runs is what was applied, nothing else does,
// and traffic goes to just the pods that are ready.
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

	dogs  []*dog
	crown simCrown
	ids   int
}

// simHost is a host with the pods that run there.
type simHost struct {
	name     string
	up, cut  bool      // cut: from the watchdogs alone
	pulled   bool      // its cable: nobody reaches it
	hung     bool      // its container runtime: it does not list its pods, and nobody removes any
	hungAt   time.Time // when that was so last
	shown    time.Time // since when others reach it, zero while they do not
	silent   time.Time // since when the watchdogs do not reach it, zero while they do
	upSince  time.Time
	lease    time.Duration   // until what uptime
	leased   map[string]bool // these pods may run
	slow     time.Duration
	boot     int
	term     uint64 // the greatest that it has heard of
	run      int    // the newest that has done something here
	pods     map[string]*simPod
	volumes  map[string]bool
	follower map[*dog]int // their lives
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
	lost      []api.LostNode
	left      map[string]string // nodes by uid
	busy      []string
	locked    string
	run       int // of the last one that has done something on hosts
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
		state: simState{version: 1, pods: map[string]watchdog.Pod{}, endpoints: map[string]string{}, boots: map[string]string{}, left: map[string]string{}},
	}
	for i := range 2 + s.chance.IntN(3) {
		h := &simHost{name: fmt.Sprintf("n%d", i+1), up: true, boot: 1, shown: s.now.Add(-time.Hour), upSince: s.now.Add(-time.Hour), leased: map[string]bool{}, pods: map[string]*simPod{}, volumes: map[string]bool{}, follower: map[*dog]int{}}
		s.hosts[h.name] = h
		s.state.boots[h.name] = h.bootID()
	}
	for range 1 + s.chance.IntN(5) {
		s.place(s.anyHost())
	}
	s.crown.sessions = s.chance.IntN(2) == 0
	for i := range 2 + s.chance.IntN(2) {
		s.dogs = append(s.dogs, &dog{name: fmt.Sprintf("w%d", i+1), alive: true})
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
	s.state.pods[uid] = watchdog.Pod{UID: uid, Node: h.name, Recorded: p.standing(s.now), AtMostOne: s.chance.IntN(3) == 0}
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
	for _, d := range s.dogs {
		s.ask(d, d.process)
	}
	for at := s.some(0, 5*time.Second); at < troubles; at += s.some(100*time.Millisecond, 8*time.Second) {
		s.after(at, s.trouble)
	}
	s.after(troubles, s.heal)
	for end := begin.Add(troubles + quiet); len(s.wrong) == 0; {
		next := end
		if len(s.queue) > 0 {
			next = s.queue[0].at
		}
		if d, due := s.nextDue(); d != nil && due.Before(next) {
			s.now = later(s.now, due)
			s.tell(d, watchdog.Tick{})
			continue
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

// answer tells a watchdog something, if it still is the one that asked.
func (s *history) answer(d *dog, life int, f watchdog.Fact) {
	if d.life == life && d.mind != nil {
		s.tell(d, f)
	}
}

func (s *history) tell(d *dog, f watchdog.Fact) {
	for _, o := range d.mind.Take(s.now, f) {
		s.orders++
		s.carryOut(d, o)
	}
}

// reachable says whether the operator reaches a host.
func (h *simHost) reachable() bool { return h.up && !h.cut && !h.pulled }

var errGone = errors.New("the host does not answer")

// lists says whether it also tells what runs there, and removes it.
func (h *simHost) lists() bool { return h.reachable() && !h.hung }

// lag is how long a call to a host takes.
func (s *history) lag(h *simHost) time.Duration {
	if !h.reachable() {
		return s.some(time.Second, 10*time.Second)
	}
	return s.some(time.Millisecond, 50*time.Millisecond) + h.slow
}

func (s *history) carryOut(d *dog, o watchdog.Order) {
	life := d.life
	switch o := o.(type) {
	case watchdog.ReadGoal:
		s.by(d, s.some(time.Millisecond, 20*time.Millisecond), func() { s.answer(d, life, s.read(o.Known)) })
	case watchdog.FollowNode:
		s.follow(d, s.hosts[o.Node])
	case watchdog.LeaveNode:
		s.by(d, time.Millisecond, func() {
			delete(s.hosts[o.Node].follower, d)
			s.answer(d, life, watchdog.Lost{Node: o.Node, Err: errGone})
		})
	case watchdog.ListNode:
		s.list(d, s.hosts[o.Node])
	case watchdog.BeatNode:
		s.beat(d, s.hosts[o.Node], o.Lease)
	case watchdog.LookFor:
		s.look(d, o)
	case watchdog.TendPod:
		s.tend(d, o.Request)
	case watchdog.MakeRound:
		s.makeRound(d, o.Request)
	case watchdog.Say:
		s.note("%s says %s %s", d.name, o.Notice.Reason, o.Notice.Node)
	case watchdog.ReadSource:
		s.by(d, time.Millisecond, func() { s.answer(d, life, watchdog.Edited{Version: "1"}) })
	}
}

// follow first tells the host who leads. One that has heard of a later one refuses.
func (s *history) follow(d *dog, h *simHost) {
	life, term := d.life, d.term
	s.by(d, s.lag(h), func() {
		if !h.reachable() {
			s.answer(d, life, watchdog.Lost{Node: h.name, Err: errGone})
			return
		}
		if term < h.term {
			s.refused(d, life)
			return
		}
		h.term = term
		if d.life == life {
			h.follower[d] = life
		}
		s.answer(d, life, watchdog.Opened{Node: h.name})
	})
}

func (s *history) read(known string) watchdog.Fact {
	version := strconv.Itoa(s.state.version) + " " + s.overdue()
	if version == known {
		return watchdog.Read{}
	}
	a := &watchdog.Applied{Version: version, Busy: slices.Clone(s.state.busy), Lost: slices.Clone(s.state.lost), Left: map[string][]string{}, Overdue: s.overdue()}
	for _, uid := range slices.Sorted(maps.Keys(s.state.left)) {
		a.Left[s.state.left[uid]] = append(a.Left[s.state.left[uid]], uid)
	}
	for _, name := range slices.Sorted(maps.Keys(s.hosts)) {
		a.Nodes = append(a.Nodes, watchdog.Node{Name: name, BootID: s.state.boots[name]})
	}
	for _, uid := range slices.Sorted(maps.Keys(s.state.pods)) {
		a.Pods = append(a.Pods, s.state.pods[uid])
	}
	return watchdog.Read{Applied: a}
}

// list looks at a host at one time and tells of it at another.
func (s *history) list(d *dog, h *simHost) {
	life := d.life
	s.by(d, s.lag(h), func() {
		if !h.reachable() {
			s.answer(d, life, watchdog.Listed{Node: h.name, Err: errGone})
			return
		}
		if h.hung {
			s.answer(d, life, watchdog.Listed{Node: h.name, Err: &watchdog.LostError{Reached: true, Err: errors.New("containerd does not answer")}})
			return
		}
		l := &watchdog.Listing{BootID: h.bootID(), Pods: map[string]watchdog.PodListing{}}
		for uid, p := range h.pods {
			l.Pods[uid] = p.listing(uid)
		}
		s.by(d, s.lag(h), func() { s.answer(d, life, watchdog.Listed{Node: h.name, Listing: l}) })
	})
}

// tend does to a pod what is to be done: it reads whether it may, then goes to the host, then comes back. A watchdog that dies meanwhile may have done it all
// the same.
func (s *history) tend(d *dog, r watchdog.TendRequest) {
	uid, life := r.Pod.UID, d.life
	if d.tending[uid] {
		s.fault("%s is tended twice at a time by %s", uid, d.name)
	}
	d.tending[uid] = true
	h := s.hosts[r.Pod.Node]
	done := func(t watchdog.Tended, err error) {
		if d.life == life {
			delete(d.tending, uid)
		}
		s.answer(d, life, watchdog.Done{UID: uid, Tended: t, Err: err})
	}
	s.by(d, s.some(0, 5*time.Millisecond), func() {
		if d.life != life {
			return
		}
		if _, ok := s.state.pods[uid]; !ok || slices.Contains(s.state.busy, uid) {
			done(watchdog.Tended{}, errors.New("a run in progress is about this pod"))
			return
		}
		run := s.state.run
		s.by(d, s.lag(h), func() {
			switch {
			case !h.reachable():
				done(watchdog.Tended{}, errGone)
			case r.Fence < h.term:
				s.refused(d, life)
				done(watchdog.Tended{}, errors.New("a watchdog that leads since has been here"))
			case h.hung:
				done(watchdog.Tended{}, errors.New("containerd does not answer"))
			case run < h.run:
				done(watchdog.Tended{}, errors.New("a newer run has been here"))
			case d.life > life && s.chance.IntN(2) == 0: // the dead did not come so far
			default:
				t := s.keep(d, h, r)
				s.by(d, s.lag(h), func() {
					if !h.reachable() {
						done(watchdog.Tended{}, errGone)
						return
					}
					done(t, nil)
				})
			}
		})
	})
}

// keep is what a host does for who is let in.
func (s *history) keep(d *dog, h *simHost, r watchdog.TendRequest) watchdog.Tended {
	uid := r.Pod.UID
	if s.crown.dog != d && s.crown.dog != nil && h.follower[s.crown.dog] != 0 {
		s.fault("%s acts on %s for %s, where %s leads", d.name, h.name, uid, s.crown.dog.name)
	}
	p := h.pods[uid]
	if _, ok := s.state.pods[uid]; !ok && p == nil {
		s.fault("%s makes %s on %s, which was taken away", d.name, uid, h.name)
	}
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
		s.note("%s started on %s by %s", uid, h.name, d.name)
		s.onlyOnce(uid)
	}
	t := watchdog.Tended{Standing: p.standing(s.now), PodListing: p.listing(uid), Restarts: p.restarts, Phase: "Running"}
	if !t.Ready {
		t.Again = p.since.Add(time.Second)
	}
	return t
}

// lockTTL is after how long a lock whose holder does not move is another's.
const lockTTL = 10 * time.Second

// makeRound is a round as far as the watchdog knows one: it takes the lock, brings standings and boots into the state, and, when it is a whole
// one, takes away what was not applied.
func (s *history) makeRound(d *dog, r watchdog.Request) {
	life := d.life
	if d.making {
		s.fault("%s makes two rounds at a time", d.name)
	}
	d.making = true
	end := func(out watchdog.Outcome, err error) {
		if d.life == life {
			d.making = false
		}
		s.answer(d, life, watchdog.Rounded{Outcome: out, Err: err})
	}
	s.by(d, s.some(time.Millisecond, 100*time.Millisecond), func() {
		if d.life != life {
			return
		}
		if s.crown.dog != d {
			end(watchdog.Outcome{}, errors.New("another leads"))
			return
		}
		if s.state.locked != "" {
			end(watchdog.Outcome{}, &watchdog.BusyError{Err: errors.New("locked by " + s.state.locked)})
			return
		}
		s.ids++
		mine := fmt.Sprintf("%s, lock %d", d.name, s.ids)
		s.state.locked = mine
		s.after(lockTTL, func() {
			if s.state.locked == mine { // its holder sleeps
				s.state.locked = ""
			}
		})
		s.by(d, s.some(5*time.Millisecond, 300*time.Millisecond), func() {
			ours := s.state.locked == mine
			if ours {
				s.state.locked = ""
			}
			if d.life != life && s.chance.IntN(2) == 0 {
				return // killed before it wrote
			}
			if !ours || d.life == life && d.loses {
				d.loses = false
				end(watchdog.Outcome{}, errors.New("the lock was lost"))
				return
			}
			s.write(d, life, r)
			end(watchdog.Outcome{Changed: true, Steps: 1}, nil)
		})
	})
}

func (s *history) write(d *dog, life int, r watchdog.Request) {
	changed := s.writeLosses(r)
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
		changed = s.evict() || changed
		for name, boot := range r.Boots {
			changed = changed || s.state.boots[name] != boot
			s.state.boots[name] = boot
		}
		for _, name := range slices.Sorted(maps.Keys(s.hosts)) {
			h := s.hosts[name]
			for _, uid := range slices.Sorted(maps.Keys(h.pods)) {
				if p, ok := s.state.pods[uid]; (!ok || p.Node != name) && h.lists() {
					if r.Fence < h.term {
						s.refused(d, life)
						return
					}
					s.state.run++
					h.run = s.state.run
					delete(h.pods, uid)
					if _, ok := s.state.left[uid]; ok {
						delete(s.state.left, uid)
						changed = true
					}
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
	switch s.chance.IntN(18) {
	case 0, 1, 2: // containers crash, and the event may be lost or told twice
		if uid, ok := s.anyPod(); ok {
			s.crash(uid)
		}
	case 3:
		s.powerOff(h)
		s.after(s.some(time.Second, 50*time.Second), func() { s.powerOn(h) })
	case 4, 5:
		h.cut = true
		s.marked(h)
		s.note("%s is cut off", h.name)
		s.lose(h, 10*time.Second)
		s.after(s.some(100*time.Millisecond, 50*time.Second), func() { h.cut = false; s.marked(h); s.note("%s is heard again", h.name) })
	case 15, 16:
		h.pulled = true
		s.marked(h)
		s.note("%s has no cable", h.name)
		s.lose(h, 10*time.Second)
		s.after(s.some(100*time.Millisecond, 50*time.Second), func() { h.pulled = false; s.marked(h); s.note("%s has its cable again", h.name) })
	case 17:
		h.hung = true
		s.note("the container runtime of %s hangs", h.name)
		s.after(s.some(time.Second, 50*time.Second), func() { s.recovers(h) })
	case 6:
		h.slow = s.some(0, 3*time.Second)
		s.note("%s is slow: %s", h.name, h.slow)
	case 7, 8:
		s.applyByAnother(h)
	case 9:
		if d := s.crown.dog; d != nil {
			d.loses = d.making
			s.note("lock lost: %v", d.loses)
		}
	case 10, 11, 12:
		s.troubleOf(s.dogs[s.chance.IntN(len(s.dogs))])
	case 13, 14: // the connections alone end
		s.lose(h, 0)
	}
}

// recovers ends that a container runtime hangs.
func (s *history) recovers(h *simHost) {
	if h.hung {
		h.hung, h.hungAt = false, s.now
		s.note("the container runtime of %s answers again", h.name)
	}
}

// lose ends the following of a host, some time later if it only went silent.
func (s *history) lose(h *simHost, after time.Duration) {
	for _, d := range s.dogs {
		life := h.follower[d]
		if life == 0 {
			continue
		}
		s.by(d, after, func() {
			if h.follower[d] == life && (after == 0 || !h.reachable()) {
				delete(h.follower, d)
				s.answer(d, life, watchdog.Lost{Node: h.name, Err: errGone})
			}
		})
	}
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
		d := s.crown.dog
		if d == nil {
			return
		}
		life := h.follower[d]
		s.by(d, s.some(time.Millisecond, 200*time.Millisecond), func() {
			if h.reachable() && h.follower[d] == life && life != 0 {
				s.answer(d, life, watchdog.Hinted{Node: h.name, Hint: watchdog.Hint{ID: uid + "-c", Kind: watchdog.HintExit, At: s.now}})
			}
		})
	}
}

func (s *history) powerOff(h *simHost) {
	if !h.up {
		return
	}
	h.up = false
	s.marked(h)
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
	h.upSince, h.lease, h.leased = s.now, 0, map[string]bool{}
	s.marked(h)
	s.note("%s is up again", h.name)
	for _, uid := range slices.Sorted(maps.Keys(h.pods)) { // sandboxes do not outlive a boot
		s.sandbox(h.pods[uid])
	}
}

// applyByAnother is a person's apply: pods come and go.
func (s *history) applyByAnother(h *simHost) {
	if s.state.locked != "" || !h.lists() {
		return
	}
	s.state.locked = "another"
	s.state.run++
	run := s.state.run
	h.run = run
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
			if old := s.hosts[s.state.pods[uid].Node]; old.lists() {
				old.run = run
				delete(old.pods, uid)
			} // else it stays there, an orphan
			delete(s.state.pods, uid)
		}
		if h.lists() {
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
		h.cut, h.pulled, h.slow = false, false, 0
		s.recovers(h)
		s.powerOn(h)
		s.marked(h)
	}
	for _, d := range s.dogs {
		d.blind = false
		s.wake(d)
		s.begin(d)
	}
}

// check compares the end with what should be.
func (s *history) check() {
	if len(s.wrong) > 0 {
		return
	}
	if len(s.state.lost) > 0 || len(s.state.left) > 0 {
		s.fault("the state still tells of lost nodes: %v, %v", s.state.lost, s.state.left)
	}
	s.checkLeader()
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
