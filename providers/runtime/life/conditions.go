package life

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of conditions (semantics.md 1.15).
const (
	containersNotInitialized = "ContainersNotInitialized"
	containersNotReady       = "ContainersNotReady"
	podCompleted             = "PodCompleted"
	podFailed                = "PodFailed"
)

// conditions are the pod's, in the order in which the kubelet lists them. A condition's time is the newest of the events that
// made it so, as far as they were seen.
func conditions(pod *corev1.Pod, st *corev1.PodStatus, seen *Seen) []corev1.PodCondition {
	sandbox := seen.Sandbox != nil && seen.Sandbox.Ready && (pod.Spec.HostNetwork || seen.Sandbox.IP != "")
	made := time.Time{}
	if seen.Sandbox != nil {
		made = seen.Sandbox.CreatedAt
	}
	allReady := containersReady(pod, st, seen)
	podReady := allReady
	podReady.Type = corev1.PodReady
	return []corev1.PodCondition{
		condition(corev1.PodReadyToStartContainers, sandbox, "", "", made),
		initializedCondition(pod, st, seen),
		podReady,
		allReady,
		condition(corev1.PodScheduled, true, "", "", seen.StartTime),
	}
}

func condition(t corev1.PodConditionType, yes bool, reason, message string, at time.Time) corev1.PodCondition {
	c := corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(at)}
	if !yes {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, reason, message
	}
	return c
}

// initializedCondition: every init container has ended well and every sidecar has started, or an app container was ever made.
func initializedCondition(pod *corev1.Pod, st *corev1.PodStatus, seen *Seen) corev1.PodCondition {
	at := seen.StartTime
	var incomplete []string
	for i := range st.InitContainerStatuses {
		c := &st.InitContainerStatuses[i]
		done := c.Ready
		if IsSidecar(&pod.Spec.InitContainers[i]) {
			done = c.Started != nil && *c.Started
		}
		if !done {
			incomplete = append(incomplete, c.Name)
		}
		at = later(at, changed(c))
	}
	if st.Phase == corev1.PodSucceeded {
		c := condition(corev1.PodInitialized, true, "", "", at)
		c.Reason = podCompleted
		return c
	}
	ok := len(incomplete) == 0 || hasInitialized(st)
	return condition(corev1.PodInitialized, ok, containersNotInitialized, "containers with incomplete status: ["+strings.Join(incomplete, " ")+"]", at)
}

// containersReady: every app container and every sidecar is ready.
func containersReady(pod *corev1.Pod, st *corev1.PodStatus, seen *Seen) corev1.PodCondition {
	at := seen.StartTime
	var unready []string
	look := func(c *corev1.ContainerStatus) {
		if !c.Ready {
			unready = append(unready, c.Name)
		}
		at = later(at, changed(c))
		if s := seen.Container(c.Name); s != nil {
			at = later(at, s.Readiness.Since)
		}
	}
	for i := range st.InitContainerStatuses {
		if IsSidecar(&pod.Spec.InitContainers[i]) {
			look(&st.InitContainerStatuses[i])
		}
	}
	for i := range st.ContainerStatuses {
		look(&st.ContainerStatuses[i])
	}
	switch {
	case st.Phase == corev1.PodSucceeded:
		return condition(corev1.ContainersReady, false, podCompleted, "", at)
	case st.Phase == corev1.PodFailed:
		return condition(corev1.ContainersReady, false, podFailed, "", at)
	}
	return condition(corev1.ContainersReady, len(unready) == 0, containersNotReady, "containers with unready status: ["+strings.Join(unready, " ")+"]", at)
}

// changed is when a container's state last changed, as far as it says.
func changed(c *corev1.ContainerStatus) time.Time {
	switch last := c.LastTerminationState.Terminated; {
	case c.State.Running != nil:
		return c.State.Running.StartedAt.Time
	case c.State.Terminated != nil:
		return c.State.Terminated.FinishedAt.Time
	case last != nil:
		return last.FinishedAt.Time
	}
	return time.Time{}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
