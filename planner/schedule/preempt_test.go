package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

// running is one pod on nodes of 4 cpus: "key node priority cpu age-in-seconds budget", the last one optional.
func running(t *testing.T, texts ...string) (pods []Pod, victims []Victim) {
	t.Helper()
	begin := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, text := range texts {
		var v Victim
		var node, cpu string
		var age, budget int
		if n, err := fmt.Sscan(text, &v.Key, &node, &v.Priority, &cpu, &age, &budget); n < 5 {
			t.Fatal(text, err)
		} else if n == 6 {
			v.Budgets = []int{budget}
		}
		v.Started = begin.Add(-time.Duration(age) * time.Second)
		s := spec(asks(cpu, ""))
		s.Priority = &v.Priority
		pods, victims = append(pods, onNode(v.Key, node, s)), append(victims, v)
	}
	return pods, victims
}

// TestPreempt has a case for each rule of semantics.md 2.9. A pod of priority 10 asks for so many cpus on nodes of 4.
func TestPreempt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		cpu     string
		run     []string
		allowed []int
		want    string // node, victims, how many of them violate a budget; or why not
	}{
		{"only lower priorities go", "3", []string{"a a1 10 3 1", "b a2 9 3 1", "c a3 11 3 1"}, nil, "a2 [b] 0"},
		{"nobody is less important", "3", []string{"a a1 10 3 1", "b a2 10 3 1", "c a3 11 3 1"}, nil,
			"0/3 nodes are available: 3 No preemption victims found for incoming pod."},
		{"all of them would not do", "3", []string{"a a1 0 1 1", "b a1 10 3 1", "c a2 10 3 1", "d a3 10 3 1"}, nil,
			"0/3 nodes are available: 1 Insufficient cpu, 2 No preemption victims found for incoming pod."},
		{"as many as can stay, the most important first", "2", []string{"a a1 1 1 1", "b a1 3 1 1", "c a1 2 1 1", "d a1 1 1 9", "e a2 10 3 1", "f a3 10 3 1"}, nil, "a1 [d a] 0"},
		{"of one priority the one that ran for longer stays", "1", []string{"a a1 1 2 1", "b a1 1 2 9", "e a2 10 4 1", "f a3 10 4 1"}, nil, "a1 [a] 0"},
		{"budgets are kept where there is a choice", "3", []string{"a a1 0 3 1 0", "b a2 5 3 1", "c a3 10 3 1"}, []int{0}, "a2 [b] 0"},
		{"a budget that lets one go", "3", []string{"a a1 0 3 1 0", "b a2 5 3 1", "c a3 10 3 1"}, []int{1}, "a1 [a] 0"},
		{"a budget that lets one of two go", "4", []string{"a a1 0 2 1 0", "b a1 0 2 2 0", "c a2 10 3 1", "d a3 10 3 1"}, []int{1}, "a1 [a b] 1"},
		{"pods that a budget wants to stay are put back first", "2", []string{"a a1 9 2 1", "b a1 0 2 1 0", "c a2 10 3 1", "d a3 10 3 1"}, []int{0}, "a1 [a] 0"},
		{"the lowest highest priority", "3", []string{"a a1 6 3 1", "b a2 1 1 1", "c a2 5 2 1", "d a3 10 3 1"}, nil, "a2 [c] 0"},
		{"the lowest sum", "4", []string{"a a1 5 2 1", "b a1 1 2 1", "c a2 5 2 1", "d a2 2 2 1", "e a3 10 3 1"}, nil, "a1 [a b] 0"},
		{"the fewest pods", "4", []string{"a a1 5 2 1", "b a1 5 2 1", "c a2 5 4 1", "e a3 10 3 1"}, nil, "a2 [c] 0"},
		{"the latest start of the most important", "4", []string{"a a1 5 4 9", "c a2 5 4 1", "e a3 5 4 5"}, nil, "a2 [c] 0"},
		{"of equal nodes the first", "4", []string{"a a1 5 4 1", "c a2 5 4 1", "e a3 5 4 1"}, nil, "a1 [a] 0"},
		{"a negative priority is one, too", "4", []string{"a a1 -5 2 1", "b a1 -5 2 1", "c a2 -5 4 1", "e a3 10 3 1"}, nil, "a2 [c] 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pods, victims := running(t, tt.run...)
			s := New(nodes("a1", "a2", "a3"), pods, Options{})
			before := fmt.Sprint(s.nodes[0].cpu, s.nodes[1].cpu, s.nodes[2].cpu, len(s.placed))
			found, why := s.Preempt(pod("new", spec(asks(tt.cpu, ""))), 10, victims, tt.allowed)
			got := why
			if found != nil {
				got = fmt.Sprint(found.Node, " ", keysOf(found.Victims), " ", found.Violating)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if after := fmt.Sprint(s.nodes[0].cpu, s.nodes[1].cpu, s.nodes[2].cpu, len(s.placed)); after != before {
				t.Errorf("what runs was changed: %s, %s before", after, before)
			}
		})
	}
}

// Where a node is closed for another reason than room, nothing helps: the reasons are told apart.
func TestPreemptIsNotHelpful(t *testing.T) {
	t.Parallel()
	pods, victims := running(t, "a a1 0 3 1", "b a2 0 3 1", "c a3 10 3 1")
	all := []Node{nodeOf("a1", cordoned), nodeOf("a2", taint("dedicated", "db", corev1.TaintEffectNoSchedule)), nodeOf("a3")}
	s := New(all, pods, Options{})
	p := pod("new", spec(asks("3", "")))
	_, fit := s.Place(p)
	if _, fit.Preemption = s.Preempt(p, 10, victims, nil); fit.Preemption == "" {
		t.Fatal("there is a node")
	}
	const want = "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {dedicated: db}, 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
	if got := fit.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestHeldBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		run  []string
		want bool
	}{
		{"by a higher priority", []string{"a a1 11 3 1", "b a2 10 3 1", "c a3 9 3 1"}, true},
		{"by its own and lower ones", []string{"a a1 10 3 1", "b a2 10 3 1", "c a3 9 3 1"}, false},
		{"by both together", []string{"a a1 11 2 1", "d a1 10 2 1", "b a2 10 3 1", "c a3 10 3 1"}, false},
	} {
		pods, _ := running(t, tt.run...)
		s := New(nodes("a1", "a2", "a3"), pods, Options{})
		if got := s.HeldBack(pod("new", spec(asks("3", ""))), 10); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// TestPreemptMakesRoom takes the victims of any preemption away: then the pod fits on that node, and with any one of them back it
// does not. None of them is as important as the pod.
func TestPreemptMakesRoom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var texts []string
		for i := range rapid.IntRange(0, 12).Draw(rt, "pods") {
			texts = append(texts, fmt.Sprintf("p%d a%d %d %d %d %d", i, rapid.IntRange(1, 3).Draw(rt, "node"), rapid.IntRange(-1, 11).Draw(rt, "priority"),
				rapid.IntRange(0, 2).Draw(rt, "cpu"), rapid.IntRange(0, 9).Draw(rt, "age"), rapid.IntRange(0, 1).Draw(rt, "budget")))
		}
		pods, victims := running(t, texts...)
		s := New(nodes("a1", "a2", "a3"), pods, Options{})
		p := pod("new", spec(asks(fmt.Sprint(rapid.IntRange(1, 4).Draw(rt, "asks")), "")))
		if _, fit := s.Place(p); fit == nil {
			return
		}
		found, why := s.Preempt(p, 10, victims, []int{rapid.IntRange(0, 2).Draw(rt, "allowed"), 0})
		if found == nil {
			if !strings.HasPrefix(why, "0/3 nodes are available: ") {
				rt.Fatalf("no reason: %q", why)
			}
			return
		}
		places := s.lift(keysOf(found.Victims))
		if err := s.Room(p, found.Node); err != nil || len(found.Victims) == 0 {
			rt.Fatalf("no room on %s without %v: %v", found.Node, found.Victims, err)
		}
		for _, v := range found.Victims {
			if v.Priority >= 10 || places[v.Key].node.Name != found.Node {
				rt.Fatalf("%+v must not go", v)
			}
			s.put(v.Key, places[v.Key])
			if s.Room(p, found.Node) == nil {
				rt.Fatalf("%s need not have gone: %v", v.Key, found.Victims)
			}
			s.Remove(Pod{Key: v.Key})
		}
		if found.Violating > len(found.Victims) || slices.ContainsFunc(found.Victims[:found.Violating], func(v Victim) bool { return len(v.Budgets) == 0 }) {
			rt.Fatalf("%d of %v violate a budget", found.Violating, found.Victims)
		}
	})
}
