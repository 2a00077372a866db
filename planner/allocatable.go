package planner

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// readsLimits reports whether a container or a file of the pod is told an amount that may be the node's.
func readsLimits(spec *corev1.PodSpec) bool {
	reads := func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.ValueFrom != nil && e.ValueFrom.ResourceFieldRef != nil })
	}
	tells := func(f corev1.DownwardAPIVolumeFile) bool { return f.ResourceFieldRef != nil }
	return slices.ContainsFunc(spec.InitContainers, reads) || slices.ContainsFunc(spec.Containers, reads) ||
		slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool {
			return v.DownwardAPI != nil && slices.ContainsFunc(v.DownwardAPI.Items, tells) ||
				v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
					return s.DownwardAPI != nil && slices.ContainsFunc(s.DownwardAPI.Items, tells)
				})
		})
}

// allocatableList is what the host can give to pods as Kubernetes' node status has it.
func (h *host) allocatableList() corev1.ResourceList {
	r := allocatable(h)
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(r.MilliCPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(r.Memory, resource.BinarySI),
	}
	for name, n := range r.Other {
		list[name] = *resource.NewQuantity(n, resource.BinarySI)
	}
	return list
}
