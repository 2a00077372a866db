package life

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// keep decides about one container whose turn has come. A nil c has no attempt in the sandbox.
func (n *next) keep(spec *corev1.Container, c *Container) {
	if c == nil {
		n.first(spec)
		return
	}
	switch c.State {
	case api.ContainerRunning:
		n.run(spec, c)
	case api.ContainerExited:
		n.exited(spec, c)
	case api.ContainerCreated:
		if !n.troubled(spec, c) {
			n.start(spec, Action{ID: c.ID, Attempt: c.Attempt})
		}
	default:
		n.start(spec, Action{Attempt: c.Attempt + 1, Clear: c.ID, Backoff: FirstPause})
	}
}

// first starts a container that this sandbox has not had. What it did in an earlier one counts: its attempts are numbered on, pauses
// go on, and under OnFailure what ended well is done.
func (n *next) first(spec *corev1.Container) {
	c := n.seen.Container(spec.Name)
	switch {
	case c == nil:
		n.start(spec, Action{})
	case n.troubled(spec, c):
	case c.ID == "":
		n.start(spec, Action{Attempt: c.Attempt})
	case c.State != api.ContainerExited:
		n.start(spec, Action{Attempt: c.Attempt + 1})
	case isInit(n.pod, spec.Name):
		n.start(spec, Action{Attempt: c.Attempt + 1})
	case n.pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure && c.ExitCode == 0:
	default:
		n.exitedBefore(spec, c)
	}
}

// troubled reports whether a container could not be made or started just now: it is tried again after a while.
func (n *next) troubled(spec *corev1.Container, c *Container) bool {
	if c.Trouble == nil {
		return false
	}
	until := c.Trouble.At.Add(FirstPause)
	if !n.now.Before(until) || SetBack(n.now, until, FirstPause) {
		return false
	}
	n.wait(spec.Name, c.Trouble.Reason, c.Trouble.Message)
	n.again(until)
	return true
}

// start starts a container if it is its turn.
func (n *next) start(spec *corev1.Container, a Action) {
	if !n.mayStart {
		n.wait(spec.Name, ReasonContainerCreating, "the container before it has not finished its postStart hook")
		return
	}
	a.Do, a.Container = StartOne, spec.Name
	n.do(a)
	if spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil {
		n.mayStart = false
	}
}

// exited applies the table of restarts to a container that has ended, and the pauses between them (semantics.md 1.7).
func (n *next) exited(spec *corev1.Container, c *Container) {
	code := c.ExitCode
	if endsByItself(n.pod, spec) && failed(c) {
		code = max(code, 1)
	}
	if Restarts(n.pod, spec, code) && !n.troubled(spec, c) {
		n.exitedBefore(spec, c)
	}
}

func (n *next) exitedBefore(spec *corev1.Container, c *Container) {
	pause := BackoffOf(c, ContainerHash(spec), n.seen.Asked)
	if !pause.Over(n.now) {
		n.wait(spec.Name, ReasonCrashLoopBackOff, BackoffMessage(n.pod, spec.Name, pause.Pause))
		n.again(pause.Until)
		return
	}
	n.start(spec, Action{Attempt: c.Attempt + 1, Backoff: pause.Next})
}

// run looks after a container that runs: its hook, its probes, and whether it has to be killed.
func (n *next) run(spec *corev1.Container, c *Container) {
	if why, ok := n.condemned(spec, c); ok {
		n.stop(spec, c, why)
		return
	}
	if spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil && c.PostStart.State != HookDone {
		n.mayStart = false
		if c.PostStart.State == HookUnknown {
			n.do(Action{Do: PostStart, Container: spec.Name, ID: c.ID, Attempt: c.Attempt})
		}
		n.wait(spec.Name, "", "its postStart hook has not finished")
		return
	}
	if spec.StartupProbe != nil && c.Startup.Verdict != Success {
		n.probe(Startup, spec, c, &c.Startup)
		return
	}
	if spec.LivenessProbe != nil {
		n.probe(Liveness, spec, c, &c.Liveness)
	}
	if spec.ReadinessProbe != nil {
		n.probe(Readiness, spec, c, &c.Readiness)
	}
}

// probe runs a probe when it is due.
func (n *next) probe(kind ProbeKind, spec *corev1.Container, c *Container, p *Probe) {
	if p.Verdict != Success && kind != Liveness {
		n.wait(spec.Name, "", probeWait(kind, p))
	}
	if p.Running {
		return
	}
	def := kind.Of(spec)
	if due := p.due(def, c.StartedAt, n.now); n.now.Before(due) {
		n.again(due)
		return
	}
	n.do(Action{Do: RunProbe, Container: spec.Name, ID: c.ID, Probe: kind, Grace: Timeout(def)})
}

func probeWait(kind ProbeKind, p *Probe) string {
	if p.Message == "" {
		return string(kind) + " probe has not succeeded yet"
	}
	return string(kind) + " probe failed: " + p.Message
}

// sentence is why a container has to be killed, since when, and how long it may take to stop.
type sentence struct {
	reason, message string
	since           time.Time
	grace           time.Duration
	hold            bool // its turn has not come yet
}

// condemned says whether a container that runs has to be killed.
func (n *next) condemned(spec *corev1.Container, c *Container) (sentence, bool) {
	switch {
	case c.PostStart.State == HookFailed:
		return sentence{"FailedPostStartHook", "FailedPostStartHook", c.PostStart.Ended, n.grace(nil), false}, true
	case spec.StartupProbe != nil && c.Startup.Verdict == Failure:
		return n.probed(spec, "startup", spec.StartupProbe, &c.Startup), true
	case spec.LivenessProbe != nil && c.Liveness.Verdict == Failure:
		return n.probed(spec, "liveness", spec.LivenessProbe, &c.Liveness), true
	case c.Hash != "" && c.Hash != ContainerHash(spec):
		return sentence{"Killing", fmt.Sprintf("Container %s definition changed, will be restarted", spec.Name), n.now, n.grace(nil), false}, true
	}
	return sentence{}, false
}

func (n *next) probed(spec *corev1.Container, kind string, def *corev1.Probe, p *Probe) sentence {
	message := fmt.Sprintf("Container %s failed %s probe, will be restarted", spec.Name, kind)
	if n.pod.Spec.RestartPolicy == corev1.RestartPolicyNever && !IsSidecar(spec) {
		message = fmt.Sprintf("Container %s failed %s probe", spec.Name, kind)
	}
	return sentence{"Killing", message, p.Since, n.grace(def), false}
}

// dying reports whether a container is on its way out though it runs.
func dying(spec *corev1.Container, c *Container) bool {
	return c.Stopping || c.PostStart.State == HookFailed ||
		spec.StartupProbe != nil && c.Startup.Verdict == Failure || spec.LivenessProbe != nil && c.Liveness.Verdict == Failure
}
