package schedule

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// scoreTaints prefers nodes with few PreferNoSchedule taints that the pod does not tolerate.
func scoreTaints() score {
	return score{
		name:      "TaintToleration",
		weight:    3,
		reach:     fixed,
		compile:   compileTaintScore,
		normalize: fewestFirst,
	}
}

func compileTaintScore(r *request) *rating {
	if !slices.ContainsFunc(r.sched.nodes, func(n *node) bool { return softTaints(n, nil) > 0 }) {
		return nil
	}
	tolerations := r.tolerations()
	return &rating{
		rate: func(n *node) int64 { return softTaints(n, tolerations) },
		why: func(_, _ *node, n int) string {
			return fmt.Sprintf("fewest PreferNoSchedule taints of %d", n)
		},
	}
}

func softTaints(n *node, tolerations []corev1.Toleration) int64 {
	var count int64
	for i := range n.Taints {
		t := &n.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(tolerations, t) {
			count++
		}
	}
	return count
}

// fewestFirst turns counts into 100 for none and 0 for the most.
func fewestFirst(raw []int64) {
	most := int64(0)
	for _, v := range raw {
		most = max(most, v)
	}
	for i, v := range raw {
		if most == 0 {
			raw[i] = 100
			continue
		}
		raw[i] = 100 - 100*v/most
	}
}
