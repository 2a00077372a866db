package rollout

import (
	"fmt"
	"slices"
)

// PerNode is the order of pods of which every node has one (semantics.md 3.5). One of Surge and Unavailable is 0.
type PerNode struct {
	Surge       int  // this many nodes have a new pod beside the old one
	Unavailable int  // this many nodes are without a pod that serves
	Remake      bool // all old ones go before the first new one comes
}

// String describes the order as plans show it.
func (o PerNode) String() string {
	if o.Remake {
		return "all at once"
	}
	return fmt.Sprintf("surge %d, unavailable %d", o.Surge, o.Unavailable)
}

// Least is what Unavailable leaves.
func (o PerNode) Least(n int) int {
	if o.Remake {
		return 0
	}
	return max(0, n-o.Unavailable)
}

// Anew has every old pod go before the first new one comes.
func (o PerNode) Anew() Order { return PerNode{Remake: true} }

// Evicting is the order itself: pods that every node has leave with their node.
func (o PerNode) Evicting(int) Order { return o }

// Blocked reports old pods on hosts that cannot be reached, where all have to go first.
func (o PerNode) Blocked(_ *Want, pods []Pod) string {
	if o.Remake && slices.ContainsFunc(pods, func(p Pod) bool { return p.Fixed && !p.Current }) {
		return "replaces all its pods at once, and " + inTheWay
	}
	return ""
}

// Waves first does what costs nobody anything: pods of nodes that want none go, nodes without one get theirs, those that do
// not serve are mended or replaced. Then those that serve are replaced, a few nodes at a time.
func (o PerNode) Waves(w *Want, pods []Pod) []Wave {
	var first Wave
	var serving []int // outdated pods that serve
	has, leftOvers := onNodes(w, pods)
	first.Remove = leftOvers
	blocked := o.Blocked(w, pods) != ""
	down := 0 // nodes without a pod that serves, until the first wave is over
	var fill, anew []int
	for slot, i := range has {
		switch {
		case i < 0 && !blocked:
			fill = append(fill, slot)
			down++
		case i < 0 || pods[i].Fixed:
		case pods[i].Current && !pods[i].Available:
			first.Mend = append(first.Mend, i)
			down++
		case pods[i].Current:
		case blocked && !pods[i].Leaving:
		case o.Remake || !pods[i].Available:
			first.Remove = append(first.Remove, i)
			anew = append(anew, slot)
			down++
		default:
			serving = append(serving, i)
		}
	}
	first.Create, first.Free = slices.Concat(fill, anew), len(fill)
	if o.Remake {
		first.Free = 0
	}
	slices.Sort(first.Remove)
	if o.Surge > 0 {
		return Finish(o.surging(first, serving, pods))
	}
	return Finish(o.waves(first, serving, pods, down))
}

// waves replaces the old pod of Unavailable nodes at a time.
func (o PerNode) waves(first Wave, serving []int, pods []Pod, down int) []Wave {
	waves := []Wave{first}
	if n := min(o.Unavailable-down, len(serving)); n > 0 { // beside those that do not serve anyway
		o.swap(&waves[0], serving[:n], pods)
		serving = serving[n:]
	}
	for batch := range slices.Chunk(serving, max(1, o.Unavailable)) {
		var w Wave
		o.swap(&w, batch, pods)
		waves = append(waves, w)
	}
	return waves
}

func (o PerNode) swap(w *Wave, batch []int, pods []Pod) {
	for _, i := range batch {
		w.Remove = append(w.Remove, i)
		w.Create = append(w.Create, pods[i].Slot)
	}
}

// surging makes the new pod of Surge nodes at a time and takes the old ones away when these are ready.
func (o PerNode) surging(first Wave, serving []int, pods []Pod) []Wave {
	waves := []Wave{first}
	var old []int
	for batch := range slices.Chunk(serving, o.Surge) {
		w := Wave{Remove: old}
		for _, i := range batch {
			w.Create = append(w.Create, pods[i].Slot)
		}
		waves, old = append(waves, w), batch
	}
	return append(waves, Wave{Remove: old})
}

// onNodes returns the pod that counts on each node, -1 for none, and the pods that go: those of nodes that want none, and all
// but one where there are several. A new pod beside an old one, as a surge leaves it when it is cut short, counts; the old
// one goes when the new one serves.
func onNodes(w *Want, pods []Pod) (has, leftOvers []int) {
	has = make([]int, w.Replicas)
	for s := range has {
		has[s] = -1
	}
	drop := func(i int) {
		if !pods[i].Fixed {
			leftOvers = append(leftOvers, i)
		}
	}
	for i, p := range pods {
		if p.Slot < 0 {
			drop(i)
			continue
		}
		other := has[p.Slot]
		if other >= 0 && countsBefore(pods[other], p) {
			drop(i)
			continue
		}
		if other >= 0 {
			drop(other)
		}
		has[p.Slot] = i
	}
	return has, leftOvers
}

func countsBefore(a, b Pod) bool {
	switch {
	case a.Available != b.Available:
		return a.Available
	case a.Current != b.Current:
		return a.Current
	case a.Known != b.Known:
		return a.Known
	}
	return !b.Created.Before(a.Created)
}
