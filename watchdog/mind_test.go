package watchdog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/api"
)

// script drives a mind by hand: seconds since the start, facts, and what it ordered.
type script struct {
	t    *testing.T
	mind *Mind
	at   float64
	said []string
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func begin(t *testing.T, o Options, a *Applied) *script {
	s := &script{t: t, mind: NewMind(o, 7)}
	s.take(0, Tick{})
	s.take(0, Read{Applied: a})
	return s
}

func (s *script) take(at float64, f Fact) []Order {
	s.at = at
	orders := s.mind.Take(epoch.Add(time.Duration(at*float64(time.Second))), f)
	for _, o := range orders {
		s.said = append(s.said, fmt.Sprintf("%g %s", at, name(o)))
	}
	return orders
}

func name(o Order) string {
	switch o := o.(type) {
	case TendPod:
		return fmt.Sprintf("tend %s look=%v ready=%v", o.Request.Pod.UID, o.Request.Look, o.Request.Ready)
	case MakeRound:
		if o.Request.Kind == RoundBack {
			return fmt.Sprintf("round back %v", o.Request.Back)
		}
		return fmt.Sprintf("round %s %v %v", o.Request.Kind, o.Request.Standings, o.Request.Why)
	case FollowNode:
		return "follow " + o.Node
	case LeaveNode:
		return "leave " + o.Node
	case ListNode:
		return "list " + o.Node
	case ReadGoal:
		return "read " + o.Known
	case BeatNode:
		if o.Lease != nil {
			return fmt.Sprintf("beat %s %v until %v", o.Node, o.Lease.Pods, o.Lease.Until)
		}
		return "beat " + o.Node
	case LookFor:
		return fmt.Sprintf("look for %s by %s control %s", o.Node, o.By, o.Control)
	case ForgetPod:
		return "forget " + o.UID
	case Say:
		return "say " + o.Notice.Reason
	}
	return fmt.Sprintf("%T", o)
}

// until lets time pass in tenths of a second.
func (s *script) until(at float64) {
	for s.at < at {
		s.take(float64(int(s.at*10)+1)/10, Tick{})
	}
}

// want checks that orders with these beginnings were given since the last check, in this order, and forgets what was.
func (s *script) want(lines ...string) {
	s.t.Helper()
	i := 0
	for _, l := range s.said {
		_, text, _ := strings.Cut(l, " ")
		if i < len(lines) && (strings.HasPrefix(text, lines[i]) || strings.HasPrefix(l, lines[i])) {
			i++
		}
	}
	if i < len(lines) {
		s.t.Errorf("%q is missing in %q", lines[i], s.said)
	}
	s.said = nil
}

// never checks that no order since the last check begins so.
func (s *script) never(prefixes ...string) {
	s.t.Helper()
	for _, l := range s.said {
		_, text, _ := strings.Cut(l, " ")
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(text, p) }) {
			s.t.Errorf("%q was ordered: %q", l, s.said)
		}
	}
}

var recorded = Standing{Ready: true, IP: "10.0.0.1", SandboxID: "box"}

// applied is one pod, p, on node a.
func applied(change ...func(*Applied)) *Applied {
	a := &Applied{Version: "1", Nodes: []Node{{Name: "a", BootID: "boot"}}, Pods: []Pod{{UID: "p", Node: "a", Address: api.Address{Kind: "deployment", Name: "web", Pod: "web-1"}, Recorded: recorded}}}
	for _, c := range change {
		c(a)
	}
	return a
}

func tended(digest string, s Standing) Done {
	return Done{UID: "p", Tended: Tended{Standing: s, PodListing: PodListing{Digest: digest, IDs: []string{"box", "c-" + digest}}}}
}

func listing(boot, digest string) Listed {
	return Listed{Node: "a", Listing: &Listing{BootID: boot, Pods: map[string]PodListing{"p": {Digest: digest, IDs: []string{"box", "c-" + digest}}}}}
}

// settled is a watchdog for which everything is as it should be.
func settled(t *testing.T) *script {
	s := begin(t, Options{}, applied())
	s.take(0, Opened{"a"})
	s.take(0, listing("boot", "1"))
	s.take(0, tended("1", recorded))
	s.until(0.3)
	s.take(0.3, Rounded{})
	s.take(0.3, Read{})
	s.said = nil
	return s
}

func TestBeginsByLookingAtEverything(t *testing.T) {
	s := begin(t, Options{}, applied())
	s.never("tend", "round") // before anything was seen
	s.want("read", "follow a")
	s.take(1, Opened{"a"})
	s.want("list a", "round whole map[] [the watchdog has started]")
	s.take(1, listing("boot", "1"))
	s.want("tend p look=true ready=true")
}

func TestAnExitIsLookedAtAtOnce(t *testing.T) {
	s := settled(t)
	s.take(1, Hinted{"a", Hint{ID: "c-1", Kind: HintExit}})
	s.want("1 tend p look=true")
	// What comes while it is being tended is not forgotten.
	s.take(1.1, Hinted{"a", Hint{ID: "c-1", Kind: HintExit}})
	s.never("tend")
	s.take(1.2, tended("2", recorded))
	s.want("1.2 tend p look=true")
}

func TestAMissedEventIsFoundByTheListing(t *testing.T) {
	s := settled(t)
	s.until(30)
	s.want("30 list a")
	s.take(30.1, listing("boot", "1"))
	s.never("tend") // nothing has changed
	s.until(60.1)
	s.want("60.1 list a")
	s.take(60.2, listing("boot", "other"))
	s.want("60.2 tend p look=true")
}

func TestAHintOfSomethingUnknownHasTheNodeListed(t *testing.T) {
	s := settled(t)
	for i := range 20 { // a storm of them
		s.take(5+float64(i)/100, Hinted{"a", Hint{ID: "strange", Kind: HintExit}})
	}
	s.want("5 list a")
	s.take(5.3, listing("boot", "1"))
	s.take(5.3, Hinted{"a", Hint{ID: "strange", Kind: HintExit}})
	s.never("list")
	s.until(6.5)
	s.want("6.3 list a")
}

func TestNothingIsConcludedAboutANodeThatIsLost(t *testing.T) {
	s := settled(t)
	s.take(1, Lost{"a", errors.New("cut")})
	s.want("say NodeNotReady")
	s.take(1, Woken{"p", true}) // a probe that ended with the connection
	s.take(1, Hinted{"a", Hint{ID: "c-1", Kind: HintExit}})
	s.until(1.05)
	s.never("tend", "round")
	s.until(1.2)
	s.want("follow a") // after 100 ms
	s.take(1.2, Lost{"a", errors.New("cut")})
	s.never("say") // once
	s.until(1.3)
	s.never("follow")
	s.until(1.4)
	s.want("follow a") // after 200 ms
	s.take(1.5, Opened{"a"})
	s.want("list a")
	s.take(1.5, listing("boot", "1")) // though it looks the same
	s.want("say NodeReady", "tend p look=true ready=true")
}

func TestARebootIsNoticed(t *testing.T) {
	s := settled(t)
	s.take(1, Lost{"a", errors.New("cut")})
	s.until(1.1)
	s.take(1.1, Opened{"a"})
	s.take(1.1, listing("another", "gone"))
	s.want("say Rebooted", "tend p look=true")
	s.take(1.2, tended("3", Standing{IP: "10.0.0.9", SandboxID: "new"}))
	s.want("round endpoints map[p:{false 10.0.0.9  new}]")
	s.take(1.3, Rounded{})
	s.take(1.3, Read{Applied: applied(func(a *Applied) {
		a.Version, a.Pods[0].Recorded = "2", Standing{IP: "10.0.0.9", SandboxID: "new"}
	})})
	s.until(1.5)
	s.want("round whole map[] [node a is back node a was rebooted]")
}

func TestLostReadinessGoesIntoTheStateAtOnce(t *testing.T) {
	s := settled(t)
	s.take(1, Woken{"p", false})
	s.want("tend p look=false ready=true")
	away := recorded
	away.Ready = false
	s.take(1.1, tended("1", away))
	s.want("1.1 round endpoints map[p:{false 10.0.0.1  box}]")
	s.take(1.2, Rounded{Err: &BusyError{errors.New("locked")}})
	s.never("say") // another has the lock, and will be done
	s.take(1.2, Read{})
	s.until(1.6)
	s.never("round")
	s.until(1.7)
	s.want("1.7 round endpoints")
	s.take(1.8, Rounded{})
	s.never("round") // before the state was read
	s.take(1.8, Read{Applied: applied(func(a *Applied) { a.Version, a.Pods[0].Recorded = "2", away })})
	s.until(20)
	s.never("round")
}

func TestPodsOfARunInProgressAreLeftAlone(t *testing.T) {
	s := settled(t)
	s.take(1, Read{Applied: applied(func(a *Applied) { a.Version, a.Busy = "2", []string{"p"} })})
	s.take(1, Hinted{"a", Hint{ID: "c-1", Kind: HintExit}})
	s.until(40)
	s.never("tend", "round endpoints")
	s.take(40, Read{Applied: applied(func(a *Applied) { a.Version = "3" })})
	s.want("40 tend p look=true")
}

func TestPodsOfOurOwnRoundAreLeftAlone(t *testing.T) {
	s := settled(t)
	s.take(1, Held{[]string{"p"}})
	s.take(1, Hinted{"a", Hint{ID: "c-1", Kind: HintExit}})
	s.until(2)
	s.never("tend")
	s.take(2, Released{[]string{"p"}})
	s.want("2 tend p look=true")
}

func TestAPodThatIsGoneIsForgotten(t *testing.T) {
	s := settled(t)
	s.take(1, Read{Applied: applied(func(a *Applied) { a.Version, a.Pods = "2", nil })})
	s.want("forget p")
	s.take(1, Hinted{"a", Hint{ID: "c-1", Kind: HintExit}})
	s.take(1, Woken{"p", true})
	s.take(1, tended("1", recorded))
	s.until(2)
	s.never("tend", "round")
}

func TestARoundThatFailsIsMadeAgain(t *testing.T) {
	s := begin(t, Options{}, applied())
	s.until(0.2)
	s.want("0.2 round whole")
	s.take(0.3, Rounded{Err: errors.New("no")})
	s.want("say RoundFailed")
	s.take(0.3, Read{})
	s.until(1.2)
	s.never("round")
	s.until(1.3)
	s.want("1.3 round whole map[] [the last round did not come to its end]")
	s.take(1.4, Rounded{Err: errors.New("no")})
	s.take(1.4, Read{})
	s.until(3.3)
	s.never("round")
	s.until(3.4)
	s.want("3.4 round whole")
	s.take(3.5, Rounded{})
	s.take(3.5, Read{})
	s.until(302)
	s.never("round")
	s.until(304)
	s.want("303.5 round whole")
}

func TestWhatIsDueByTheClockIsDoneOnce(t *testing.T) {
	s := settled(t)
	s.take(1, Read{Applied: applied(func(a *Applied) { a.Version, a.Overdue = "2", "cronjob.tidy" })})
	s.until(1.2)
	s.want("1.2 round whole map[] [it is time for cronjob.tidy]")
	s.take(1.3, Rounded{})
	s.take(1.3, Read{}) // though nothing came of it
	s.until(60)
	s.never("round")
}

func TestApprovalGoesOn(t *testing.T) {
	s := settled(t)
	s.take(1, Edited{Version: "x"})
	s.take(2, Edited{Version: "y"})
	s.until(2.2)
	s.want("round whole map[] [the configuration has changed]")
	s.take(2.3, Rounded{Outcome: Outcome{Waiting: "abc"}})
	s.take(2.3, Read{})
	s.until(20)
	s.never("round")
	s.take(20, Read{Applied: applied(func(a *Applied) { a.Version, a.Approval = "3", "abc" })})
	s.until(20.3)
	s.want("round whole map[] [the plan was approved]")
}

func TestAPodThatUsesTooMuchDiskIsARound(t *testing.T) {
	s := settled(t)
	over := func(why string) Listed {
		l := listing("boot", "1")
		p := l.Listing.Pods["p"]
		p.Evict = why
		l.Listing.Pods["p"] = p
		return l
	}
	s.until(30.1)
	s.take(30.1, over("it writes too much"))
	s.until(30.5)
	s.want("list a", "round whole map[] [pod web-1: it writes too much]")
	s.take(30.6, Rounded{})
	s.take(30.6, Read{})
	s.until(61)
	s.take(61, over("it writes too much")) // said already
	s.until(62)
	s.never("round")
}
