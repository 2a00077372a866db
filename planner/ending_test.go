package planner

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

func TestEndingOf(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Date(2026, 11, 21, 12, 0, s, 0, time.UTC) }
	always := corev1.ContainerRestartPolicyAlways
	spec := &corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "proxy", RestartPolicy: &always}, {Name: "setup"}},
		Containers:     []corev1.Container{{Name: "a"}, {Name: "b"}},
	}
	running := func(name string, attempt uint32, started int) api.ObservedContainer {
		return api.ObservedContainer{Name: name, State: api.ContainerRunning, Attempt: attempt, StartedAt: at(started)}
	}
	sidecar := running("proxy", 7, 1)
	sidecar.Init = true
	setup := api.ObservedContainer{Name: "setup", Init: true, State: api.ContainerExited, Attempt: 9, FinishedAt: at(59)}
	well := []api.ObservedContainer{running("a", 2, 3), running("b", 4, 9), sidecar, setup}
	up, down := &host{name: "a1", reach: up}, &host{name: "a2", reach: silent}
	tests := []struct {
		name string
		pod  *pod
		want rollout.Ending
	}{
		{"as it was seen", &pod{host: up, spec: spec, annotations: map[string]string{corev1.PodDeletionCost: "-3"}, seen: &api.ObservedPod{SandboxReady: true, Containers: well}},
			rollout.Ending{Phase: corev1.PodRunning, DeletionCost: -3, ReadySince: at(9), Restarts: 4, SidecarRestarts: 7}},
		{"its sandbox is gone", &pod{host: up, spec: spec, seen: &api.ObservedPod{}}, rollout.Ending{Phase: corev1.PodPending}},
		{"a container is missing", &pod{host: up, spec: spec, seen: &api.ObservedPod{SandboxReady: true, Containers: well[:1]}},
			rollout.Ending{Phase: corev1.PodPending, Restarts: 2, ReadySince: at(3)}},
		{"missing", &pod{host: up, spec: spec, missing: true}, rollout.Ending{Phase: corev1.PodPending, Missing: true}},
		{"on a host that does not answer", &pod{host: down, spec: spec, fixed: true}, rollout.Ending{Phase: corev1.PodUnknown}},
		{"a cost that is no number", &pod{host: up, spec: spec, missing: true, annotations: map[string]string{corev1.PodDeletionCost: "much"}}, rollout.Ending{Phase: corev1.PodPending, Missing: true}},
	}
	d := &draft{Input: Input{Observed: &api.Observation{Nodes: []*api.NodeObservation{{Pods: []api.ObservedPod{{Containers: well}}}}}}}
	for _, tt := range tests {
		tt.want.Seen = at(59)
		if diff := cmp.Diff(tt.want, d.endingOf(tt.pod)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}
