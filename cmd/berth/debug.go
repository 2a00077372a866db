package main

import (
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// addEphemeral shows the containers that `debug` has put into a pod.
func addEphemeral(pod *corev1.Pod, seen *api.ObservedPod) {
	for _, e := range seen.Ephemeral {
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, e.Spec)
		pod.Status.EphemeralContainerStatuses = append(pod.Status.EphemeralContainerStatuses, containerStatus(e.ObservedContainer, false))
	}
}
