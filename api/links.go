package api

import corev1 "k8s.io/api/core/v1"

// WantsServiceLinks reports whether a pod is told of the services of its namespace in variables (semantics.md 1.11).
func WantsServiceLinks(spec *corev1.PodSpec) bool {
	return spec.EnableServiceLinks == nil || *spec.EnableServiceLinks
}
