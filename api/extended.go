package api

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// IsExtendedResource reports whether a resource is one of a node's own, such as "nvidia.com/gpu": whole, and never given out twice.
func IsExtendedResource(name corev1.ResourceName) bool {
	return len(CheckExtendedResource(string(name))) == 0
}

// CheckExtendedResource says why a name cannot be that of an extended resource, in Kubernetes' words; nil when it can.
func CheckExtendedResource(name string) []string {
	domain, _, ok := strings.Cut(name, "/")
	if !ok {
		return []string{"it must have a domain, as in vendor.com/gpu"}
	}
	if domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") || strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) {
		return []string{"doesn't follow extended resource name standard"}
	}
	return validation.IsQualifiedName(name)
}
