package api

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestPodForAnIndex(t *testing.T) {
	t.Parallel()
	w := &JobWork{Pod: &corev1.Pod{}, State: JobState{Name: strings.Repeat("n", 62)}}
	w.Pod.Spec.Containers = []corev1.Container{{Name: "a"}, {Name: "b", Env: []corev1.EnvVar{{Name: EnvJobIndex, Value: "mine"}}}}
	w.Pod.Spec.InitContainers = []corev1.Container{{Name: "i"}}
	p := w.PodFor(JobPod{Name: "x", UID: "u", Node: "n1", Index: 7})
	if p.Name != "x" || p.UID != "u" || p.Spec.NodeName != "n1" || p.Annotations[AnnJobIndex] != "7" || p.Labels[AnnJobIndex] != "7" {
		t.Errorf("pod %+v", p)
	}
	if p.Spec.Hostname != strings.Repeat("n", 62) {
		t.Errorf("host name %q", p.Spec.Hostname)
	}
	for name, env := range map[string][]corev1.EnvVar{"7": p.Spec.Containers[0].Env, "mine": p.Spec.Containers[1].Env} {
		if len(env) != 1 || env[0].Value != name {
			t.Errorf("environment %+v, want %s", env, name)
		}
	}
	if p.Spec.InitContainers[0].Env[0].Value != "7" {
		t.Error("init containers do not know the index")
	}
	if len(w.Pod.Spec.Containers[0].Env) != 0 || w.Pod.Labels != nil {
		t.Error("the template was changed")
	}
	if p := w.PodFor(JobPod{Name: "y", Index: -1}); p.Spec.Hostname != "" || len(p.Spec.Containers[0].Env) != 0 || p.Labels[AnnJobIndex] != "" {
		t.Errorf("pod without an index %+v", p)
	}
}
