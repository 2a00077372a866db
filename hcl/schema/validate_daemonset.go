package schema

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

func (c *checker) daemonSet(d *appsv1.DaemonSet) {
	s := &d.Spec
	atLeast(c, "spec.minReadySeconds", &s.MinReadySeconds, 0)
	atLeast(c, "spec.revisionHistoryLimit", s.RevisionHistoryLimit, 0)
	const path = "spec.updateStrategy.rollingUpdate"
	if r := s.UpdateStrategy.RollingUpdate; r != nil {
		if s.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
			c.forbidden(path, "may not be specified when updateStrategy `type` is 'OnDelete'")
		}
		c.share(path+".maxUnavailable", r.MaxUnavailable)
		c.share(path+".maxSurge", r.MaxSurge)
		surges := r.MaxSurge != nil && !isZero(r.MaxSurge)
		switch {
		case surges && r.MaxUnavailable != nil && !isZero(r.MaxUnavailable):
			c.invalid(path+".maxSurge", r.MaxSurge.String(), "may not be set when maxUnavailable is non-zero")
		case !surges && isZero(r.MaxUnavailable):
			c.required(path+".maxUnavailable", "cannot be 0 when maxSurge is 0")
		}
	}
	c.template("spec.selector", "spec.template", s.Selector, &s.Template)
	c.podSpec("spec.template.spec", &s.Template.Spec, []corev1.RestartPolicy{corev1.RestartPolicyAlways})
}
