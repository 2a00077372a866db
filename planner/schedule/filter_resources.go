package schedule

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// filterResources refuses nodes that have no room for one more pod or less left of a resource than the pod
// requests. It gives all reasons at once. What is not requested is not looked at: a pod without requests
// fits on a node that is overcommitted.
func filterResources() filter {
	return filter{
		name:    "NodeResourcesFit",
		reach:   local,
		compile: func(r *request) check { return func(n *node) []Reason { return resourceReasons(r.demand, n) } },
		only:    func(*request) string { return "with room for it" },
	}
}

func resourceReasons(d *demand, n *node) []Reason {
	var reasons []Reason
	if n.pods+1 > n.Allocatable.Pods {
		reasons = append(reasons, Reason{"Too many pods", fmt.Sprintf("%d of %d", n.pods, n.Allocatable.Pods)})
	}
	if d.cpu > 0 && d.cpu > n.Allocatable.MilliCPU-n.cpu {
		reasons = append(reasons, insufficient(corev1.ResourceCPU, d.cpu, n.cpu, n.Allocatable.MilliCPU))
	}
	if d.memory > 0 && d.memory > n.Allocatable.Memory-n.memory {
		reasons = append(reasons, insufficient(corev1.ResourceMemory, d.memory, n.memory, n.Allocatable.Memory))
	}
	for _, a := range d.other {
		if all := n.Allocatable.Other[a.name]; a.amount > all-n.other[a.name] {
			reasons = append(reasons, insufficient(a.name, a.amount, n.other[a.name], all))
		}
	}
	return reasons
}

func insufficient(name corev1.ResourceName, want, taken, all int64) Reason {
	show := func(v int64) string { return resource.NewQuantity(v, resource.DecimalSI).String() }
	switch name {
	case corev1.ResourceCPU:
		show = func(v int64) string { return resource.NewMilliQuantity(v, resource.DecimalSI).String() }
	case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		show = func(v int64) string { return resource.NewQuantity(v, resource.BinarySI).String() }
	}
	return Reason{
		Text:   "Insufficient " + string(name),
		Detail: fmt.Sprintf("requested %s, %s of %s left", show(want), show(max(0, all-taken)), show(all)),
	}
}
