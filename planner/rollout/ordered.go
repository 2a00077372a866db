package rollout

import (
	"fmt"
	"slices"
)

// Ordered is the order of pods with ordinals and names of their own: made from the lowest, taken away and replaced from the
// highest, never two of one name (semantics.md 3.4).
type Ordered struct {
	Parallel    bool // those that come and those that are too many do not wait for each other
	Unavailable int  // this many are replaced at a time, at least 1
	Remake      bool // all old ones go before the first new one comes
	Keep        int  // serve at any time, however many are wanted
}

// String describes the order as plans show it.
func (o Ordered) String() string {
	switch {
	case o.Remake:
		return "all at once"
	case o.Unavailable > 1:
		return fmt.Sprintf("%d at a time, highest first", o.Unavailable)
	}
	return "one by one, highest first"
}

// Least is what is left while pods are replaced.
func (o Ordered) Least(n int) int {
	if o.Remake {
		return 0
	}
	return max(0, n-o.Unavailable)
}

// Evicting has at least so many pods serve.
func (o Ordered) Evicting(least int) Order { o.Keep = least; return o }

// Anew has every pod go before the first one comes again.
func (o Ordered) Anew() Order { o.Remake = true; return o }

// Blocked names the first pod in the order that has to go and cannot.
func (o Ordered) Blocked(w *Want, pods []Pod) string {
	if r := newOrdinals(o, w, pods); r.stuck >= 0 {
		return "changes its pods in their order, and " + inTheWay
	}
	return ""
}

// Waves first takes away left-overs of identities that others have, then makes what is missing or does not run from the
// lowest ordinal on, takes away what is too much from the highest down, and replaces in the same direction. A pod that has to
// go and cannot, because its host takes no work, stops those after it; only pods of hosts that leave go all the same.
func (o Ordered) Waves(w *Want, pods []Pod) []Wave {
	r := newOrdinals(o, w, pods)
	waves := []Wave{{Remove: r.leftOvers}}
	if o.Remake {
		return Finish(slices.Concat(waves, r.remake()))
	}
	waves = slices.Concat(waves, r.fill(), r.shrink(), r.replace())
	return Finish(waves)
}

// ordinals is the set as it is: who holds each slot, and who holds none.
type ordinals struct {
	order     Ordered
	pods      []Pod
	holders   []int // by slot; -1 for none
	surplus   []int // pods without a slot, in the order in which they go
	leftOvers []int // second pods of one slot
	stuck     int   // the first pod that has to go and cannot; -1 for none
}

func newOrdinals(o Ordered, w *Want, pods []Pod) *ordinals {
	r := &ordinals{order: o, pods: pods, stuck: -1}
	r.holders, r.leftOvers = holders(w, pods)
	for i, p := range pods {
		if p.Slot < 0 {
			r.surplus = append(r.surplus, i)
		}
	}
	slices.SortFunc(r.surplus, func(a, b int) int { return pods[b].Ordinal - pods[a].Ordinal })
	for _, i := range r.surplus {
		r.stop(i)
	}
	for _, i := range slices.Backward(r.holders) {
		if i >= 0 && !pods[i].Current {
			r.stop(i)
		}
	}
	return r
}

func (r *ordinals) stop(i int) {
	if r.stuck < 0 && r.pods[i].Fixed {
		r.stuck = i
	}
}

// holders returns the pod that has each slot, -1 for none, and those that have one beside it: of several pods of a slot the
// one that the state knows has it, then the oldest. Those that can be reached are left-overs.
func holders(w *Want, pods []Pod) (holders, leftOvers []int) {
	holders = make([]int, w.Replicas)
	for s := range holders {
		holders[s] = -1
	}
	for i, p := range pods {
		if p.Slot < 0 {
			continue
		}
		other := holders[p.Slot]
		if other >= 0 && holdsBefore(pods[other], p) {
			i, other = other, i
		}
		holders[p.Slot] = i
		if other >= 0 && !pods[other].Fixed {
			leftOvers = append(leftOvers, other)
		}
	}
	slices.Sort(leftOvers)
	return holders, leftOvers
}

func holdsBefore(a, b Pod) bool {
	if a.Known != b.Known {
		return a.Known
	}
	return !b.Created.Before(a.Created)
}

// fill makes what is missing and mends what does not run: all at once, or each when the ones before it are ready.
func (r *ordinals) fill() []Wave {
	var waves []Wave
	for slot, i := range r.holders {
		var w Wave
		switch {
		case i < 0:
			w.Create, w.Free = []int{slot}, 1
		case r.pods[i].Fixed || r.pods[i].Available:
			continue
		case r.pods[i].Current:
			w.Mend = []int{i}
		case r.stuck >= 0 && !r.pods[i].Leaving:
			continue
		default:
			w.Remove, w.Create = []int{i}, []int{slot}
			r.holders[slot] = -1 // done: replace passes it over
		}
		if r.order.Parallel && len(waves) > 0 {
			waves[0].Mend = append(waves[0].Mend, w.Mend...)
			waves[0].Remove = append(waves[0].Remove, w.Remove...)
			waves[0].Create = append(waves[0].Create, w.Create...)
			waves[0].Free = 0
			if len(waves[0].Remove) == 0 {
				waves[0].Free = len(waves[0].Create)
			}
			continue
		}
		waves = append(waves, w)
	}
	return waves
}

// shrink takes away pods without a slot, the highest ordinal first, each when the one before it is gone.
func (r *ordinals) shrink() []Wave {
	var waves []Wave
	for _, i := range r.surplus {
		if r.pods[i].Fixed || r.stuck >= 0 && !r.pods[i].Leaving && !r.order.Parallel {
			continue
		}
		if r.order.Parallel && len(waves) > 0 {
			waves[0].Remove = append(waves[0].Remove, i)
			continue
		}
		waves = append(waves, Wave{Remove: []int{i}})
	}
	return waves
}

// replace takes outdated pods away and makes them anew, the highest ordinal first. Those that are filled in before serve by then.
func (r *ordinals) replace() []Wave {
	var waves []Wave
	atOnce := min(r.order.Unavailable, len(r.holders)-r.order.Keep)
	if atOnce < 1 {
		return nil
	}
	for slot, i := range slices.Backward(r.holders) {
		if i < 0 || r.pods[i].Current || r.pods[i].Fixed || r.stuck >= 0 && !r.pods[i].Leaving {
			continue
		}
		if n := len(waves); n > 0 && len(waves[n-1].Create) < atOnce {
			waves[n-1].Remove = append(waves[n-1].Remove, i)
			waves[n-1].Create = append(waves[n-1].Create, slot)
			continue
		}
		waves = append(waves, Wave{Remove: []int{i}, Create: []int{slot}})
	}
	return waves
}

// remake takes all old pods away, the highest first, and fills the slots again from the lowest on.
func (r *ordinals) remake() []Wave {
	old := slices.Clone(r.surplus)
	for _, i := range slices.Backward(r.holders) {
		if i >= 0 && !r.pods[i].Current {
			old = append(old, i)
		}
	}
	var waves []Wave
	for _, i := range old {
		if r.pods[i].Fixed || r.stuck >= 0 && !r.pods[i].Leaving {
			continue
		}
		if slot := r.pods[i].Slot; slot >= 0 {
			r.holders[slot] = -1
		}
		if r.order.Parallel && len(waves) > 0 {
			waves[0].Remove = append(waves[0].Remove, i)
			continue
		}
		waves = append(waves, Wave{Remove: []int{i}})
	}
	if r.stuck >= 0 {
		return waves
	}
	return append(waves, r.fill()...)
}
