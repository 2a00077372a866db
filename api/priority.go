package api

import (
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
)

// SystemPriorities are the classes that exist without being declared, for what a cluster cannot do without.
var SystemPriorities = map[string]int32{
	"system-cluster-critical": 2_000_000_000,
	"system-node-critical":    2_000_001_000,
}

// PriorityOf returns the priority of pods and whether they may take the room of others, by the classes of a configuration: that of
// the class that they name, else of the one marked as default, else 0.
func PriorityOf(spec *corev1.PodSpec, classes []*schedulingv1.PriorityClass) (value int32, policy corev1.PreemptionPolicy, class string) {
	policy = corev1.PreemptLowerPriority
	if v, ok := SystemPriorities[spec.PriorityClassName]; ok {
		return v, policy, spec.PriorityClassName
	}
	for _, c := range classes {
		if c.Name != spec.PriorityClassName && (spec.PriorityClassName != "" || !c.GlobalDefault) {
			continue
		}
		if c.PreemptionPolicy != nil {
			policy = *c.PreemptionPolicy
		}
		return c.Value, policy, c.Name
	}
	return 0, policy, spec.PriorityClassName
}
