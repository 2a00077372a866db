package life_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/providers/runtime/life"
)

func TestRestarts(t *testing.T) {
	tests := []struct {
		policy     corev1.RestartPolicy
		init, side bool
		code       int32
		want       bool
	}{
		{policy: "Always", code: 0, want: true}, {policy: "Always", code: 1, want: true},
		{policy: "OnFailure", code: 0, want: false}, {policy: "OnFailure", code: 1, want: true},
		{policy: "Never", code: 0, want: false}, {policy: "Never", code: 1, want: false},
		{policy: "Always", init: true, code: 0, want: false}, {policy: "Always", init: true, code: 1, want: true}, {policy: "Never", init: true, code: 1, want: false},
		{policy: "Never", init: true, side: true, code: 0, want: true},
	}
	for _, tt := range tests {
		c := corev1.Container{Name: "c"}
		if tt.side {
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
		pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: tt.policy}}
		list := &pod.Spec.Containers
		if tt.init {
			list = &pod.Spec.InitContainers
		}
		*list = append(*list, c)
		if got := life.Restarts(pod, &(*list)[0], tt.code); got != tt.want {
			t.Errorf("%+v: %t", tt, got)
		}
	}
}
