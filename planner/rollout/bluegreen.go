package rollout

import (
	"slices"
	"time"

	"berth.dev/berth/api"
)

// defaultKeep is how many seconds the old pods run on after the switch.
const defaultKeep = 30

// BlueGreen has all new pods ready beside the old ones, passes a gate, switches the services, keeps the old pods for a while
// and takes them away. Slot 0 is the new template, slot 1 the old one.
type BlueGreen struct {
	Gate     Gate // before the switch
	Keep     int32
	Switched *time.Time // when the services went over; nil before
	Serves   bool       // the services have gone over to the new side
	Floor    int        // serve at any time while pods leave their nodes
}

// blueGreen reads the strategy; a rollout that was promoted passes its gate.
func blueGreen(b *api.BlueGreenDeployment, r *api.RolloutState) BlueGreen {
	if b == nil {
		b = &api.BlueGreenDeployment{}
	}
	out := BlueGreen{Keep: defaultKeep, Gate: Gate{Analysis: b.Analysis, Hold: b.AutoPromote != nil && !*b.AutoPromote}}
	if b.KeepOldSeconds != nil {
		out.Keep = *b.KeepOldSeconds
	}
	if r == nil {
		return out
	}
	switch {
	case r.Promoted:
		out.Gate = Gate{}
	case r.Paused: // the analysis has passed
		out.Gate.Analysis = nil
	}
	out.Serves, out.Switched = r.Serving == r.Hash, r.SwitchedAt
	return out
}

// String describes the strategy as plans show it.
func (b BlueGreen) String() string { return "blue/green" }

// Least is all of them: the old ones serve until the new ones do.
func (b BlueGreen) Least(n int) int { return n }

// Evicting has at least so many pods serve. Between the two sides of a rollout it has no say.
func (b BlueGreen) Evicting(least int) Order { b.Floor = least; return b }

// Anew is Recreate.
func (b BlueGreen) Anew() Order { return Strategy{Recreate: true} }

// Blocked is never said: what cannot be removed stays beside the others.
func (b BlueGreen) Blocked(*Want, []Pod) string { return "" }

// Waves makes the new side complete, switches, and removes the old one. The side that serves is never below what is wanted,
// and both together are never more than twice that, except where it was so before.
func (b BlueGreen) Waves(w *Want, pods []Pod) []Wave {
	if len(w.Slots) < 2 {
		return Strategy{Surge: 1, Keep: b.Floor}.Waves(w, pods)
	}
	first, old := b.bothUp(w, pods)
	waves := []Wave{first}
	if b.Serves {
		keep := Gate{Seconds: b.Keep}
		if b.Switched != nil {
			until := b.Switched.Add(time.Duration(b.Keep) * time.Second)
			keep.Until = &until
		}
		if len(old) > 0 && b.Keep > 0 {
			waves = append(waves, Wave{Gate: &keep})
		}
		return Finish(append(waves, Wave{Remove: old}))
	}
	waves = append(waves, Wave{Gate: &b.Gate})
	if b.Gate.Hold {
		return Finish(waves)
	}
	waves = append(waves, Wave{Switch: true})
	if b.Keep > 0 {
		waves = append(waves, Wave{Gate: &Gate{Seconds: b.Keep}})
	}
	return Finish(append(waves, Wave{Remove: old}))
}

// bothUp is the wave after which both sides are what they should be, and the pods that go at the end. Pods of neither side go
// at once: nobody asks them.
func (b BlueGreen) bothUp(w *Want, pods []Pod) (first Wave, old []int) {
	count := []int{0, 0}
	total := 0
	for _, i := range victims(pods) {
		p := pods[i]
		total++
		switch {
		case !p.Current || p.Slot < 0 || p.Slot > 1:
			if !p.Fixed {
				first.Remove = append(first.Remove, i)
			}
			continue
		case p.Fixed:
		case p.Slot == 1 && b.Serves: // on its way out: not worth mending
			old = append(old, i)
		case !p.Available:
			first.Mend = append(first.Mend, i)
			fallthrough
		default:
			if p.Slot == 1 {
				old = append(old, i)
			}
		}
		count[p.Slot]++
	}
	first.Mend, first.Remove, old = b.surplus(w, pods, count, first, old)
	for slot, n := range count {
		if slot == 1 && (b.Serves || !b.Gate.Hold) {
			continue // a plan does not remove what it has made: old pods are made again only where it ends with both sides up
		}
		for range w.Replicas - n {
			first.Create = append(first.Create, slot)
		}
	}
	first.Free = max(0, min(len(first.Create), 2*w.Replicas-total))
	slices.Sort(first.Mend)
	return first, old
}

// surplus takes away what a side has too many of, the first victims first.
func (b BlueGreen) surplus(w *Want, pods []Pod, count []int, first Wave, old []int) (mend, remove, left []int) {
	mend, remove, left = first.Mend, first.Remove, old
	for _, i := range victims(pods) {
		p := pods[i]
		if !p.Current || p.Fixed || p.Slot < 0 || p.Slot > 1 || count[p.Slot] <= w.Replicas || p.Slot == 1 && b.Serves {
			continue
		}
		count[p.Slot]--
		remove = append(remove, i)
		is := func(k int) bool { return k == i }
		mend, left = slices.DeleteFunc(mend, is), slices.DeleteFunc(left, is)
	}
	return mend, remove, left
}
