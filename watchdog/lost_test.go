package watchdog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// cluster is a mind with nodes that answer what they are asked, by script. Each node N has one pod, pod-N, that is ready.
type cluster struct {
	*script
	applied *Applied
	gone    map[string]bool        // nodes that answer nobody
	cut     map[string]bool        // nodes that do not answer the watchdog alone
	hung    map[string]bool        // nodes that answer, and whose container runtime does not
	sight   map[string]Sightedness // what a node says whoever it is asked about; "" for the truth
	uptime  time.Duration          // of all at the start
	orders  []Order
	version int
	begun   map[string]bool // nodes that were followed
	lastReq Request
}

var errCut = errors.New("no route")

// newCluster has nodes named as given, each "name" or "name@zone".
func newCluster(t *testing.T, o Options, nodes ...string) *cluster {
	c := &cluster{applied: &Applied{Version: "1"}, gone: map[string]bool{}, cut: map[string]bool{}, hung: map[string]bool{}, sight: map[string]Sightedness{}, uptime: time.Hour, version: 1, begun: map[string]bool{}}
	for _, n := range nodes {
		name, zone, _ := strings.Cut(n, "@")
		c.applied.Nodes = append(c.applied.Nodes, Node{Name: name, BootID: "boot", Zone: zone})
		c.applied.Pods = append(c.applied.Pods, Pod{UID: "pod-" + name, Node: name, Address: api.Address{Kind: "deployment", Name: "web", Pod: "pod-" + name}, Recorded: recorded})
	}
	o.Who = "ops@hq"
	c.script = &script{t: t, mind: NewMind(o, 7)}
	c.tell(Tick{})
	c.run(1)
	c.said = nil
	return c
}

// tell has the mind take in a fact, and the world carry out what it orders, at once.
func (c *cluster) tell(f Fact) {
	todo := c.take(c.at, f)
	for len(todo) > 0 {
		o := todo[0]
		todo = todo[1:]
		c.orders = append(c.orders, o)
		if f := c.answer(o); f != nil {
			todo = append(todo, c.take(c.at, f)...)
		}
	}
}

func (c *cluster) silent(name string) bool { return c.gone[name] || c.cut[name] }

func (c *cluster) answer(o Order) Fact {
	switch o := o.(type) {
	case ReadGoal:
		if o.Known == c.applied.Version {
			return Read{}
		}
		a := *c.applied
		return Read{Applied: &a}
	case FollowNode:
		if c.silent(o.Node) {
			return Lost{o.Node, errCut}
		}
		c.begun[o.Node] = true
		return Opened(o)
	case ListNode:
		if c.silent(o.Node) {
			return Listed{Node: o.Node, Err: errCut}
		}
		if c.hung[o.Node] {
			return Listed{Node: o.Node, Err: &LostError{Reached: true, Err: errors.New("containerd does not answer")}}
		}
		pods := map[string]PodListing{}
		for _, p := range c.applied.Pods {
			if p.Node == o.Node {
				pods[p.UID] = PodListing{Digest: "1", IDs: []string{"c-" + p.UID}}
			}
		}
		return Listed{Node: o.Node, Listing: &Listing{BootID: "boot", Pods: pods}}
	case BeatNode:
		if c.silent(o.Node) {
			return Beaten{Node: o.Node, Err: errCut}
		}
		return Beaten{Node: o.Node, Uptime: c.uptime + time.Duration(c.at*float64(time.Second))}
	case LookFor:
		s := c.sight[o.By]
		switch {
		case s != "":
		case c.silent(o.By):
			s = Blind
		case c.gone[o.Node]:
			s = NotReached
		default:
			s = Reached
		}
		return Sighted{o.Node, o.By, s}
	case TendPod:
		if c.silent(o.Request.Pod.Node) {
			return Done{UID: o.Request.Pod.UID, Err: errCut}
		}
		s := recorded
		return Done{UID: o.Request.Pod.UID, Tended: Tended{Standing: s, PodListing: PodListing{Digest: "1", IDs: []string{"c-" + o.Request.Pod.UID}}}}
	case MakeRound:
		return c.round(o.Request)
	}
	return nil
}

// round records what a round would.
func (c *cluster) round(q Request) Fact {
	c.lastReq = q
	before := fmt.Sprint(c.applied)
	c.applied.Lost = q.Lost
	c.applied.Pods = slices.Clone(c.applied.Pods)
	for i := range c.applied.Pods {
		p := &c.applied.Pods[i]
		if s, ok := q.Standings[p.UID]; ok {
			p.Recorded = s
		}
		if d, ok := q.Leases[p.UID]; ok {
			p.Leased = d
		}
	}
	for _, n := range q.Back {
		delete(c.applied.Left, n)
	}
	if fmt.Sprint(c.applied) != before {
		c.version++
		c.applied.Version = fmt.Sprint(c.version)
	}
	return Rounded{}
}

// run lets time pass, in tenths of a second.
func (c *cluster) run(until float64) {
	for c.at < until {
		c.at = float64(int(c.at*10+0.5)+1) / 10
		c.tell(Tick{})
	}
}

// lose makes a node silent, for everybody or for the watchdog alone.
func (c *cluster) lose(set map[string]bool, names ...string) {
	for _, n := range names {
		set[n] = true
		if c.begun[n] {
			c.begun[n] = false
			c.tell(Lost{n, errCut})
		}
	}
}

// recorded tells what the state says of lost nodes.
func (c *cluster) recorded() string {
	var out []string
	for _, l := range c.applied.Lost {
		text := l.Name + " " + string(l.Ready)
		if l.Evict != nil {
			text += fmt.Sprintf(" evict@%g", l.Evict.Sub(epoch).Seconds())
		}
		if l.LeaseOver {
			text += " leases over"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func (c *cluster) is(want string) {
	c.t.Helper()
	if got := c.recorded(); got != want {
		c.t.Errorf("at %g s: the state says %q, want %q\n%s", c.at, got, want, strings.Join(c.said, "\n"))
	}
}

func TestNodeIsLostWhenNobodyReachesIt(t *testing.T) {
	c := newCluster(t, Options{}, "a", "b", "c", "d", "e")
	c.run(10)
	c.lose(c.gone, "b")
	c.run(57.9) // two seconds before the grace time is over others are asked, and not before
	c.never("look", "round endpoints")
	c.run(59.9)
	c.want("look for b by a control c", "look for b by c control d", "look for b by d control e")
	c.is("")
	c.run(60.1)
	c.is("b Unknown evict@60")
	l := c.applied.Lost[0]
	if !strings.Contains(l.Message, "not a, c, d") || !strings.Contains(l.Message, "no route") || l.Who != "ops@hq" || l.Heard.Sub(epoch) != 10*time.Second {
		t.Errorf("%+v", l)
	}
	for _, p := range c.applied.Pods { // its pod has left the services, and only its
		if p.Recorded.Ready != (p.Node != "b") {
			t.Errorf("%s is recorded as %+v", p.UID, p.Recorded)
		}
	}
	c.said = nil
	c.run(100)
	c.want("look for b by e", "look for b by a", "look for b by c") // others in turn
	c.gone["b"] = false
	c.run(131)
	c.is("")
	c.want("say NodeReady")
	if !c.applied.Pods[1].Recorded.Ready {
		t.Error("its pod is not ready again")
	}
}

func TestOurOwnLinkMovesNothing(t *testing.T) {
	c := newCluster(t, Options{}, "a", "b", "c")
	c.lose(c.cut, "b")
	c.run(300)
	c.is("")
	c.want("say NodeUnseen")
	for _, p := range c.applied.Pods {
		if !p.Recorded.Ready {
			t.Errorf("%s has left its services", p.UID)
		}
	}
	c.lose(c.gone, "b") // now it is really gone
	c.run(320)
	c.is("b Unknown evict@309") // when others are asked again
	c.gone["b"] = false         // others reach it again, we do not
	c.run(340)
	c.is("")
}

func TestOthersThatCannotTellHaveNoSay(t *testing.T) {
	for name, tt := range map[string]struct {
		sight map[string]Sightedness
		nodes []string
		want  string
	}{
		"all are blind":        {map[string]Sightedness{"a": Blind, "c": Blind}, []string{"a", "b", "c"}, ""},
		"one is blind":         {map[string]Sightedness{"a": Blind}, []string{"a", "b", "c"}, "b Unknown evict@51"},
		"one reaches it":       {map[string]Sightedness{"a": Reached}, []string{"a", "b", "c"}, ""},
		"two nodes, no others": {nil, []string{"a", "b"}, "b Unknown evict@51"},
		"one node":             {nil, []string{"b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, Options{}, tt.nodes...)
			c.sight = tt.sight
			c.lose(c.gone, "b")
			c.run(60)
			c.is(tt.want)
		})
	}
}

func TestTheGraceTimeBeginsAnewWithEachAnswer(t *testing.T) {
	c := newCluster(t, Options{}, "a", "b", "c")
	for i := range 20 { // it flaps
		c.lose(c.gone, "b")
		c.run(float64(40 * (i + 1)))
		c.gone["b"] = false
		c.run(c.at + 31)
	}
	c.is("")
	c.never("say NodeLost")
}

func TestEvictionsHaveARate(t *testing.T) {
	nodes := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
	c := newCluster(t, Options{}, nodes...)
	c.lose(c.gone, "a", "b", "c", "d")
	c.run(51.1)
	c.is("a Unknown evict@51, b Unknown, c Unknown, d Unknown")
	c.run(61.2)
	c.is("a Unknown evict@51, b Unknown evict@61, c Unknown, d Unknown")
	c.run(81.5)
	if strings.Count(c.recorded(), "evict") != 4 {
		t.Error(c.recorded())
	}
}

func TestZonesHaveRatesOfTheirOwn(t *testing.T) {
	var small, large []string
	for i := range 6 {
		small = append(small, fmt.Sprintf("s%d@small", i))
	}
	for i := range 60 {
		large = append(large, fmt.Sprintf("x%02d@large", i))
	}
	for i := range 60 {
		large = append(large, fmt.Sprintf("y%02d@other", i))
	}
	c := newCluster(t, Options{}, append(small, large...)...)
	c.lose(c.gone, "s0", "s1", "s2", "s3") // 67 % of a small zone: not at all
	for i := range 35 {                    // 58 % of a large one: slowly
		c.lose(c.gone, fmt.Sprintf("x%02d", i))
	}
	c.lose(c.gone, "y00", "y01") // a zone that is well: as ever
	c.run(52)
	count := func(prefix string) (n int) {
		for _, l := range c.applied.Lost {
			if strings.HasPrefix(l.Name, prefix) && l.Evict != nil {
				n++
			}
		}
		return n
	}
	if count("s") != 0 || count("x") != 1 || count("y") != 1 {
		t.Error(c.recorded())
	}
	c.run(152)
	if count("s") != 0 || count("x") != 2 || count("y") != 2 {
		t.Error(c.recorded())
	}
}

func TestMassLossMovesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		nodes []string
		gone  []string
		brake bool
	}{
		"two of three":              {[]string{"a", "b", "c"}, []string{"a", "b"}, true},
		"two of four":               {[]string{"a", "b", "c", "d"}, []string{"a", "b"}, false},
		"three of four":             {[]string{"a", "b", "c", "d"}, []string{"a", "b", "c"}, true},
		"one of two":                {[]string{"a", "b"}, []string{"a"}, false},
		"all":                       {[]string{"a", "b", "c"}, []string{"a", "b", "c"}, true},
		"a zone":                    {[]string{"a@1", "b@1", "c@2", "d@2", "e@3", "f@3"}, []string{"a", "b"}, true},
		"half of a zone":            {[]string{"a@1", "b@1", "c@2", "d@2", "e@3", "f@3"}, []string{"a", "c"}, false},
		"zones of one node":         {[]string{"a@1", "b@2", "c@3"}, []string{"a"}, false},
		"nodes without a zone":      {[]string{"a", "b", "c@2", "d@2", "e@2"}, []string{"a", "b"}, false},
		"the only zone but for one": {[]string{"a@1", "b@1", "c@1"}, []string{"a"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, Options{}, tt.nodes...)
			c.lose(c.gone, tt.gone...)
			c.run(400)
			if evicted := strings.Contains(c.recorded(), "evict"); evicted == tt.brake {
				t.Errorf("the state says %q", c.recorded())
			}
			if tt.brake {
				c.want("say MassNodeLoss")
			} else {
				c.never("say MassNodeLoss")
			}
		})
	}
}

func TestTheBrakeTakesBackWhatWasAllowedLately(t *testing.T) {
	c := newCluster(t, Options{}, "a", "b", "c", "d", "e")
	c.lose(c.gone, "a")
	c.run(52)
	c.is("a Unknown evict@51")
	c.lose(c.gone, "b", "c")
	c.run(110)
	c.is("a Unknown, b Unknown, c Unknown")
	c.want("say MassNodeLoss")
	c.gone["c"] = false
	c.run(145) // found by the next try
	c.is("a Unknown, b Unknown")
	c.want("say MassNodeLossOver")
	c.run(230) // they have their grace time anew, and their turns
	if strings.Count(c.recorded(), "evict") != 2 {
		t.Error(c.recorded())
	}
}

// The losses of weeks are no mass loss.
func TestLossesOneAfterTheOther(t *testing.T) {
	c := newCluster(t, Options{}, "a", "b", "c", "d", "e")
	for i, n := range []string{"a", "b", "c"} {
		c.lose(c.gone, n)
		c.run(float64(400 * (i + 1)))
		if strings.Count(c.recorded(), "evict") != i+1 {
			t.Errorf("after the loss of %s: %s", n, c.recorded())
		}
	}
	c.never("say MassNodeLoss")
}

// Nodes of which it was not noticed yet that they have vanished, too, count: the roll is called first.
func TestTheRollIsCalledBeforeAnythingIsMoved(t *testing.T) {
	c := newCluster(t, Options{Grace: 5 * time.Second}, "a", "b", "c")
	c.lose(c.gone, "a")
	c.gone["b"] = true // its connection does not know yet
	c.sight["c"] = NotReached
	c.run(30)
	if strings.Contains(c.recorded(), "evict") {
		t.Errorf("the state says %q", c.recorded())
	}
	c.want("beat b", "beat c", "say MassNodeLoss")
}

func TestARuntimeThatDoesNotAnswerIsNotReady(t *testing.T) {
	c := newCluster(t, Options{}, "a", "b", "c")
	down := &LostError{Reached: true, Err: errors.New("containerd is not there")}
	c.at = 2
	c.cut["b"] = true
	c.tell(Lost{"b", down})
	errWas := errCut
	errCut = down
	defer func() { errCut = errWas }()
	c.run(51.9)
	c.is("")
	c.run(52.1)
	c.is("b False evict@52")
	c.never("look")
	l := c.applied.Lost[0]
	if got := l.Taints(); len(got) != 2 || got[0].Key != corev1.TaintNodeNotReady || got[1].Effect != corev1.TaintEffectNoExecute {
		t.Errorf("%v", got)
	}
}

func TestAHostThatRefusesIsNotLost(t *testing.T) {
	c := newCluster(t, Options{}, "a", "b", "c")
	was := errCut
	errCut = &LostError{Refused: true, Err: errors.New("host key")}
	defer func() { errCut = was }()
	c.lose(c.cut, "b")
	c.run(200)
	c.is("")
	c.want("say NodeRefuses")
	c.never("look")
}

// Another watchdog goes on with what was found out.
func TestLossesOutliveTheWatchdog(t *testing.T) {
	c := newCluster(t, Options{}, "a", "b", "c")
	c.lose(c.gone, "b")
	c.run(60)
	c.is("b Unknown evict@51")
	c.mind = NewMind(Options{Who: "other"}, 8)
	c.at = 100
	c.said = nil
	c.tell(Tick{})
	c.run(140)
	c.is("b Unknown evict@51")
	c.never("say NodeLost")
	c.gone["b"] = false
	c.run(175)
	c.is("")
}

// What somebody else has seen counts: the grace time begins anew.
func TestTaintsThatAnotherHasTakenAway(t *testing.T) {
	c := newCluster(t, Options{}, "a", "b", "c")
	c.lose(c.gone, "b")
	c.run(60)
	c.applied.Lost = nil
	c.applied.Version = "another's"
	c.run(110)
	c.is("")
	c.run(125)
	if !strings.HasPrefix(c.recorded(), "b Unknown") {
		t.Error(c.recorded())
	}
}

func TestWhatWasGivenUpIsRemovedFirstThing(t *testing.T) {
	c := newCluster(t, Options{}, "a", "b", "c")
	c.lose(c.gone, "b")
	c.run(60)
	c.applied.Left = map[string][]string{"b": {"old"}}
	c.applied.Version = "evicted"
	c.run(62)
	c.said = nil
	c.gone["b"] = false
	c.run(95)
	c.want("follow b", "list b", "round back [b]", "tend pod-b")
	before, _, _ := strings.Cut(strings.Join(c.said, "\n"), "round back")
	if strings.Contains(before, "tend pod-b") {
		t.Error("its pods were tended before")
	}
}

func TestLeases(t *testing.T) {
	c := newCluster(t, Options{Lease: 30 * time.Second}, "a", "b", "c")
	c.applied.Pods = slices.Clone(c.applied.Pods)
	c.applied.Pods[1].AtMostOne = true
	c.applied.Version = "with"
	c.said = nil
	c.run(2.5)
	// The first heartbeat asks for the time there, the second one gives the lease: 30 s from when it was sent.
	c.want("beat b", "beat b [pod-b] until 1h0m3")
	if c.applied.Pods[1].Leased != 30*time.Second {
		t.Errorf("recorded: %v", c.applied.Pods[1].Leased)
	}
	c.said = nil
	c.run(23)
	n := 0
	for _, l := range c.said {
		if strings.Contains(l, "beat b [pod-b]") {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d renewals in 20 s: %v", n, c.said)
	}
	c.lose(c.gone, "b")
	c.run(60)
	c.never("beat b [pod-b] until 1h0m6")
	c.run(72.5)
	c.is("")
	c.run(75)
	c.is("b Unknown evict@73 leases over")
}

func TestAHeartbeatOnItsWayIsWaitedFor(t *testing.T) {
	one := func(a *Applied) { a.Pods[0].AtMostOne = true }
	s := begin(t, Options{}, applied(one))
	s.take(0, Opened{"a"})
	s.want("beat a")
	s.take(1, Read{Applied: applied(one, func(a *Applied) { a.Version = "2" })})
	s.never("beat")
	if next := s.mind.Next(); !next.After(epoch.Add(time.Second)) {
		t.Errorf("something is due at %s, and nothing is done about it", next.Sub(epoch))
	}
	// What is wanted of a pod that has no lease yet is done when it has one.
	s.take(1.2, listing("boot", "1"))
	s.never("tend")
	s.take(1.5, Beaten{Node: "a", Uptime: time.Hour})
	s.want("beat a [p] until 1h0m30s")
	s.take(1.6, Beaten{Node: "a", Uptime: time.Hour})
	s.want("tend p")
}
