package runtime

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
)

// TestDevices gives devices to a container of pod "me" among those that others have.
func TestDevices(t *testing.T) {
	t.Parallel()
	has := func(pod, name, devices string) *runtimev1.Container {
		return &runtimev1.Container{Metadata: &runtimev1.ContainerMetadata{Name: name},
			Labels: map[string]string{api.LabelPodUID: pod, api.LabelLineage: "l"}, Annotations: map[string]string{annDevices: devices}}
	}
	stranger := has("x", "c", "v/c=2")
	delete(stranger.Labels, api.LabelLineage)
	pod := &corev1.Pod{}
	pod.UID = "me"
	pod.Spec.InitContainers = []corev1.Container{{Name: "init"}, {Name: "side", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
	for _, tt := range []struct {
		name string
		n    int
		on   []*runtimev1.Container
		want []string // nil for an error
	}{
		{"the first ones", 2, nil, []string{"v/c=0", "v/c=1"}},
		{"not those of others", 1, []*runtimev1.Container{has("you", "c", "v/c=0,v/d=9")}, []string{"v/c=1"}},
		{"not those of the pod's other containers", 1, []*runtimev1.Container{has("me", "other", "v/c=0"), has("me", "side", "v/c=1")}, []string{"v/c=2"}},
		{"those of its init containers", 1, []*runtimev1.Container{has("me", "init", "v/c=0")}, []string{"v/c=0"}},
		{"those that it had", 1, []*runtimev1.Container{has("me", "c", "v/c=2")}, []string{"v/c=2"}},
		{"and more", 2, []*runtimev1.Container{has("me", "c", "v/c=2"), has("you", "c", "v/c=0")}, []string{"v/c=2", "v/c=1"}},
		{"what is not ours does not count", 3, []*runtimev1.Container{stranger}, []string{"v/c=0", "v/c=1", "v/c=2"}},
		{"too many", 2, []*runtimev1.Container{has("you", "c", "v/c=0,v/c=1")}, nil},
	} {
		own, taken := devicesInUse(tt.on, pod, "c")
		got, err := chooseDevices("v/c", tt.n, []string{"v/c=0", "v/c=1", "v/c=2"}, own, taken)
		if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.want != nil) {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
}
