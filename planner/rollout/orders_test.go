package rollout

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// orderRun is a workload whose waves are carried out one action at a time, in any order that they allow, with pods that become
// ready or do not.
type orderRun struct {
	rt    *rapid.T
	pods  []orderPod
	next  int
	hash  string // of the template that is wanted
	check func(when string)
}

type orderPod struct {
	id   int
	slot int
	hash string
	ok   bool
}

// seen are the pods as the orders see them. Pods of slots that are no longer wanted have none.
func (s *orderRun) seen(replicas int) []Pod {
	var out []Pod
	for _, p := range s.pods {
		slot := p.slot
		if slot >= replicas {
			slot = -1
		}
		out = append(out, Pod{
			Slot: slot, Current: slot >= 0 && p.hash == s.hash, Hash: p.hash, Available: p.ok, Known: true, Ordinal: p.slot,
			UID: fmt.Sprintf("%04d", p.id), Node: fmt.Sprint(p.slot),
		})
	}
	return out
}

// available is how many serve: pods that are all alike, or else slots with a pod that does. A second pod of a slot adds
// nothing, and one of a slot that is no longer wanted, of a node that is no longer eligible, serves nobody.
func (s *orderRun) available(w *Want) int {
	_, alike := w.Order.(Strategy)
	n, slots := 0, map[int]bool{}
	for _, p := range s.pods {
		if p.ok && (alike || p.slot < w.Replicas && !slots[p.slot]) {
			n++
			slots[p.slot] = true
		}
	}
	return n
}

func (s *orderRun) remove(id int) {
	s.pods = slices.DeleteFunc(s.pods, func(p orderPod) bool { return p.id == id })
	s.check("remove")
}

// run carries out waves until they end or a pod fails, which fails has a say in. It returns whether all went well.
func (s *orderRun) run(waves []Wave, fails func() bool) bool {
	before := slices.Clone(s.pods)
	for _, w := range waves {
		well := true
		made := func(slot int) {
			s.next++
			s.pods = append(s.pods, orderPod{id: s.next, slot: slot, hash: s.hash})
			s.check("create")
			if fails() {
				well = false
				return
			}
			s.pods[len(s.pods)-1].ok = true
			s.check("ready")
		}
		free, removals := slices.Clone(w.Create[:w.Free]), slices.Clone(w.Remove)
		for len(free)+len(removals) > 0 { // side by side
			if len(free) > 0 && (len(removals) == 0 || rapid.Bool().Draw(s.rt, "create before remove")) {
				made(free[0])
				free = free[1:]
				continue
			}
			s.remove(before[removals[0]].id)
			removals = removals[1:]
		}
		for _, i := range w.Mend {
			j := slices.IndexFunc(s.pods, func(p orderPod) bool { return p.id == before[i].id })
			if fails() {
				well = false
				continue
			}
			s.pods[j].ok = true
			s.check("mend")
		}
		for _, slot := range w.Create[w.Free:] {
			made(slot)
		}
		if !well {
			return false
		}
	}
	return true
}

// anyOrder is one of the orders, with the number of pods that may be too many.
func anyOrder(rt *rapid.T) (Order, int) {
	n := rapid.IntRange(1, 3).Draw(rt, "at a time")
	switch rapid.SampledFrom([]string{"strategy", "ordered", "parallel", "nodes", "nodes, surging"}).Draw(rt, "order") {
	case "strategy":
		surge := rapid.IntRange(0, 3).Draw(rt, "surge")
		return Strategy{Surge: surge, Unavailable: n}, surge
	case "ordered":
		return Ordered{Unavailable: n}, 0
	case "parallel":
		return Ordered{Unavailable: n, Parallel: true}, 0
	case "nodes":
		return PerNode{Unavailable: n}, 0
	}
	return PerNode{Surge: n}, n
}

// TestOrdersKeepTheirBounds changes a workload's template and size by chance, with pods that fail in the middle, and counts
// after every action: enough pods serve, no more than allowed exist, and when pods no longer fail the rollout ends.
func TestOrdersKeepTheirBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		order, surge := anyOrder(rt)
		_, alike := order.(Strategy)
		s := &orderRun{rt: rt}
		for round := range rapid.IntRange(1, 5).Draw(rt, "rounds") + 1 {
			last := round > 0 && rapid.Bool().Draw(rt, "heals")
			s.hash = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "template")
			w := &Want{Replicas: rapid.IntRange(0, 5).Draw(rt, "replicas"), Order: order}
			least, most := min(s.available(w), order.Least(w.Replicas)), max(len(s.pods), w.Replicas+surge)
			slotsOf := func() map[int]int {
				n := map[int]int{}
				for _, p := range s.pods {
					n[p.slot]++
				}
				return n
			}
			had := slotsOf()
			s.check = func(when string) {
				if got := s.available(w); got < least {
					rt.Fatalf("%s to %d of %s: after %s %d serve, want %d", order, w.Replicas, s.hash, when, got, least)
				}
				if len(s.pods) > most {
					rt.Fatalf("%s to %d of %s: after %s there are %d, want %d at most", order, w.Replicas, s.hash, when, len(s.pods), most)
				}
				for slot, n := range slotsOf() {
					if limit := max(had[slot], 1+min(surge, 1)); !alike && n > limit {
						rt.Fatalf("%s to %d of %s: after %s slot %d has %d pods, want %d at most", order, w.Replicas, s.hash, when, slot, n, limit)
					}
				}
			}
			fails := func() bool { return !last && rapid.IntRange(0, 3).Draw(rt, "fails") == 0 }
			if !s.run(order.Waves(w, s.seen(w.Replicas)), fails) {
				continue
			}
			if left := order.Waves(w, s.seen(w.Replicas)); len(left) > 0 {
				rt.Fatalf("%s to %d of %s: not done when its waves are: %+v", order, w.Replicas, s.hash, left)
			}
			if s.available(w) != w.Replicas || len(s.pods) != w.Replicas {
				rt.Fatalf("%s to %d of %s: %d pods in the end, %d serve", order, w.Replicas, s.hash, len(s.pods), s.available(w))
			}
		}
	})
}

// TestOrderedGoesInOrder replaces a stateful set from the highest ordinal down, whatever fails: what has the new template lies
// above what has not, and what is made lies above what is there.
func TestOrderedGoesInOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		order := Ordered{Unavailable: rapid.IntRange(1, 3).Draw(rt, "unavailable")}
		n := rapid.IntRange(1, 6).Draw(rt, "replicas")
		s := &orderRun{rt: rt, hash: "old", check: func(string) {}}
		w := &Want{Replicas: n, Order: order}
		s.check = func(string) {
			for i, p := range s.pods {
				if p.slot != i {
					rt.Fatalf("made in the order %+v", s.pods)
				}
			}
		}
		s.run(order.Waves(w, nil), func() bool { return false })
		s.hash = "new"
		s.check = func(string) {
			lowest, highest := n, -1
			for _, p := range s.pods {
				if p.hash == "new" {
					lowest = min(lowest, p.slot)
				} else {
					highest = max(highest, p.slot)
				}
			}
			if highest > lowest+order.Unavailable-1 {
				rt.Fatalf("ordinal %d is old while %d is new: %+v", highest, lowest, s.pods)
			}
		}
		s.run(order.Waves(w, s.seen(n)), func() bool { return rapid.IntRange(0, 4).Draw(rt, "fails") == 0 })
		s.check("end")
		smaller := rapid.IntRange(0, n).Draw(rt, "smaller")
		s.check = func(string) {
			for _, p := range s.pods {
				if p.slot >= len(s.pods) {
					rt.Fatalf("scaled down with a gap: %+v", s.pods)
				}
			}
		}
		s.hash = "old"
		for i := range s.pods {
			s.pods[i].ok, s.pods[i].hash = true, "old"
		}
		if len(s.pods) == n {
			s.run(order.Waves(&Want{Replicas: smaller, Order: order}, s.seen(smaller)), func() bool { return false })
		}
	})
}

// TestLeftOversGoFirst gives a stateful set a second pod of one name, which the state does not know.
func TestLeftOversGoFirst(t *testing.T) {
	t.Parallel()
	w := &Want{Replicas: 2, Order: Ordered{Unavailable: 1}}
	pods := []Pod{
		{Slot: 0, Current: true, Available: true, Known: true},
		{Slot: 1, Current: true, Available: true},
		{Slot: 1, Current: true, Available: true, Known: true},
	}
	waves := w.Order.Waves(w, pods)
	if len(waves) != 1 || !slices.Equal(waves[0].Remove, []int{1}) {
		t.Errorf("waves %+v: want the one that the state does not know to go", waves)
	}
	pods[2].Fixed = true // both on hosts that cannot be worked on
	pods[1].Fixed = true
	if waves := w.Order.Waves(w, pods); len(waves) != 0 {
		t.Errorf("waves %+v on hosts that cannot be reached", waves)
	}
}

// TestBlockedSetsWait keeps the order when a pod in the middle cannot be replaced.
func TestBlockedSetsWait(t *testing.T) {
	t.Parallel()
	w := &Want{Replicas: 3, Order: Ordered{Unavailable: 1}}
	old := Pod{Available: true, Known: true}
	pods := []Pod{old, old, old}
	for i := range pods {
		pods[i].Slot, pods[i].Ordinal = i, i
	}
	pods[1].Fixed = true
	if why := w.Order.Blocked(w, pods); why == "" {
		t.Error("nothing is said of a pod that cannot be replaced")
	}
	if waves := w.Order.Waves(w, pods); len(waves) != 0 {
		t.Errorf("waves %+v, want none before the pod in the middle can go", waves)
	}
	pods[0].Leaving = true
	if waves := w.Order.Waves(w, pods); len(waves) != 2 || !slices.Equal(waves[0].Remove, []int{0}) {
		t.Errorf("waves %+v, want the pod whose host leaves to go all the same", waves)
	}
}
