package rollout

import (
	"math"
	"slices"
)

// Held leaves a paused workload's templates as they are: nothing rolls out. Pods that are gone are made again from the
// template that they had, and a change of the number of replicas is shared by the templates.
type Held struct {
	Strategy
	Before      int // how many replicas were wanted before; the same as now when nobody scaled
	SurgeBefore int // what the surge was of that many
}

// String describes the order as plans show it.
func (h Held) String() string { return "paused" }

// Evicting has at least so many pods serve.
func (h Held) Evicting(least int) Order { h.Keep = least; return h }

// Waves keeps every template's number of pods, or scales all of them.
func (h Held) Waves(w *Want, pods []Pod) []Wave {
	n := len(w.Slots)
	sizes := make([]int, n)
	kept := make([]Pod, len(pods))
	for i, p := range pods {
		ours := false
		for k := range w.Slots {
			if w.TemplateOf(&w.Slots[k]).Hash == p.Hash {
				sizes[k]++
				ours = true
			}
		}
		p.Fixed = p.Fixed || !ours && !p.Leaving // of a template that nobody remembers: it stays as long as it can
		kept[i] = p
	}
	targets := Proportional(sizes, h.Before, w.Replicas, h.SurgeBefore, h.Surge)
	wanted := 0
	for _, t := range targets {
		wanted += t
	}
	bounds := h.Strategy
	bounds.Recreate, bounds.Surge, bounds.Unavailable = false, max(1, h.Surge), h.Unavailable
	return Finish(newSides(bounds, wanted, n, n, kept).reach(targets...))
}

// Blocked is never said: nothing has to go first.
func (h Held) Blocked(*Want, []Pod) string { return "" }

// Proportional shares a change of the wanted number among templates with these numbers of pods, the newest first, as the
// deployment controller does (semantics.md 3.3): each gets its part of what may exist, the surge included, the largest what is
// left over. before is at least 1.
func Proportional(sizes []int, before, now, surgeBefore, surge int) []int {
	out := slices.Clone(sizes)
	total := 0
	for _, n := range sizes {
		total += n
	}
	most := 0
	if now > 0 {
		most = now + surge
	}
	delta := most - total
	if before == now || before == 0 || total == 0 || delta == 0 {
		return out
	}
	if now == 0 {
		return make([]int, len(sizes))
	}
	rest := delta
	order := bySize(sizes, delta > 0)
	for _, k := range order {
		if rest == 0 || sizes[k] == 0 {
			continue
		}
		share := int(math.Round(float64(sizes[k])*float64(most)/float64(before+surgeBefore))) - sizes[k]
		if delta > 0 {
			share = max(0, min(share, rest))
		} else {
			share = min(0, max(share, rest))
		}
		out[k] += share
		rest -= share
	}
	out[order[0]] = max(0, out[order[0]]+rest)
	return out
}

// bySize orders templates by their pods, most first; of equal ones the newer first when more are wanted, else the older.
func bySize(sizes []int, grow bool) []int {
	order := sequence(0, len(sizes))
	slices.SortStableFunc(order, func(a, b int) int {
		if d := sizes[b] - sizes[a]; d != 0 {
			return d
		}
		if grow {
			return a - b
		}
		return b - a
	})
	return order
}
