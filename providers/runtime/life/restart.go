package life

import (
	"crypto/sha256"
	"encoding/hex"

	corev1 "k8s.io/api/core/v1"
)

// Restarts reports whether a container that ended is to run again (semantics.md 1.7): sidecars always, init containers when they
// failed and the pod's policy is not Never, others by the pod's policy.
func Restarts(pod *corev1.Pod, c *corev1.Container, exitCode int32) bool {
	switch {
	case IsSidecar(c):
		return true
	case pod.Spec.RestartPolicy == corev1.RestartPolicyNever:
		return false
	case pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure || isInit(pod, c.Name):
		return exitCode != 0
	}
	return true
}

func isInit(pod *corev1.Pod, name string) bool {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return true
		}
	}
	return false
}

// ContainerHash covers what makes a running container out of date: its name and image.
func ContainerHash(c *corev1.Container) string {
	sum := sha256.Sum256([]byte(c.Name + "\x00" + c.Image))
	return hex.EncodeToString(sum[:4])
}
