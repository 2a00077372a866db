package schedule

import (
	corev1 "k8s.io/api/core/v1"
)

// filterUnschedulable refuses cordoned nodes, unless the pod tolerates the taint that stands for a cordon. A
// pod with a node name does not ask the scheduler: it goes to a cordoned node too.
func filterUnschedulable() filter {
	return filter{
		name:  "NodeUnschedulable",
		reach: fixed,
		compile: func(r *request) check {
			cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
			if r.nodeName() != "" || tolerates(r.tolerations(), &cordon) {
				return nil
			}
			return func(n *node) []Reason {
				if !n.Unschedulable {
					return nil
				}
				return []Reason{{Text: "node(s) were unschedulable", Detail: "cordoned"}}
			}
		},
		only: func(*request) string { return "that is not cordoned" },
	}
}
