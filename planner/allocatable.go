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

// others are what the host has to give beside processors and memory: room on its disk, and the extended resources of the inventory.
func (h *host) others() map[corev1.ResourceName]int64 {
	out := map[corev1.ResourceName]int64{}
	if disk := h.facts.DiskBytes; disk > 0 {
		q := h.node.Reserved[corev1.ResourceEphemeralStorage]
		out[corev1.ResourceEphemeralStorage] = max(0, disk-q.Value())
	}
	for _, r := range h.node.Resources {
		if len(r.Devices) == 0 || h.facts.CDI {
			out[corev1.ResourceName(r.Name)] = r.Count
		}
	}
	return out
}

// checkDevices says of a host whose devices cannot be given to containers why that is so: its pods would find none of them left.
func (d *draft) checkDevices(h *host) {
	for _, r := range h.node.Resources {
		if len(r.Devices) > 0 && !h.facts.CDI && h.reach == up && !h.leaves {
			d.warnOn(h, "Devices cannot be given to containers", "%s of node %s is a list of devices, and containerd %s there does not give containers devices by their names. "+
				"That takes containerd 2, or 1.7 with enable_cdi = true in its CRI plugin's section. Until then no pod that asks for %s goes there.", r.Name, h.name, h.facts.Containerd, r.Name)
		}
	}
}

// devicesFor are the node's devices of the resources that a pod asks for; nil when it asks for none.
func (h *host) devicesFor(spec *corev1.PodSpec) map[string][]string {
	var out map[string][]string
	for _, r := range h.node.Resources {
		asks := func(c corev1.Container) bool {
			q := c.Resources.Limits[corev1.ResourceName(r.Name)]
			return !q.IsZero()
		}
		if len(r.Devices) == 0 || !slices.ContainsFunc(spec.Containers, asks) && !slices.ContainsFunc(spec.InitContainers, asks) {
			continue
		}
		if out == nil {
			out = map[string][]string{}
		}
		out[r.Name] = r.Devices
	}
	return out
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
