package life

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// Seen is what is known of one pod: what its host shows, and what whoever keeps it has noted.
type Seen struct {
	Sandbox *Sandbox // the newest, a running one before others; nil when there is none
	// Superfluous are the IDs of other sandboxes of the pod.
	Superfluous []string
	// StartTime is when the pod first had a sandbox; zero before.
	StartTime time.Time
	// Containers hold the newest attempt of each container that was ever made. One that could not even be made has
	// no ID and says why in its notes.
	Containers []Container
	// Asked is when somebody asked for the pod to run: pauses between restarts that began before are over. Zero for nobody.
	Asked time.Time
	// Deletion says that the pod is to go; nil when it is to stay.
	Deletion *Deletion
}

// Sandbox is the newest sandbox of a pod.
type Sandbox struct {
	ID        string
	Attempt   uint32
	Ready     bool   // it runs
	IP        string // "" for pods of the host's network
	SecondIP  string // of the cluster's second family
	CreatedAt time.Time
}

// Container is the newest attempt of one container, with what was noted of it.
type Container struct {
	api.ObservedContainer
	// Earlier means that it belongs to a sandbox before the newest one.
	Earlier bool
	Notes
}

// Notes are what no host remembers of a container's attempt: how its probes and hooks went. They belong to one container
// ID; the next attempt begins with none.
type Notes struct {
	Startup, Liveness, Readiness Probe
	PostStart, PreStop           Hook
	// Stopping means that its stop was asked for and has not been answered.
	Stopping bool
	// Trouble says why it could not be made or started; nil when it could.
	Trouble *Trouble
	// Recorded means that the pod counted as ready when it was last watched, and that nobody watches its probes now.
	Recorded bool
}

// Trouble is why a container waits, in Kubernetes' words: a reason such as "CreateContainerConfigError" and a message.
type Trouble struct {
	Reason, Message string
	At              time.Time
}

// Deletion says how a pod is to end.
type Deletion struct {
	At    time.Time // when its end began
	Grace time.Duration
}

// SeenOf is what an observation shows, with nothing noted.
func SeenOf(o *api.ObservedPod) Seen {
	s := Seen{StartTime: o.StartedAt}
	if s.StartTime.IsZero() {
		s.StartTime = o.CreatedAt
	}
	if o.SandboxID != "" {
		s.Sandbox = &Sandbox{ID: o.SandboxID, Attempt: o.SandboxAttempt, Ready: o.SandboxReady, IP: o.IP, SecondIP: o.SecondIP, CreatedAt: o.CreatedAt}
	}
	for _, c := range o.Containers {
		if c.ID != "" {
			s.Containers = append(s.Containers, Container{ObservedContainer: c})
		}
	}
	return s
}

// Recorded returns what was seen together with what the last apply recorded: whether the pod was ready. It stands in for the
// results of probes that nobody runs at the moment.
func (s Seen) Recorded(ready bool) Seen {
	s.Containers = slices.Clone(s.Containers)
	for i := range s.Containers {
		s.Containers[i].Recorded = ready
	}
	return s
}

// Container returns what was seen of a container, or nil when it was never made.
func (s *Seen) Container(name string) *Container {
	i := slices.IndexFunc(s.Containers, func(c Container) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Containers[i]
}

// made returns what was seen of a container that has an attempt in the newest sandbox, or nil.
func (s *Seen) made(name string) *Container {
	c := s.Container(name)
	if c == nil || c.ID == "" || c.Earlier {
		return nil
	}
	return c
}

// IsSidecar reports whether an init container is to go on running beside the others.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// initialized reports whether an app container was ever made in the newest sandbox: init containers then do not run again.
func initialized(pod *corev1.Pod, seen *Seen) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return seen.made(c.Name) != nil })
}

// started reports whether a container runs, has passed its startup probe and finished its postStart hook.
func started(spec *corev1.Container, c *Container) bool {
	if c == nil || c.State != api.ContainerRunning || dying(spec, c) {
		return false
	}
	if c.Recorded {
		return true
	}
	if spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil && c.PostStart.State != HookDone {
		return false
	}
	return spec.StartupProbe == nil || c.Startup.Verdict == Success
}

// ready reports whether a container is started and its readiness probe, if it has one, says so.
func ready(spec *corev1.Container, c *Container) bool {
	return started(spec, c) && (c.Recorded || spec.ReadinessProbe == nil || c.Readiness.Verdict == Success)
}
