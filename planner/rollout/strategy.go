package rollout

import (
	"fmt"
	"slices"
)

// Strategy says how many pods may be too many or too few while they change over.
type Strategy struct {
	Recreate    bool // all old ones go before the first new one comes
	Surge       int  // this many above the wanted number
	Unavailable int  // this many below it
	Keep        int  // serve at any time, however many are wanted
}

// String describes the strategy as plans show it.
func (s Strategy) String() string {
	if s.Recreate {
		return "all at once"
	}
	return fmt.Sprintf("surge %d, unavailable %d", s.Surge, s.Unavailable)
}

// Least is what Unavailable leaves.
func (s Strategy) Least(n int) int {
	if s.Recreate {
		return 0
	}
	return max(0, n-s.Unavailable)
}

// Anew is Recreate.
func (s Strategy) Anew() Order { return Strategy{Recreate: true} }

// Evicting has pods replaced one by one where all would be at once: that rule is for pods of different templates.
func (s Strategy) Evicting(least int) Order {
	if s.Recreate {
		s = Strategy{Unavailable: 1}
	}
	s.Keep = least
	return s
}

// Surging is an order that makes new pods beside the old ones, and could make fewer of them at a time.
type Surging interface {
	Order
	// AtOnce is how many more than wanted there are at most, Fewest with how many it still gets on.
	AtOnce() int
	Fewest() int
	// Bounded is the same order with at most n more than wanted.
	Bounded(n int) Order
}

// AtOnce is Surge.
func (s Strategy) AtOnce() int { return s.Surge }

// Fewest is none, where pods may be missing meanwhile.
func (s Strategy) Fewest() int {
	if s.Unavailable > 0 {
		return 0
	}
	return 1
}

// Bounded has less surge.
func (s Strategy) Bounded(n int) Order { s.Surge = min(s.Surge, n); return s }

// least is how many pods serve at any time.
func (s Strategy) least(wanted int) int { return max(wanted-s.Unavailable, s.Keep) }

// Waves works for pods that are all alike, and for a single one with a name of its own. At no time do more than
// Replicas+Surge pods exist or fewer than Replicas-Unavailable serve, except where that was so before.
func (s Strategy) Waves(w *Want, pods []Pod) []Wave {
	r := newRound(s, w, pods)
	var waves []Wave
	for {
		wave := r.next()
		if wave.empty() {
			return Finish(waves)
		}
		waves = append(waves, wave)
	}
}

// Blocked reports old pods on hosts that cannot be reached, where all have to go first.
func (s Strategy) Blocked(_ *Want, pods []Pod) string {
	if s.Recreate && slices.ContainsFunc(pods, func(p Pod) bool { return p.Fixed && !p.Current }) {
		return "replaces all its pods at once, and " + inTheWay
	}
	return ""
}

// round is the simulation: what exists after the waves so far.
type round struct {
	strategy  Strategy
	wanted    int
	made      int   // slots filled so far
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

func newRound(s Strategy, w *Want, pods []Pod) *round {
	r := &round{strategy: s, wanted: w.Replicas, blocked: s.Blocked(w, pods) != ""}
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
		w.Create = r.fill(r.room())
		w.Free = min(free, len(w.Create))
	}
	slices.Sort(r.mend)
	w.Mend, r.mend = r.mend, nil
	r.available += len(w.Create) + len(w.Mend)
	r.current += len(w.Create)
	return w
}

// fill takes the next n slots: which ones does not matter, since all are alike.
func (r *round) fill(n int) []int {
	out := sequence(r.made, n)
	r.made += len(out)
	return out
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
	least := r.strategy.least(r.wanted)
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
	w.Create = r.fill(r.wanted - r.current)
	if len(w.Remove) == 0 {
		w.Free = len(w.Create)
	}
	return w
}
