package rollout

import (
	"cmp"
	"slices"
)

// victims returns the indices of pods, the one that should go first in front (semantics.md 3.2): not serving,
// cheap to delete, from the fullest node, restarted most often, youngest. Ages are not compared on a logarithmic scale as upstream,
// since a plan has no clock.
func victims(pods []Pod) []int {
	byAge := func(a, b int) int {
		p, q := pods[a], pods[b]
		return cmp.Or(
			compareBool(p.Available, q.Available), cmp.Compare(p.DeletionCost, q.DeletionCost), youngest(p, q))
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
			cmp.Compare(crowd[b], crowd[a]), youngest(p, q))
	})
	return order
}

func youngest(p, q Pod) int {
	return cmp.Or(cmp.Compare(q.Restarts, p.Restarts), q.Created.Compare(p.Created), cmp.Compare(p.UID, q.UID))
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
