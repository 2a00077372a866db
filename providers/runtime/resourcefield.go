package runtime

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// resourceField is a request or a limit in units of the divisor, rounded up (semantics.md 1.11). A limit that is not set reads as what
// the node can give to pods.
func (b *build) resourceField(c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName != "" {
		all := allContainers(&b.pod.Spec)
		i := slices.IndexFunc(all, func(o *corev1.Container) bool { return o.Name == ref.ContainerName })
		if i < 0 {
			return "", fmt.Errorf("container %s not found", ref.ContainerName)
		}
		c = all[i]
	}
	if c == nil {
		return "", fmt.Errorf("resourceFieldRef %s: containerName is missing", ref.Resource)
	}
	list, rest, _ := strings.Cut(ref.Resource, ".")
	name := corev1.ResourceName(rest)
	limit := c.Resources.Limits[name]
	var q resource.Quantity
	switch list {
	case "requests":
		var set bool
		if q, set = c.Resources.Requests[name]; !set {
			q = limit
		}
	case "limits":
		if q = limit; q.IsZero() {
			q = b.allocatable(name)
		}
	default:
		return "", fmt.Errorf("resourceFieldRef %q: want requests.* or limits.*", ref.Resource)
	}
	return strconv.FormatInt(inUnits(name, q, ref.Divisor), 10), nil
}

// inUnits divides and rounds up. Processors are counted in thousandths, everything else in wholes.
func inUnits(name corev1.ResourceName, q, divisor resource.Quantity) int64 {
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	n, unit := q.Value(), divisor.Value()
	if name == corev1.ResourceCPU {
		n, unit = q.MilliValue(), divisor.MilliValue()
	}
	whole := n / unit
	if n%unit > 0 {
		whole++
	}
	return whole
}

// allocatable is what the node can give to pods: as the plan counted it, else all that it has.
func (b *build) allocatable(name corev1.ResourceName) resource.Quantity {
	if q, ok := b.work.Step.Pod.Allocatable[name]; ok {
		return q
	}
	switch name {
	case corev1.ResourceCPU:
		return *resource.NewQuantity(b.facts.cpus, resource.DecimalSI)
	case corev1.ResourceMemory:
		return *resource.NewQuantity(b.facts.memory, resource.BinarySI)
	}
	return resource.Quantity{}
}
