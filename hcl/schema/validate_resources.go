package schema

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
)

// resources checks what a container requests and what it may use at most.
func (c *checker) resources(p string, r *corev1.ResourceRequirements) {
	for _, list := range []struct {
		path      string
		resources corev1.ResourceList
	}{{p + ".limits", r.Limits}, {p + ".requests", r.Requests}} {
		for _, name := range sortedKeys(list.resources) {
			c.amount(element(list.path, string(name)), name, list.resources[name])
		}
	}
	for _, name := range sortedKeys(r.Requests) {
		request := r.Requests[name]
		limit, limited := r.Limits[name]
		at := element(p+".requests", string(name))
		switch {
		case limited && api.IsExtendedResource(name) && request.Cmp(limit) != 0:
			c.invalid(at, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String()))
		case limited && request.Cmp(limit) > 0:
			c.invalid(at, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String()))
		case !limited && api.IsExtendedResource(name):
			c.required(p+".limits", "Limit must be set for non overcommitable resources")
		}
	}
}

func (c *checker) amount(p string, name corev1.ResourceName, q resource.Quantity) {
	if !c.resourceName(p, string(name)) {
		return
	}
	if q.Sign() < 0 {
		c.invalid(p, q.String(), "must be greater than or equal to 0")
	}
	fraction := q.MilliValue()%1000 != 0
	if fraction && api.IsExtendedResource(name) {
		c.invalid(p, q.String(), "must be an integer")
	}
	if fraction && (name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage) {
		c.diags.Warnf(c.o.RangeOf(p), "Fractions of a byte", "%s: %q is less than whole bytes. Write %s as \"64Mi\" or \"500M\".", p, q.String(), name)
	}
}

// resourceName checks what can be asked for.
func (c *checker) resourceName(p, name string) bool {
	switch corev1.ResourceName(name) {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	messages := validation.IsQualifiedName(name)
	switch {
	case len(messages) > 0:
		c.invalid(p, name, messages...)
	case strings.HasPrefix(name, corev1.ResourceHugePagesPrefix):
		c.forbidden(p, "huge pages are not supported")
	case !strings.Contains(name, "/"):
		c.invalid(p, name, "must be a standard resource for containers")
	case !api.IsExtendedResource(corev1.ResourceName(name)):
		c.invalid(p, name, "doesn't follow extended resource name standard")
	default:
		return true
	}
	return false
}

// overhead checks what a pod takes beside its containers: it belongs to a runtime of its own.
func (c *checker) overhead(path string, s *corev1.PodSpec) {
	if s.RuntimeClassName != nil {
		c.invalid(path+".runtimeClassName", *s.RuntimeClassName, validation.IsDNS1123Subdomain(*s.RuntimeClassName)...)
	}
	if len(s.Overhead) > 0 && s.RuntimeClassName == nil {
		c.forbidden(path+".overhead", "Pod Overhead set without corresponding RuntimeClass defined Overhead; set runtime_class_name")
	}
	for _, name := range sortedKeys(s.Overhead) {
		c.amount(element(path+".overhead", string(name)), name, s.Overhead[name])
	}
}
