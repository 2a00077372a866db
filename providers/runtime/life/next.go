package life

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// Do is something to be done to a pod on its host.
type Do string

// What can be done. Every action is asked for again as long as what was seen and noted calls for it.
const (
	MakeSandbox   Do = "make sandbox"   // with Attempt; what is left of earlier ones goes first
	RemoveSandbox Do = "remove sandbox" // ID, a superfluous one, with its containers
	StopSandbox   Do = "stop sandbox"   // nothing is left to run in it
	RemovePod     Do = "remove pod"     // everything of it; no container runs any more
	StartOne      Do = "start"          // a container: Attempt and Backoff for a new attempt, or ID of one that was made
	PostStart     Do = "postStart"      // run the hook; for as long as it takes
	PreStop       Do = "preStop"        // run the hook, at most for Grace
	StopOne       Do = "stop"           // a container: its stop signal, and SIGKILL after Grace
	RunProbe      Do = "probe"          // Probe, at most for Grace
)

// Action is one thing to do now. Those of different containers may be done at the same time, but starts one after the other, in
// the order given.
type Action struct {
	Do        Do
	Container string // its name; "" for the pod
	ID        string
	Attempt   uint32
	// Backoff is to be noted on the new attempt: the pause that follows its end.
	Backoff time.Duration
	// Clear is a container in an unknown state that must be removed before.
	Clear string
	Grace time.Duration
	Probe ProbeKind
	// Reason and Message say why a container is stopped, as an event.
	Reason, Message string
}

// Wait is what a container that is not as it should be waits for.
type Wait struct {
	Container string
	Reason    string // "CrashLoopBackOff", "PodInitializing", "" for none of Kubernetes' words
	Message   string
}

// Decision is what to do about a pod.
type Decision struct {
	Actions []Action
	// Again is when something will be due though nothing changes; zero for never.
	Again time.Time
	Waits []Wait
	// Over is the phase in which the pod has come to its end: Succeeded or Failed, "" while it lives. Its last containers may
	// still be stopping.
	Over corev1.PodPhase
	// Reason and Message say why, as "DeadlineExceeded".
	Reason, Message string
	// Gone means that a pod which is to go has nothing left that runs.
	Gone bool
}

// Next decides what should happen to a pod now (semantics.md 1.2, 1.6 to 1.9).
func Next(pod *corev1.Pod, seen Seen, now time.Time) Decision {
	n := &next{pod: pod, seen: &seen, now: now, mayStart: true}
	n.decide()
	return n.out
}

// next is one decision in the making.
type next struct {
	pod  *corev1.Pod
	seen *Seen
	now  time.Time
	out  Decision
	// mayStart is false behind a container whose postStart hook has not finished: containers start one after the other.
	mayStart bool
}

func (n *next) decide() {
	if d := n.seen.Deletion; d != nil {
		if n.out.Gone = n.stopAll(d.At, d.Grace, ""); n.out.Gone {
			n.do(Action{Do: RemovePod})
		}
		return
	}
	for _, id := range n.seen.Superfluous {
		n.do(Action{Do: RemoveSandbox, ID: id})
	}
	if d := deadline(n.pod, n.seen); !d.IsZero() && !(n.finished() && !n.lastEnd().After(d)) {
		if !n.now.Before(d) {
			n.end(corev1.PodFailed, ReasonDeadlineExceeded, deadlineMessage, d)
			return
		}
		n.again(d)
	}
	s := n.seen.Sandbox
	if s == nil || !s.Ready || s.IP == "" && !n.pod.Spec.HostNetwork {
		n.withoutSandbox()
		return
	}
	if end, since := n.ending(); end != "" {
		n.end(end, "", "", since)
		return
	}
	if !n.initContainers() {
		return
	}
	for i := range n.pod.Spec.Containers {
		spec := &n.pod.Spec.Containers[i]
		n.keep(spec, n.seen.made(spec.Name))
	}
}

// ending is the phase in which the pod has come to its end by itself, and since when: its app containers have, or one of its init
// containers has failed for good. "" while it lives.
func (n *next) ending() (corev1.PodPhase, time.Time) {
	for i := range n.pod.Spec.InitContainers {
		spec := &n.pod.Spec.InitContainers[i]
		c := n.seen.made(spec.Name)
		if !IsSidecar(spec) && c != nil && c.State == api.ContainerExited && failed(c) && !Restarts(n.pod, spec, max(c.ExitCode, 1)) {
			return corev1.PodFailed, c.FinishedAt
		}
	}
	if !n.finished() {
		return "", time.Time{}
	}
	return n.outcome(), n.lastEnd()
}

// lastEnd is when the last of the app containers ended.
func (n *next) lastEnd() time.Time {
	last := n.seen.StartTime
	for i := range n.pod.Spec.Containers {
		if c := n.seen.Container(n.pod.Spec.Containers[i].Name); c != nil {
			last = later(last, c.FinishedAt)
		}
	}
	return last
}

func (n *next) do(a Action) { n.out.Actions = append(n.out.Actions, a) }

func (n *next) again(t time.Time) { n.out.Again = earlier(n.out.Again, t) }

func (n *next) wait(container, reason, message string) {
	n.out.Waits = append(n.out.Waits, Wait{container, reason, message})
}

// withoutSandbox has a sandbox made, unless what ran before has brought the pod to its end.
func (n *next) withoutSandbox() {
	if n.finished() {
		n.out.Over = n.outcome()
		return
	}
	a := Action{Do: MakeSandbox}
	if n.seen.Sandbox != nil {
		a.Attempt = n.seen.Sandbox.Attempt + 1
	}
	n.do(a)
}

// finished reports whether the pod has come to its end by itself: nothing of it will run again, and no app container runs.
func (n *next) finished() bool {
	if lost := n.seen.Sandbox != nil && !n.seen.Sandbox.Ready; lost && n.pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
		return slices.ContainsFunc(n.seen.Containers, func(c Container) bool { return c.ID != "" })
	}
	ran := false
	for i := range n.pod.Spec.Containers {
		spec := &n.pod.Spec.Containers[i]
		c := n.seen.Container(spec.Name)
		if c == nil || c.ID == "" || c.State != api.ContainerExited || Restarts(n.pod, spec, c.ExitCode) {
			return false
		}
		ran = true
	}
	return ran
}

// outcome is the phase of a pod that is finished.
func (n *next) outcome() corev1.PodPhase {
	for i := range n.pod.Spec.Containers {
		if c := n.seen.Container(n.pod.Spec.Containers[i].Name); c == nil || c.State != api.ContainerExited || c.ExitCode != 0 {
			return corev1.PodFailed
		}
	}
	return corev1.PodSucceeded
}

// end brings the pod to its end: what runs is stopped, then its sandbox.
func (n *next) end(phase corev1.PodPhase, reason, message string, since time.Time) {
	n.out.Over, n.out.Reason, n.out.Message = phase, reason, message
	if n.stopAll(since, n.grace(nil), message) && n.seen.Sandbox != nil && n.seen.Sandbox.Ready {
		n.do(Action{Do: StopSandbox})
	}
}

// grace is how long a container may take to stop: the pod's time, or that of the probe which failed.
func (n *next) grace(p *corev1.Probe) time.Duration {
	if p != nil && p.TerminationGracePeriodSeconds != nil {
		return time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
	}
	return Grace(n.pod)
}

// initContainers has the init containers run one after the other, and keeps sidecars. It reports whether the others may run.
func (n *next) initContainers() bool {
	list := n.pod.Spec.InitContainers
	frontier := -1 // the last one that was made; those before it have been through
	for i := range list {
		if n.seen.made(list[i].Name) != nil {
			frontier = i
		}
	}
	if initialized(n.pod, n.seen) {
		frontier = len(list)
	}
	for i := range list {
		spec := &list[i]
		c := n.seen.made(spec.Name)
		switch {
		case IsSidecar(spec):
			n.keep(spec, c)
			if i >= frontier && !started(spec, c) {
				return false
			}
		case i < frontier, c != nil && c.State == api.ContainerExited && !failed(c):
		default:
			n.keep(spec, c)
			return false
		}
	}
	return true
}

// failed reports whether an init container did not end well: one that the kernel killed for want of memory counts as failed
// whatever its exit code says.
func failed(c *Container) bool { return c.ExitCode != 0 || c.Reason == "OOMKilled" }
