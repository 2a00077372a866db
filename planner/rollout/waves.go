package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Strategy says how many pods may be too many or too few while they change over.
type Strategy struct {
	Recreate    bool // all old ones go before the first new one comes
	Surge       int  // this many above the wanted number
	Unavailable int  // this many below it
}

// String describes the strategy as plans show it.
func (s Strategy) String() string {
	if s.Recreate {
		return "all at once"
	}
	return fmt.Sprintf("surge %d, unavailable %d", s.Surge, s.Unavailable)
}

// Pod is one existing pod of a workload as its controller sees it.
type Pod struct {
	Current   bool // of the wanted template and allowed to stay where it is
	Available bool // it serves, as far as is known
	Fixed     bool // its host cannot be reached: it can be neither removed nor mended
	Leaving   bool // its host leaves the cluster: it goes, whatever else has to wait
	// What follows only orders those of which some must go.
	UID          string
	Node         string
	DeletionCost int
	Created      time.Time
}

// Wave is one round of a change-over. Its removals start when the pods created by the wave before are ready;
// the first Free creations start at the same time, the others when the removals are done.
type Wave struct {
	Remove []int // indices of existing pods
	Mend   []int // indices of existing pods that have to be made to run again where they are; first wave only
	Create int
	Free   int
}

// Waves returns the rounds that lead from the existing pods to the wanted ones, none when there is nothing to do.
// At no time do more than wanted+Surge pods exist or fewer than wanted-Unavailable serve, except where that was
// so before. The last wave creates nothing, so that each wave's pods have a successor that shows them ready.
func (s Strategy) Waves(wanted int, pods []Pod) []Wave {
	r := newRound(s, wanted, pods)
	var waves []Wave
	for {
		w := r.next()
		if len(w.Remove) == 0 && len(w.Mend) == 0 && w.Create == 0 {
			break
		}
		waves = append(waves, w)
	}
	if n := len(waves); n > 0 && (waves[n-1].Create > 0 || len(waves[n-1].Mend) > 0) {
		waves = append(waves, Wave{})
	}
	return waves
}

// Blocked reports whether the strategy has to wait for old pods on hosts that cannot be reached.
func (s Strategy) Blocked(pods []Pod) bool {
	return s.Recreate && slices.ContainsFunc(pods, func(p Pod) bool { return p.Fixed && !p.Current })
}

// round is the simulation: what exists after the waves so far.
type round struct {
	strategy  Strategy
	wanted    int
	surplus   []int // removable pods of the wanted template, first victim first
	oldBad    []int // removable old pods that do not serve, first victim first
	oldGood   []int
	fixedOld  int
	current   int // of the wanted template, ready or not
	mend      []int
	leaving   []int // old ones that go even while all else waits
	available int
	blocked   bool
}

func newRound(s Strategy, wanted int, pods []Pod) *round {
	r := &round{strategy: s, wanted: wanted, blocked: s.Blocked(pods)}
	for _, i := range victims(pods) {
		p := pods[i]
		if p.Available {
			r.available++
		}
		switch {
		case p.Current:
			r.current++
			if !p.Fixed {
				r.surplus = append(r.surplus, i)
			}
			if !p.Available && !p.Fixed {
				r.mend = append(r.mend, i)
			}
		case p.Fixed:
			r.fixedOld++
		case r.blocked && p.Leaving:
			r.leaving = append(r.leaving, i)
		case p.Available:
			r.oldGood = append(r.oldGood, i)
		default:
			r.oldBad = append(r.oldBad, i)
		}
	}
	return r
}

func (r *round) total() int { return r.current + r.fixedOld + len(r.oldBad) + len(r.oldGood) }

// next is one sync of the deployment controller, with the pods of the wave before ready.
func (r *round) next() Wave {
	var w Wave
	if r.strategy.Recreate {
		w = r.recreate()
	} else {
		free := r.room()
		w.Remove = append(r.removeSurplus(), r.removeOld()...)
		w.Create = r.room()
		w.Free = min(free, w.Create)
	}
	slices.Sort(r.mend)
	w.Mend, r.mend = r.mend, nil
	r.available += w.Create + len(w.Mend)
	r.current += w.Create
	return w
}

// room is how many pods may be created now.
func (r *round) room() int {
	return max(0, min(r.wanted+r.strategy.Surge-r.total(), r.wanted-r.current))
}

// removeSurplus takes away what is more than wanted of the wanted template.
func (r *round) removeSurplus() []int {
	n := min(r.current-r.wanted, len(r.surplus))
	if n <= 0 {
		return nil
	}
	out := slices.Clone(r.surplus[:n])
	r.surplus = r.surplus[n:]
	r.current -= n
	for _, i := range out {
		if j := slices.Index(r.mend, i); j >= 0 {
			r.mend = slices.Delete(r.mend, j, j+1)
		} else {
			r.available--
		}
	}
	return out
}

// removeOld takes away old pods: those that do not serve as long as enough would be left to become available,
// then those that serve as long as enough serve without them.
func (r *round) removeOld() []int {
	least := r.wanted - r.strategy.Unavailable
	bad := max(0, min(r.total()-least-len(r.mend), len(r.oldBad)))
	out := slices.Clone(r.oldBad[:bad])
	r.oldBad = r.oldBad[bad:]
	good := max(0, min(r.available-least, len(r.oldGood)))
	out = append(out, r.oldGood[:good]...)
	r.oldGood = r.oldGood[good:]
	r.available -= good
	return out
}

func (r *round) recreate() Wave {
	if r.blocked {
		w := Wave{Remove: r.leaving}
		r.leaving = nil
		return w
	}
	w := Wave{Remove: append(append(r.removeSurplus(), r.oldBad...), r.oldGood...)}
	r.available -= len(r.oldGood)
	r.oldBad, r.oldGood = nil, nil
	w.Create = max(0, r.wanted-r.current)
	if len(w.Remove) == 0 {
		w.Free = w.Create
	}
	return w
}

// victims returns the indices of pods, the one that should go first in front (semantics.md 3.2): not serving,
// cheap to delete, from the fullest node, youngest. Ages are not compared on a logarithmic scale as upstream,
// since a plan has no clock.
func victims(pods []Pod) []int {
	byAge := func(a, b int) int {
		p, q := pods[a], pods[b]
		return cmp.Or(
			compareBool(p.Available, q.Available), cmp.Compare(p.DeletionCost, q.DeletionCost),
			q.Created.Compare(p.Created), cmp.Compare(p.UID, q.UID))
	}
	order := make([]int, len(pods))
	left := map[string]int{}
	for i, p := range pods {
		order[i] = i
		left[p.Node]++
	}
	slices.SortFunc(order, byAge)
	crowd := make([]int, len(pods)) // pods on its node when its turn comes
	for _, i := range order {
		crowd[i] = left[pods[i].Node]
		left[pods[i].Node]--
	}
	slices.SortStableFunc(order, func(a, b int) int {
		p, q := pods[a], pods[b]
		return cmp.Or(
			compareBool(p.Available, q.Available), cmp.Compare(p.DeletionCost, q.DeletionCost),
			cmp.Compare(crowd[b], crowd[a]), q.Created.Compare(p.Created), cmp.Compare(p.UID, q.UID))
	})
	return order
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
