package rollout

import "slices"

// sides is the simulation of a change-over between several templates that stay side by side for a while: what exists after
// the waves so far. Side k has the pods of slot k.
type sides struct {
	strategy  Strategy
	wanted    int // pods in all, which the bounds are about
	sides     []side
	bad, good []int // removable pods of no side, first victim first, by whether they serve
	fixed     int   // pods of no side that cannot be removed
	available int
}

// side is the pods of one template.
type side struct {
	target    int   // how many there should be
	count     int   // how many there are, ready or not
	bad, good []int // removable ones, first victim first
	mend      []int
}

// newSides looks at what exists. Pods of the first mended sides are made to run again; of the others, which go in the end, it
// is not worth it.
func newSides(s Strategy, wanted, n, mended int, pods []Pod) *sides {
	r := &sides{strategy: s, wanted: wanted, sides: make([]side, n)}
	for _, i := range victims(pods) {
		p := pods[i]
		if p.Available {
			r.available++
		}
		if !p.Current || p.Slot < 0 || p.Slot >= n {
			switch {
			case p.Fixed:
				r.fixed++
			case p.Available:
				r.good = append(r.good, i)
			default:
				r.bad = append(r.bad, i)
			}
			continue
		}
		k := &r.sides[p.Slot]
		k.count++
		switch {
		case p.Fixed:
		case p.Available:
			k.good = append(k.good, i)
		default:
			k.bad = append(k.bad, i)
			if p.Slot < mended {
				k.mend = append(k.mend, i)
			}
		}
	}
	return r
}

// reach returns the waves after which every side has as many pods as it should.
func (r *sides) reach(targets ...int) []Wave {
	for k := range r.sides {
		r.sides[k].target = targets[k]
	}
	var waves []Wave
	for {
		w := r.next()
		if w.empty() {
			return waves
		}
		waves = append(waves, w)
	}
}

func (r *sides) total() int {
	n := r.fixed + len(r.bad) + len(r.good)
	for _, k := range r.sides {
		n += k.count
	}
	return n
}

// next is one round, with the pods of the wave before ready.
func (r *sides) next() Wave {
	var w Wave
	free := r.missing(r.room())
	w.Remove = append(r.removeBad(), r.removeGood()...)
	for k := range r.sides {
		s := &r.sides[k]
		w.Mend = append(w.Mend, s.mend...)
		s.good = append(s.good, s.mend...)
		s.bad = slices.DeleteFunc(s.bad, func(i int) bool { return slices.Contains(s.mend, i) })
		s.mend = nil
	}
	slices.Sort(w.Mend)
	room := r.room()
	for k := range r.sides {
		s := &r.sides[k]
		n := max(0, min(room, s.target-s.count))
		for range n {
			w.Create = append(w.Create, k)
		}
		s.count += n
		room -= n
	}
	w.Free = min(free, len(w.Create))
	r.available += len(w.Create) + len(w.Mend)
	return w
}

// room is how many pods may be created now.
func (r *sides) room() int { return max(0, r.wanted+r.strategy.Surge-r.total()) }

// missing is how many pods are to be created, of at most so many.
func (r *sides) missing(most int) int {
	n := 0
	for _, s := range r.sides {
		n += max(0, s.target-s.count)
	}
	return min(n, most)
}

// removeBad takes away pods that do not serve and that nobody wants, as long as enough are left that serve or will.
func (r *sides) removeBad() []int {
	least := r.strategy.least(r.wanted)
	mends := 0
	for _, s := range r.sides {
		mends += len(s.mend)
	}
	var out []int
	budget := r.total() - least
	n := max(0, min(budget-mends, len(r.bad)))
	out, r.bad = append(out, r.bad[:n]...), r.bad[n:]
	for k := range r.sides {
		s := &r.sides[k]
		hopeless := len(s.bad) - len(s.mend) // those that are mended are counted on
		n := max(0, min(s.count-s.target, len(s.bad), len(s.mend)+min(hopeless, r.total()-least-mends)))
		for _, i := range s.bad[:n] {
			s.mend = slices.DeleteFunc(s.mend, func(m int) bool { return m == i })
		}
		out, s.bad, s.count = append(out, s.bad[:n]...), s.bad[n:], s.count-n
	}
	return out
}

// removeGood takes away pods that serve and that nobody wants, as long as enough serve without them.
func (r *sides) removeGood() []int {
	budget := func() int { return max(0, r.available-r.strategy.least(r.wanted)) }
	n := min(budget(), len(r.good))
	out := slices.Clone(r.good[:n])
	r.good, r.available = r.good[n:], r.available-n
	for k := len(r.sides) - 1; k >= 0; k-- { // the older ones first
		s := &r.sides[k]
		n := max(0, min(s.count-s.target, len(s.good), budget()))
		out = append(out, s.good[:n]...)
		s.good, s.count, r.available = s.good[n:], s.count-n, r.available-n
	}
	return out
}
