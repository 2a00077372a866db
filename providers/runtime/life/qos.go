package life

import corev1 "k8s.io/api/core/v1"

// QOSClass is Kubernetes' class of service: by cpu and memory alone, zero counting as unset.
func QOSClass(spec *corev1.PodSpec) corev1.PodQOSClass {
	guaranteed, any := true, false
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				r := &list[i].Resources
				limit, request := r.Limits[name], r.Requests[name]
				if _, set := r.Requests[name]; !set {
					request = limit
				}
				any = any || !limit.IsZero() || !request.IsZero()
				if limit.IsZero() || limit.Cmp(request) != 0 {
					guaranteed = false
				}
			}
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}
