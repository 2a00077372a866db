package life

import (
	corev1 "k8s.io/api/core/v1"
)

// tally counts the states of containers as the phase needs them (semantics.md 1.4).
type tally struct {
	initPending, initFailed, sidecarPending int
	running, waiting, stopped, succeeded    int
	unknown                                 int
}

// phase computes the pod's phase from its container states: the first row of the table in semantics.md 1.4 that matches.
func phase(pod *corev1.Pod, st *corev1.PodStatus, seen *Seen) corev1.PodPhase {
	n := count(pod, st)
	policy := pod.Spec.RestartPolicy
	if policy == "" {
		policy = corev1.RestartPolicyAlways
	}
	terminal := seen.Deletion != nil && n.running == 0
	over := n.running == 0 && n.stopped > 0 && n.unknown == 0
	rows := []struct {
		matches bool
		phase   corev1.PodPhase
	}{
		{n.initFailed > 0 && policy == corev1.RestartPolicyNever, corev1.PodFailed},
		{n.initPending > 0 || n.sidecarPending > 0 && !hasInitialized(st), corev1.PodPending},
		{n.waiting > 0, corev1.PodPending},
		{n.running > 0 && n.unknown == 0, corev1.PodRunning},
		{over && terminal && n.stopped == n.succeeded, corev1.PodSucceeded},
		{over && terminal, corev1.PodFailed},
		{over && policy == corev1.RestartPolicyAlways, corev1.PodRunning},
		{over && n.stopped == n.succeeded, corev1.PodSucceeded},
		{over && policy == corev1.RestartPolicyNever, corev1.PodFailed},
		{over, corev1.PodRunning},
	}
	for _, r := range rows {
		if r.matches {
			return r.phase
		}
	}
	return corev1.PodPending
}

func count(pod *corev1.Pod, st *corev1.PodStatus) tally {
	var n tally
	for i := range st.InitContainerStatuses {
		c := &st.InitContainerStatuses[i]
		if IsSidecar(&pod.Spec.InitContainers[i]) {
			n.sidecar(c)
		} else {
			n.init(c)
		}
	}
	for i := range st.ContainerStatuses {
		n.app(&st.ContainerStatuses[i])
	}
	return n
}

func (n *tally) init(c *corev1.ContainerStatus) {
	last := c.LastTerminationState.Terminated
	switch s := c.State; {
	case s.Terminated != nil && s.Terminated.ExitCode != 0:
		n.initFailed++
	case s.Terminated != nil:
	case s.Waiting != nil && last != nil:
		if last.ExitCode != 0 {
			n.initFailed++
		}
	default:
		n.initPending++
	}
}

func (n *tally) sidecar(c *corev1.ContainerStatus) {
	switch s := c.State; {
	case s.Running != nil:
		if c.Started == nil || !*c.Started {
			n.sidecarPending++
		}
		n.running++
	case s.Terminated != nil:
	case s.Waiting != nil && c.LastTerminationState.Terminated == nil:
		n.sidecarPending++
		n.waiting++
	}
}

func (n *tally) app(c *corev1.ContainerStatus) {
	switch s := c.State; {
	case s.Running != nil:
		n.running++
	case s.Terminated != nil:
		n.end(s.Terminated)
	case s.Waiting != nil && c.LastTerminationState.Terminated != nil:
		n.stopped++
	case s.Waiting != nil:
		n.waiting++
	default:
		n.unknown++
	}
}

func (n *tally) end(t *corev1.ContainerStateTerminated) {
	n.stopped++
	if t.ExitCode == 0 {
		n.succeeded++
	}
}

// hasInitialized reports whether some app container runs or was made.
func hasInitialized(st *corev1.PodStatus) bool {
	for i := range st.ContainerStatuses {
		if st.ContainerStatuses[i].ContainerID != "" {
			return true
		}
	}
	return false
}
