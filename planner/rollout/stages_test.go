package rollout

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth.dev/berth/api"
)

// twoSides wants n pods, of a new template in slot 0 and an old one in slot 1.
func twoSides(n int) *Want {
	fresh, old := &Template{Hash: "new"}, &Template{Hash: "old"}
	return &Want{Replicas: n, Template: fresh, Slots: []Slot{{}, {Template: old}}}
}

// simPod is a pod of the simulation.
type simPod struct {
	Pod
	uid int
}

// sim is a cluster on which waves are carried out, and whose pods fail as the test likes.
type sim struct {
	rt       *rapid.T
	want     *Want
	pods     []simPod
	next     int
	serving  string // "" for all: the hash of the pods behind the services
	most     int    // never more pods than this
	least    int    // never fewer that serve
	failures int    // how many waves may still fail
}

func (s *sim) add(hash string, available bool) {
	s.next++
	slot := 0
	if hash == "old" && len(s.want.Slots) > 1 {
		slot = 1
	}
	current := hash == "new" || hash == "old" && len(s.want.Slots) > 1
	s.pods = append(s.pods, simPod{Pod{Slot: slot, Current: current, Hash: hash, Available: available, UID: fmt.Sprint(s.next), Node: fmt.Sprint("n", s.next%3)}, s.next})
}

func (s *sim) list() []Pod {
	out := make([]Pod, len(s.pods))
	for i, p := range s.pods {
		out[i] = p.Pod
	}
	return out
}

// serves counts the pods that answer requests.
func (s *sim) serves() int {
	n := 0
	for _, p := range s.pods {
		if p.Available && (s.serving == "" || p.Hash == s.serving) {
			n++
		}
	}
	return n
}

// check fails when a bound is broken that was not before: start is how many pods there were and how many served when the plan
// was made.
func (s *sim) check(what string, extra int, startTotal, startServes int) {
	s.rt.Helper()
	if n := len(s.pods) + extra; n > max(s.most, startTotal) {
		s.rt.Fatalf("%s: %d pods, and never more than %d were to exist", what, n, s.most)
	}
	if n := s.serves(); n < min(s.least, startServes) {
		s.rt.Fatalf("%s: %d pods serve, and never fewer than %d were to", what, n, min(s.least, startServes))
	}
}

// carryOut does the waves until one fails, and reports whether all went well and what gate holds.
func (s *sim) carryOut(waves []Wave) (done bool, gates []*Gate) {
	startTotal, startServes := len(s.pods), s.serves()
	ids := make([]int, len(s.pods))
	for i, p := range s.pods {
		ids[i] = p.uid
	}
	at := func(i int) int { return slices.IndexFunc(s.pods, func(p simPod) bool { return p.uid == ids[i] }) }
	for k, w := range waves {
		if w.Gate != nil {
			gates = append(gates, w.Gate)
			if s.failures > 0 && w.Gate.Analysis != nil && rapid.Bool().Draw(s.rt, "unfit") {
				s.failures--
				return false, gates
			}
			continue
		}
		if w.Switch {
			s.serving = "new"
			s.check(fmt.Sprintf("switch in wave %d", k), 0, startTotal, startServes)
			continue
		}
		s.check(fmt.Sprintf("wave %d creates the first", k), w.Free, startTotal, startServes)
		for _, i := range w.Remove {
			j := at(i)
			if j < 0 {
				s.rt.Fatalf("wave %d removes a pod twice", k)
			}
			s.pods = slices.Delete(s.pods, j, j+1)
		}
		s.check(fmt.Sprintf("wave %d has removed", k), len(w.Create), startTotal, startServes)
		for _, i := range w.Mend {
			s.pods[at(i)].Available = true
		}
		failed := false
		for _, slot := range w.Create {
			hash := "new"
			if len(s.want.Slots) > 1 {
				hash = s.want.TemplateOf(&s.want.Slots[slot]).Hash
			}
			ok := s.failures == 0 || !rapid.Bool().Draw(s.rt, "fails")
			failed = failed || !ok
			s.add(hash, ok)
		}
		s.check(fmt.Sprintf("wave %d", k), 0, startTotal, startServes)
		if failed {
			s.failures--
			return false, gates
		}
	}
	return true, gates
}

func (s *sim) count(hash string) (n int) {
	for _, p := range s.pods {
		if p.Hash == hash {
			n++
		}
	}
	return n
}

// anySim begins with pods as earlier plans, whole and broken ones, may have left them.
func anySim(rt *rapid.T) *sim {
	n := rapid.IntRange(1, 12).Draw(rt, "replicas")
	s := &sim{rt: rt, want: twoSides(n), failures: rapid.IntRange(0, 4).Draw(rt, "failures")}
	for range rapid.IntRange(0, n).Draw(rt, "old") {
		s.add("old", !rapid.Bool().Draw(rt, "bad"))
	}
	for range rapid.IntRange(0, 2).Draw(rt, "new") {
		s.add("new", !rapid.Bool().Draw(rt, "bad"))
	}
	for range rapid.IntRange(0, 2).Draw(rt, "of another rollout") {
		s.add("other", !rapid.Bool().Draw(rt, "bad"))
	}
	return s
}

func TestRollingKeepsItsBoundsAndEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySim(rt)
		s.want.Slots = s.want.Slots[:1]
		for i := range s.pods {
			s.pods[i].Slot, s.pods[i].Current = 0, s.pods[i].Hash == "new"
		}
		strategy := Strategy{Surge: rapid.IntRange(0, 4).Draw(rt, "surge"), Unavailable: rapid.IntRange(0, s.want.Replicas).Draw(rt, "unavailable")}
		if strategy.Surge+strategy.Unavailable == 0 {
			strategy.Unavailable = 1
		}
		s.most, s.least = s.want.Replicas+strategy.Surge, s.want.Replicas-strategy.Unavailable
		for range 20 {
			if done, _ := s.carryOut(strategy.Waves(s.want, s.list())); done {
				break
			}
		}
		if s.count("new") != s.want.Replicas || len(s.pods) != s.want.Replicas || s.serves() != s.want.Replicas {
			rt.Fatalf("it does not end: %d new of %d, %d serve", s.count("new"), len(s.pods), s.serves())
		}
		if again := strategy.Waves(s.want, s.list()); len(again) > 0 {
			rt.Fatalf("there is something left to do: %+v", again)
		}
	})
}

func anyStages(rt *rapid.T, n int) []Stage {
	var out []Stage
	for i := range rapid.IntRange(0, 4).Draw(rt, "steps") {
		least := 0
		if i > 0 {
			least = out[i-1].New
		}
		st := Stage{New: rapid.IntRange(least, n).Draw(rt, "in the step"), Gate: Gate{Passed: i + 1, Hold: rapid.Bool().Draw(rt, "hold")}}
		if rapid.Bool().Draw(rt, "analysis") {
			st.Gate.Analysis = &api.Analysis{}
		}
		out = append(out, st)
	}
	return out
}

func TestCanaryKeepsItsBoundsAndEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySim(rt)
		n := s.want.Replicas
		c := Canary{Strategy: Strategy{Surge: rapid.IntRange(0, 3).Draw(rt, "surge"), Unavailable: rapid.IntRange(0, n).Draw(rt, "unavailable")}, Stages: anyStages(rt, n)}
		if c.Surge+c.Unavailable == 0 {
			c.Surge = 1
		}
		s.most, s.least = n+c.Surge, n-c.Unavailable
		for range 40 {
			waves := c.Waves(s.want, s.list())
			done, gates := s.carryOut(waves)
			for _, g := range gates {
				if done || g != gates[len(gates)-1] {
					c.From = max(c.From, g.Passed)
				}
			}
			if !done {
				continue
			}
			if len(gates) == 0 || !gates[len(gates)-1].Hold {
				break
			}
			stage := c.Stages[gates[len(gates)-1].Passed-1]
			if got := s.count("new"); got != stage.New {
				rt.Fatalf("%d pods are new while the step waits, want %d of %d", got, stage.New, n)
			}
			if c.Surge > 0 && s.count("old") == 0 {
				rt.Fatalf("no old pod is left while a step waits")
			}
			c.From-- // asked again before somebody goes on, nothing happens
			if again := c.Waves(s.want, s.list()); len(again) != 1 || again[0].Gate == nil {
				rt.Fatalf("while it waits there is something to do: %+v", again)
			}
			c.From++
		}
		if s.count("new") != n || len(s.pods) != n {
			rt.Fatalf("it does not end: %d new of %d, want %d", s.count("new"), len(s.pods), n)
		}
	})
}

func TestBlueGreenKeepsItsBoundsAndEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySim(rt)
		n := s.want.Replicas
		s.serving, s.most = "old", 2*n
		s.least = n
		b := BlueGreen{Keep: int32(rapid.IntRange(0, 30).Draw(rt, "keep")), Gate: Gate{Analysis: &api.Analysis{}, Hold: rapid.Bool().Draw(rt, "by hand")}}
		for range 40 {
			b.Serves = s.serving == "new"
			done, gates := s.carryOut(b.Waves(s.want, s.list()))
			if !done {
				continue
			}
			if len(gates) > 0 && gates[len(gates)-1].Hold {
				if s.serving != "old" || s.count("new") != n || s.count("old") != n {
					rt.Fatalf("while it waits: %d new, %d old, %s serve", s.count("new"), s.count("old"), s.serving)
				}
				b.Gate = Gate{} // promoted
				continue
			}
			break
		}
		if s.serving != "new" || s.count("new") != n || len(s.pods) != n {
			rt.Fatalf("it does not end: %s serves, %d new of %d, want %d", s.serving, s.count("new"), len(s.pods), n)
		}
	})
}

// The old pods are kept until a time that follows from when the services went over.
func TestBlueGreenKeepsTheOldForAWhile(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	pods := []Pod{{Slot: 0, Current: true, Hash: "new", Available: true, UID: "1"}, {Slot: 1, Current: true, Hash: "old", Available: true, UID: "2"}}
	until := at.Add(30 * time.Second)
	got := BlueGreen{Keep: 30, Serves: true, Switched: &at}.Waves(twoSides(1), pods)
	if diff := cmp.Diff([]Wave{{Gate: &Gate{Seconds: 30, Until: &until}}, {Remove: []int{1}}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestProportional(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name               string
		sizes              []int
		before, now, surge int
		want               []int
	}{
		{"nobody scaled", []int{2, 8}, 10, 10, 3, []int{2, 8}},
		{"twice as many", []int{5, 5}, 10, 20, 0, []int{10, 10}},
		{"the surge counts", []int{8, 5}, 10, 15, 3, []int{11, 7}},
		{"half", []int{5, 5}, 10, 5, 0, []int{3, 2}},
		{"none", []int{3, 2}, 5, 0, 1, []int{0, 0}},
		{"no pods yet", []int{0, 0}, 3, 5, 1, []int{0, 0}},
		{"one template has all", []int{0, 4}, 4, 6, 0, []int{0, 6}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Proportional(tt.sizes, tt.before, tt.now, tt.surge, tt.surge); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
	rapid.Check(t, func(rt *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 20), 1, 4).Draw(rt, "sizes")
		before, now, surge := rapid.IntRange(1, 30).Draw(rt, "before"), rapid.IntRange(0, 30).Draw(rt, "now"), rapid.IntRange(0, 5).Draw(rt, "surge")
		total, sum := 0, 0
		got := Proportional(sizes, before, now, rapid.IntRange(0, 5).Draw(rt, "surge before"), surge)
		for k, n := range got {
			total, sum = total+sizes[k], sum+n
			if n < 0 || sizes[k] == 0 && n > 0 {
				rt.Fatalf("%v → %v", sizes, got)
			}
		}
		cut := slices.Contains(got, 0) && sum > now+surge // the largest had less than was to go
		if before != now && total > 0 && now > 0 && sum != now+surge && !cut {
			rt.Fatalf("%v → %v: %d in all, want %d", sizes, got, sum, now+surge)
		}
	})
}

// A paused workload keeps every template's pods, whatever happens to some.
func TestHeldKeepsTheTemplates(t *testing.T) {
	t.Parallel()
	w := twoSides(4)
	pod := func(slot int, available bool, uid string) Pod {
		return Pod{Slot: slot, Current: true, Hash: []string{"new", "old"}[slot], Available: available, UID: uid}
	}
	pods := []Pod{pod(0, true, "1"), pod(1, false, "2"), pod(1, true, "3"), pod(1, true, "4")}
	h := Held{Strategy: Strategy{Surge: 1}, Before: 4, SurgeBefore: 1}
	if diff := cmp.Diff([]Wave{{Mend: []int{1}}, {}}, h.Waves(w, pods)); diff != "" {
		t.Errorf("a pod that does not serve:\n%s", diff)
	}
	pods[1] = Pod{Slot: 1, Hash: "old", Available: true, UID: "2"} // has to leave its node
	got := h.Waves(w, pods)
	if len(got) == 0 || !slices.Equal(got[0].Create, []int{1}) || len(got[0].Remove) > 0 {
		t.Errorf("a pod that leaves its node is not made anew of its own template first: %+v", got)
	}
	pods[1] = Pod{Slot: 0, Hash: "unknown", Available: true, UID: "2"}
	if got := h.Waves(w, pods); len(got) > 0 {
		t.Errorf("a pod of a forgotten template does not stay: %+v", got)
	}
	w.Replicas = 8
	w.Template.Hash = "newest" // nothing of it exists, and nothing of it comes
	w.Slots = []Slot{{}, {Template: &Template{Hash: "new"}}, {Template: &Template{Hash: "old"}}}
	pods = []Pod{pod(0, true, "1"), pod(1, true, "2"), pod(1, true, "3"), pod(1, true, "4")}
	for i := range pods {
		pods[i].Slot++
	}
	created := map[int]int{}
	for _, wave := range h.Waves(w, pods) {
		for _, s := range wave.Create {
			created[s]++
		}
	}
	if diff := cmp.Diff(map[int]int{1: 1, 2: 4}, created); diff != "" {
		t.Errorf("scaled:\n%s", diff)
	}
}
