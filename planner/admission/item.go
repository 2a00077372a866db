package admission

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"berth.dev/berth/api"
)

// ItemOf is what an object other than a pod counts as in quotas.
func ItemOf(o *api.Object) Item {
	kind := o.Kind()
	group, _, grouped := strings.Cut(kind.APIVersion, "/")
	if !grouped {
		group = ""
	}
	switch v := o.Value.(type) {
	case *api.Volume:
		return ObjectItem("persistentvolumeclaims", "", o.Name(), corev1.ResourceList{corev1.ResourceRequestsStorage: v.Spec.Capacity})
	case *corev1.Service:
		return ObjectItem(kind.Plural, group, o.Name(), servicePorts(v))
	}
	return ObjectItem(kind.Plural, group, o.Name(), nil)
}

// servicePorts counts a service's ports on nodes.
func servicePorts(s *corev1.Service) corev1.ResourceList {
	if s.Spec.Type != corev1.ServiceTypeNodePort && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	out := corev1.ResourceList{corev1.ResourceServicesNodePorts: *resource.NewQuantity(int64(len(s.Spec.Ports)), resource.DecimalSI)}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		out[corev1.ResourceServicesLoadBalancers] = *resource.NewQuantity(1, resource.DecimalSI)
	}
	return out
}
