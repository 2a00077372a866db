package schema

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
)

func (c *checker) deployment(d *api.Deployment) {
	s := &d.Spec
	atLeast(c, "spec.replicas", s.Replicas, 0)
	atLeast(c, "spec.minReadySeconds", &s.MinReadySeconds, 0)
	atLeast(c, "spec.revisionHistoryLimit", s.RevisionHistoryLimit, 0)
	atLeast(c, "spec.progressDeadlineSeconds", s.ProgressDeadlineSeconds, 0)
	deadline := int32(600)
	if s.ProgressDeadlineSeconds != nil {
		deadline = *s.ProgressDeadlineSeconds
	}
	switch {
	case deadline < 0 || deadline > s.MinReadySeconds:
	case s.ProgressDeadlineSeconds == nil:
		c.invalid("spec.minReadySeconds", s.MinReadySeconds, "must be less than progressDeadlineSeconds, which is 600 when it is not set")
	default:
		c.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")
	}
	c.strategy(&s.Strategy)
	c.template("spec.selector", "spec.template", s.Selector, &s.Template)
	c.podSpec("spec.template.spec", &s.Template.Spec, []corev1.RestartPolicy{corev1.RestartPolicyAlways})
}

func (c *checker) strategy(s *api.DeploymentStrategy) {
	c.stages(s)
	const path = "spec.strategy.rollingUpdate"
	r := s.RollingUpdate
	if r == nil {
		return
	}
	if s.Type != "" && s.Type != appsv1.RollingUpdateDeploymentStrategyType {
		c.forbidden(path, "may not be specified when strategy `type` is '"+string(s.Type)+"'")
		return
	}
	c.share(path+".maxSurge", r.MaxSurge)
	c.share(path+".maxUnavailable", r.MaxUnavailable)
	if isZero(r.MaxSurge) && isZero(r.MaxUnavailable) {
		c.invalid(path+".maxUnavailable", r.MaxUnavailable.String(), "may not be 0 when `maxSurge` is 0")
	}
	if p := r.MaxUnavailable; p != nil && p.Type == intstr.String && len(validation.IsValidPercent(p.StrVal)) == 0 {
		if n, err := intstr.GetScaledValueFromIntOrPercent(p, 100, false); err == nil && n > 100 {
			c.invalid(path+".maxUnavailable", p.StrVal, "must not be greater than 100%")
		}
	}
}

// share checks a number or percentage of replicas.
func (c *checker) share(path string, v *intstr.IntOrString) {
	switch {
	case v == nil:
	case v.Type == intstr.String && len(validation.IsValidPercent(v.StrVal)) > 0:
		c.invalid(path, v.StrVal, "must be an integer or percentage (e.g '5%')")
	case v.Type == intstr.Int:
		atLeast(c, path, &v.IntVal, 0)
	}
}

func isZero(v *intstr.IntOrString) bool {
	return v != nil && (v.Type == intstr.Int && v.IntVal == 0 || v.Type == intstr.String && strings.Trim(v.StrVal, "0") == "%")
}
