package rollout

import (
	"cmp"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Ending is what the order in which pods go looks at, beside what a controller knows anyway (semantics.md 3.2).
type Ending struct {
	Missing      bool            // it is on no host at all
	Phase        corev1.PodPhase // Pending, Unknown or Running
	DeletionCost int             // of the annotation controller.kubernetes.io/pod-deletion-cost
	ReadySince   time.Time       // since when it has been ready without a break; zero when that is not known
	// Restarts and SidecarRestarts are those of the container that was restarted most often.
	Restarts, SidecarRestarts int
	// Seen is the latest moment that the hosts told of: ages are counted to it, since a plan has no clock.
	Seen time.Time
}

// victims returns the indices of pods, the one that should go first in front: on no host, not running, not serving, cheap to
// delete, from the fullest node, ready for the shortest time, restarted most often, youngest. As upstream, times are compared by
// the integer part of their binary logarithm, and of two in one class the smaller UID goes first. How full a node is is counted
// anew for each pod that goes.
func victims(pods []Pod) []int {
	before := func(a, b int) int { return cmp.Or(compareLife(pods[a], pods[b]), compareTimes(pods[a], pods[b])) }
	order := make([]int, len(pods))
	left := map[string]int{}
	for i, p := range pods {
		order[i] = i
		left[p.Node]++
	}
	slices.SortStableFunc(order, before)
	crowd := make([]int, len(pods)) // pods on its node when its turn comes
	for _, i := range order {
		crowd[i] = left[pods[i].Node]
		left[pods[i].Node]--
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(compareLife(pods[a], pods[b]), cmp.Compare(crowd[b], crowd[a]), compareTimes(pods[a], pods[b]))
	})
	return order
}

// compareLife applies the rules 1 to 4.
func compareLife(p, q Pod) int {
	return cmp.Or(
		compareBool(!p.Missing, !q.Missing), cmp.Compare(phaseRank[p.Phase], phaseRank[q.Phase]),
		compareBool(p.Available, q.Available), cmp.Compare(p.DeletionCost, q.DeletionCost))
}

// phaseRank orders phases; one that was not told counts as running.
var phaseRank = map[corev1.PodPhase]int{corev1.PodPending: -2, corev1.PodUnknown: -1}

// compareTimes applies the rules 6 to 8.
func compareTimes(p, q Pod) int {
	ready := 0
	if p.Available && q.Available {
		ready = compareAge(p.ReadySince, q.ReadySince, p, q)
	}
	return cmp.Or(ready, cmp.Compare(q.Restarts, p.Restarts), cmp.Compare(q.SidecarRestarts, p.SidecarRestarts),
		compareAge(p.Created, q.Created, p, q), cmp.Compare(p.UID, q.UID))
}

// compareAge has the younger one of two times go first, and one that is not known before those that are.
func compareAge(a, b time.Time, p, q Pod) int {
	switch {
	case a.Equal(b):
		return 0
	case a.IsZero() || b.IsZero():
		return compareBool(!a.IsZero(), !b.IsZero())
	}
	seen := p.Seen
	if q.Seen.After(seen) {
		seen = q.Seen
	}
	return cmp.Or(cmp.Compare(logAge(seen.Sub(a)), logAge(seen.Sub(b))), cmp.Compare(p.UID, q.UID))
}

// logAge is the integer part of an age's binary logarithm, in nanoseconds.
func logAge(age time.Duration) int {
	if age <= 0 {
		return -1
	}
	return int(math.Log2(float64(age)))
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
