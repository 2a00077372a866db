package life

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// Standing is how one container stands towards what it should be.
type Standing struct {
	Spec *corev1.Container
	Seen *Container // nil when it was never made
	// Begun means that it has run in this sandbox and finished its postStart hook, whatever became of it then.
	Begun bool
	// Done means that it ended well and is not to run again.
	Done bool
	// Ready means that it counts as ready, since Since.
	Ready bool
	Since time.Time
}

// Standings are those of the pod's sidecars and app containers, in the pod's order. Init containers that end by themselves have none.
func Standings(pod *corev1.Pod, seen *Seen) []Standing {
	var out []Standing
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if spec := &list[i]; !endsByItself(pod, spec) {
				out = append(out, standing(pod, spec, seen))
			}
		}
	}
	return out
}

func standing(pod *corev1.Pod, spec *corev1.Container, seen *Seen) Standing {
	s := Standing{Spec: spec, Seen: seen.Container(spec.Name)}
	c := s.Seen
	if c == nil || c.ID == "" {
		return s
	}
	hook := spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil
	switch c.State {
	case api.ContainerExited:
		s.Begun = !c.Earlier
		s.Done = c.ExitCode == 0 && !Restarts(pod, spec, 0)
	case api.ContainerRunning:
		s.Begun = !c.Earlier && !dying(spec, c) && (!hook || c.PostStart.State == HookDone)
		s.Ready = ready(spec, c)
		s.Since = later(later(c.StartedAt, c.PostStart.Ended), later(c.Startup.Since, c.Readiness.Since))
	}
	return s
}
