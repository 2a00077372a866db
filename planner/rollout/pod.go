package rollout

import corev1 "k8s.io/api/core/v1"

// pod wants itself: one pod with the object's name. A changed one cannot run beside its old self, since both
// have that name, so it is removed first and made anew.
func pod(p *corev1.Pod, in Inputs) *Want {
	w := &Want{Replicas: 1, Strategy: Strategy{Recreate: true}, FixedName: p.Name, DeadlineSeconds: 600}
	t := corev1.PodTemplateSpec{Spec: p.Spec}
	t.Labels, t.Annotations = p.Labels, p.Annotations
	w.complete(&t, in)
	return w
}
