package schedule

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// What scores assume of a container that does not say (semantics.md 2.3).
const (
	assumedMilliCPU = 100
	assumedMemory   = 200 << 20
)

// demand is what a pod takes on its node, summed over its containers: the app containers and sidecars
// together, or the largest init container with the sidecars before it where that is more.
type demand struct {
	cpu, memory           int64 // requested: what filters count
	scoreCPU, scoreMemory int64 // with assumptions for what is not requested: what scores count
	other                 []amount
	ports                 []hostPort
}

type amount struct {
	name   corev1.ResourceName
	amount int64
}

// demandOf computes a specification's demand, once per pointer.
func (s *Scheduler) demandOf(spec *corev1.PodSpec) *demand {
	if d := s.demands[spec]; d != nil {
		return d
	}
	d := newDemand(spec)
	s.demands[spec] = d
	return d
}

func newDemand(spec *corev1.PodSpec) *demand {
	if spec == nil {
		return &demand{scoreCPU: assumedMilliCPU, scoreMemory: assumedMemory}
	}
	pod := &corev1.Pod{Spec: *spec}
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	assumed := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{
		NonMissingContainerRequests: corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewMilliQuantity(assumedMilliCPU, resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(assumedMemory, resource.BinarySI),
		},
	})
	d := &demand{
		cpu: requests.Cpu().MilliValue(), memory: requests.Memory().Value(),
		scoreCPU: assumed.Cpu().MilliValue(), scoreMemory: assumed.Memory().Value(),
		ports: hostPorts(spec),
	}
	for name, q := range requests {
		if name != corev1.ResourceCPU && name != corev1.ResourceMemory && !q.IsZero() {
			d.other = append(d.other, amount{name, q.Value()})
		}
	}
	slices.SortFunc(d.other, func(a, b amount) int { return strings.Compare(string(a.name), string(b.name)) })
	return d
}
