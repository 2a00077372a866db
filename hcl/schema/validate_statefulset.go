package schema

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

func (c *checker) statefulSet(s *appsv1.StatefulSet) {
	spec := &s.Spec
	atLeast(c, "spec.replicas", spec.Replicas, 0)
	atLeast(c, "spec.minReadySeconds", &spec.MinReadySeconds, 0)
	atLeast(c, "spec.revisionHistoryLimit", spec.RevisionHistoryLimit, 0)
	if spec.Ordinals != nil {
		atLeast(c, "spec.ordinals.start", &spec.Ordinals.Start, 0)
	}
	if spec.ServiceName != "" {
		c.invalid("spec.serviceName", spec.ServiceName, validation.IsDNS1123Label(spec.ServiceName)...)
	}
	const path = "spec.updateStrategy.rollingUpdate"
	if r := spec.UpdateStrategy.RollingUpdate; r != nil {
		if spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
			c.forbidden(path, "only allowed for updateStrategy 'RollingUpdate'")
		}
		atLeast(c, path+".partition", r.Partition, 0)
		c.share(path+".maxUnavailable", r.MaxUnavailable)
		if isZero(r.MaxUnavailable) {
			c.invalid(path+".maxUnavailable", r.MaxUnavailable.String(), "cannot be 0")
		}
	}
	c.template("spec.selector", "spec.template", spec.Selector, &spec.Template)
	c.podSpec("spec.template.spec", &spec.Template.Spec, []corev1.RestartPolicy{corev1.RestartPolicyAlways})
}
