package runtime

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers/runtime/life"
)

const (
	minShares, maxShares = 2, 262144
	cpuPeriod            = 100000 // µs
	minQuota             = 1000   // µs
)

// linuxResources turns requests and limits into what the kernel enforces (semantics.md 1.12). A memory limit is also the
// limit of memory and swap together: containerd sees to that where the host accounts for swap.
func linuxResources(pod *corev1.Pod, c *corev1.Container, f *facts) *runtimev1.LinuxContainerResources {
	r := &runtimev1.LinuxContainerResources{
		CpuShares:          cpuShares(c),
		CpuPeriod:          cpuPeriod,
		CpuQuota:           cpuQuota(c.Resources.Limits.Cpu()),
		MemoryLimitInBytes: c.Resources.Limits.Memory().Value(),
		OomScoreAdj:        oomScore(pod, c, f.memory),
	}
	if f.cgroup2 {
		r.Unified = map[string]string{"memory.oom.group": "1"}
	}
	return r
}

func cpuShares(c *corev1.Container) int64 {
	milli := c.Resources.Requests.Cpu().MilliValue()
	if _, set := c.Resources.Requests[corev1.ResourceCPU]; !set {
		milli = c.Resources.Limits.Cpu().MilliValue()
	}
	return sharesOf(milli)
}

func cpuQuota(limit *resource.Quantity) int64 {
	if limit.IsZero() {
		return 0
	}
	return max(limit.MilliValue()*cpuPeriod/1000, minQuota)
}

// oomScore says whom the kernel kills first when memory runs out.
func oomScore(pod *corev1.Pod, c *corev1.Container, nodeMemory int64) int64 {
	class := life.QOSClass(&pod.Spec)
	switch {
	case pod.Spec.PriorityClassName == "system-node-critical", class == corev1.PodQOSGuaranteed:
		return -997
	case class == corev1.PodQOSBestEffort:
		return 1000
	}
	request := memoryRequest(c)
	if isSidecar(c) { // not killed before the containers that it serves
		smallest := int64(-1)
		for i := range pod.Spec.Containers {
			if r := memoryRequest(&pod.Spec.Containers[i]); smallest < 0 || r < smallest {
				smallest = r
			}
		}
		request = max(request, smallest)
	}
	return burstableScore(request, nodeMemory)
}

func burstableScore(request, nodeMemory int64) int64 {
	if nodeMemory <= 0 {
		return 999
	}
	score := 1000 - 1000*request/nodeMemory
	return min(max(score, 3), 999)
}

func memoryRequest(c *corev1.Container) int64 {
	if q, ok := c.Resources.Requests[corev1.ResourceMemory]; ok {
		return q.Value()
	}
	return c.Resources.Limits.Memory().Value()
}
