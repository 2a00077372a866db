package rollout

import corev1 "k8s.io/api/core/v1"

// pod wants itself: one pod with the object's name. A changed one cannot run beside its old self, since both
// have that name, so it is removed first and made anew. One that is gone stays away: nobody makes bare pods again.
func pod(p *corev1.Pod, in Inputs) *Want {
	t := corev1.PodTemplateSpec{Spec: p.Spec}
	t.Labels, t.Annotations = p.Labels, p.Annotations
	return &Want{
		Replicas: 1, Slots: []Slot{{Name: p.Name}}, Order: Strategy{Recreate: true}, Once: true,
		Template: templateFor(&t, in, ""), DeadlineSeconds: 600,
	}
}
