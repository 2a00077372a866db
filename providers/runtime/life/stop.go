package life

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// Times of termination (semantics.md 1.8).
const (
	DefaultGrace = 30 * time.Second
	LeastGrace   = 2 * time.Second // even when nothing is left of the grace period, or it was zero
)

// Grace is how long the pod's containers may take to stop: what the deletion says, or the specification.
func Grace(pod *corev1.Pod) time.Duration {
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		return time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
	}
	return DefaultGrace
}

// Again is how a pod ends whose end had begun before: a later wish may only shorten its grace period, never prolong it.
func (d Deletion) Again(now time.Time, grace time.Duration) Deletion {
	return Deletion{At: d.At, Grace: min(d.Grace, now.Sub(d.At)+grace)}
}

// stopAll stops every container that runs: app containers and init containers at once, sidecars after those they serve, in
// reverse order. All share one grace period; when it is over nobody waits for anybody. It reports whether nothing runs any more.
func (n *next) stopAll(since time.Time, grace time.Duration, message string) bool {
	running := map[string]bool{}
	for i := range n.seen.Containers {
		if c := &n.seen.Containers[i]; runs(c) {
			running[c.Name] = true
		}
	}
	for i := range n.seen.Containers {
		c := &n.seen.Containers[i]
		if !running[c.Name] {
			continue
		}
		why := sentence{"Killing", "Stopping container " + c.Name, since, grace, slices.ContainsFunc(n.before(c.Name), func(name string) bool { return running[name] })}
		if message != "" {
			why.message += ": " + message
		}
		n.stop(n.spec(c.Name), c, why)
	}
	return len(running) == 0
}

func runs(c *Container) bool {
	return c.ID != "" && (c.State == api.ContainerRunning || c.State == api.ContainerUnknown)
}

// spec is a container's specification, empty when the pod's is not known.
func (n *next) spec(name string) *corev1.Container {
	for _, list := range [][]corev1.Container{n.pod.Spec.InitContainers, n.pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return &corev1.Container{Name: name}
}

// before names the containers that must have stopped before one may: for a sidecar everything but the sidecars before it,
// for others nothing.
func (n *next) before(name string) []string {
	at := slices.IndexFunc(n.pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
	if at < 0 || !IsSidecar(&n.pod.Spec.InitContainers[at]) {
		return nil
	}
	var out []string
	for _, c := range n.pod.Spec.InitContainers[at+1:] {
		out = append(out, c.Name)
	}
	for _, c := range n.pod.Spec.Containers {
		out = append(out, c.Name)
	}
	return out
}

// stop takes the next step in stopping one container: its preStop hook, its turn, the signal. What was waited for is taken from
// the grace period, in whole seconds; less than nothing, where the host's clock was set back, is nothing.
func (n *next) stop(spec *corev1.Container, c *Container, why sentence) {
	left := why.grace - max(0, n.now.Sub(why.since)).Truncate(time.Second)
	act := Action{Container: c.Name, ID: c.ID, Reason: why.reason, Message: why.message}
	hook := spec.Lifecycle != nil && spec.Lifecycle.PreStop != nil && c.State == api.ContainerRunning
	switch {
	case c.Stopping:
		n.wait(c.Name, "", "it is stopping")
	case hook && c.PreStop.State == HookUnknown && left > 0:
		act.Do, act.Grace = PreStop, left
		n.do(act)
	case c.PreStop.State == HookRunning:
		n.wait(c.Name, "", "its preStop hook has not finished")
	case why.hold && left > 0:
		n.wait(c.Name, "", "the containers that it serves are stopping")
		n.again(why.since.Add(why.grace))
	default:
		act.Do, act.Grace = StopOne, max(left, LeastGrace)
		n.do(act)
	}
}
