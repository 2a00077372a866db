package life

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

// Reasons of container states (semantics.md 1.5).
const (
	ReasonContainerCreating = "ContainerCreating"
	ReasonPodInitializing   = "PodInitializing"
	ReasonCrashLoopBackOff  = "CrashLoopBackOff"
	ReasonPostStartHook     = "PostStartHookError"
	ReasonUnknownStatus     = "ContainerStatusUnknown"
	ReasonDeadlineExceeded  = "DeadlineExceeded"

	deadlineMessage = "Pod was active on the node longer than the specified deadline"
	unknownMessage  = "The container could not be located when the pod was terminated"
)

// Status is the pod's status in Kubernetes' words (semantics.md 1.4, 1.5, 1.15): phase, conditions, container states, class of service, start
// time and addresses. Where the host is and which addresses it has is the caller's to add.
//
// Of a container whose probes nobody has run, nothing says that it is ready but the record of the last apply: see [Seen.Recorded].
func Status(pod *corev1.Pod, seen Seen, now time.Time) corev1.PodStatus {
	st := corev1.PodStatus{QOSClass: QOSClass(&pod.Spec)}
	if !seen.StartTime.IsZero() {
		st.StartTime = &metav1.Time{Time: seen.StartTime}
	}
	if s := seen.Sandbox; s != nil && s.IP != "" {
		st.PodIP, st.PodIPs = s.IP, []corev1.PodIP{{IP: s.IP}}
		if s.SecondIP != "" {
			st.PodIPs = append(st.PodIPs, corev1.PodIP{IP: s.SecondIP})
		}
	}
	for i := range pod.Spec.InitContainers {
		st.InitContainerStatuses = append(st.InitContainerStatuses, containerStatus(pod, &pod.Spec.InitContainers[i], &seen, now))
	}
	for i := range pod.Spec.Containers {
		st.ContainerStatuses = append(st.ContainerStatuses, containerStatus(pod, &pod.Spec.Containers[i], &seen, now))
	}
	st.Phase = phase(pod, &st, &seen)
	if overdue(pod, &seen, now) && !running(&st) && !endedBefore(&st, deadline(pod, &seen)) {
		st.Phase, st.Reason, st.Message = corev1.PodFailed, ReasonDeadlineExceeded, deadlineMessage
	}
	st.Conditions = conditions(pod, &st, &seen)
	return st
}

// deadline is when the pod has been active for as long as it may; zero for never.
func deadline(pod *corev1.Pod, seen *Seen) time.Time {
	if pod.Spec.ActiveDeadlineSeconds == nil || seen.StartTime.IsZero() {
		return time.Time{}
	}
	return seen.StartTime.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second)
}

func overdue(pod *corev1.Pod, seen *Seen, now time.Time) bool {
	d := deadline(pod, seen)
	return !d.IsZero() && !now.Before(d)
}

// running reports whether any container runs.
func running(st *corev1.PodStatus) bool {
	for _, list := range [][]corev1.ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses} {
		for i := range list {
			if list[i].State.Running != nil {
				return true
			}
		}
	}
	return false
}

// endedBefore reports whether the pod had come to its end by itself at a moment: its phase then stays.
func endedBefore(st *corev1.PodStatus, at time.Time) bool {
	if st.Phase != corev1.PodSucceeded && st.Phase != corev1.PodFailed {
		return false
	}
	for i := range st.ContainerStatuses {
		if t := st.ContainerStatuses[i].State.Terminated; t != nil && t.FinishedAt.After(at) {
			return false
		}
	}
	return true
}

func containerStatus(pod *corev1.Pod, spec *corev1.Container, seen *Seen, now time.Time) corev1.ContainerStatus {
	c := seen.Container(spec.Name)
	st := corev1.ContainerStatus{Name: spec.Name, Image: spec.Image, Started: new(false)}
	if c == nil || c.ID == "" {
		st.State.Waiting = waiting(pod, c)
		return st
	}
	st.Image, st.ImageID, st.ContainerID = c.Image, c.ImageID, containerID(c.ID)
	st.RestartCount = int32(c.Attempt)
	if c.Last != nil {
		st.LastTerminationState.Terminated = terminated(*c.Last)
	}
	switch c.State {
	case api.ContainerRunning:
		st.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(c.StartedAt)}
		if c.PostStart.State == HookFailed {
			st.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: ReasonPostStartHook}}
		}
		st.Started, st.Ready = new(started(spec, c)), ready(spec, c) && !endsByItself(pod, spec)
	case api.ContainerExited:
		ended(pod, spec, c, seen, now, &st)
	case api.ContainerUnknown:
		st.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: ReasonUnknownStatus, Message: unknownMessage, ContainerID: st.ContainerID}
	default:
		st.State.Waiting = waiting(pod, c)
	}
	return st
}

// ended fills in the state of a container that has ended: while its restart is delayed it waits, and its end is its last state.
func ended(pod *corev1.Pod, spec *corev1.Container, c *Container, seen *Seen, now time.Time, st *corev1.ContainerStatus) {
	t := terminated(termination(&c.ObservedContainer))
	pause := BackoffOf(c, ContainerHash(spec), seen.Asked)
	switch {
	case !mayRestart(pod, spec, c, seen, now):
		st.State.Terminated = t
		st.Ready = endsByItself(pod, spec) && !failed(c)
	case c.Trouble != nil:
		st.State.Waiting, st.LastTerminationState.Terminated = waiting(pod, c), t
	case now.Before(pause.Until):
		st.State.Waiting = &corev1.ContainerStateWaiting{Reason: ReasonCrashLoopBackOff, Message: BackoffMessage(pod, spec.Name, pause.Pause)}
		st.LastTerminationState.Terminated = t
	default:
		st.State.Terminated = t
	}
}

// endsByItself reports whether a container is an init container that is no sidecar: it is ready when it has ended well.
func endsByItself(pod *corev1.Pod, c *corev1.Container) bool {
	return isInit(pod, c.Name) && !IsSidecar(c)
}

// mayRestart reports whether a container that has ended will run again, if somebody looks after it.
func mayRestart(pod *corev1.Pod, spec *corev1.Container, c *Container, seen *Seen, now time.Time) bool {
	return seen.Deletion == nil && !overdue(pod, seen, now) && Restarts(pod, spec, c.ExitCode)
}

// BackoffMessage is what Kubernetes says of a container whose restart is delayed.
func BackoffMessage(pod *corev1.Pod, container string, pause time.Duration) string {
	return fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)", pause, container, pod.Name, pod.Namespace, pod.UID)
}

// waiting is the state of a container that does not run yet.
func waiting(pod *corev1.Pod, c *Container) *corev1.ContainerStateWaiting {
	if c != nil && c.Trouble != nil {
		return &corev1.ContainerStateWaiting{Reason: c.Trouble.Reason, Message: c.Trouble.Message}
	}
	if len(pod.Spec.InitContainers) > 0 {
		return &corev1.ContainerStateWaiting{Reason: ReasonPodInitializing}
	}
	return &corev1.ContainerStateWaiting{Reason: ReasonContainerCreating}
}

func termination(c *api.ObservedContainer) api.ObservedTermination {
	return api.ObservedTermination{
		ID: c.ID, Attempt: c.Attempt, ExitCode: c.ExitCode, Signal: c.Signal, Reason: c.Reason, Message: c.Message,
		StartedAt: c.StartedAt, FinishedAt: c.FinishedAt, LogPath: c.LogPath,
	}
}

func terminated(t api.ObservedTermination) *corev1.ContainerStateTerminated {
	out := &corev1.ContainerStateTerminated{
		ExitCode: t.ExitCode, Signal: t.Signal, Reason: t.Reason, Message: t.Message,
		StartedAt: metav1.NewTime(t.StartedAt), FinishedAt: metav1.NewTime(t.FinishedAt), ContainerID: containerID(t.ID),
	}
	if out.Reason == "" {
		out.Reason = map[bool]string{true: "Completed", false: "Error"}[t.ExitCode == 0]
	}
	return out
}

func containerID(id string) string {
	if id == "" {
		return ""
	}
	return "containerd://" + id
}
