package schema

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

func (c *checker) replicaSet(r *appsv1.ReplicaSet) {
	s := &r.Spec
	atLeast(c, "spec.replicas", s.Replicas, 0)
	atLeast(c, "spec.minReadySeconds", &s.MinReadySeconds, 0)
	c.template("spec.selector", "spec.template", s.Selector, &s.Template)
	c.podSpec("spec.template.spec", &s.Template.Spec, []corev1.RestartPolicy{corev1.RestartPolicyAlways})
}
