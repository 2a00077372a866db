package schema

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
)

func (c *checker) deployment(d *api.Deployment) {
	s := &d.Spec
	atLeast(c, "spec.replicas", s.Replicas, 0)
	atLeast(c, "spec.minReadySeconds", &s.MinReadySeconds, 0)
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
	const path = "spec.strategy.rollingUpdate"
	r := s.RollingUpdate
	if r == nil {
		return
	}
	if s.Type == appsv1.RecreateDeploymentStrategyType {
		c.forbidden(path, "may not be specified when strategy `type` is 'Recreate'")
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

// template checks what a controller selects and how it labels its pods.
func (c *checker) template(selectorPath, templatePath string, s *metav1.LabelSelector, t *corev1.PodTemplateSpec) {
	labelsPath := templatePath + ".metadata.labels"
	if len(t.Labels) > 0 && !sameMap(t.Labels, c.o.Value.GetLabels()) {
		c.podLabels(labelsPath, t.Labels)
	}
	c.annotations(templatePath+".metadata.annotations", without(t.Annotations, c.o.Value.GetAnnotations()))
	if s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		c.invalid(selectorPath, "{}", "empty selector is invalid for deployment")
		return
	}
	c.selector(selectorPath, s)
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		if !c.diags.HasErrors() { // else it is said already which label is wrong
			c.invalid(selectorPath, s, err.Error())
		}
		return
	}
	if !selector.Matches(labels.Set(t.Labels)) {
		c.invalid(labelsPath, t.Labels, "`selector` does not match template `labels`")
	}
}

// podLabels checks the labels that are the pods' own: the object's are checked with the object.
func (c *checker) podLabels(path string, pod map[string]string) {
	c.labels(path, without(pod, c.o.Value.GetLabels()))
}

func without(m, other map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		if o, ok := other[k]; !ok || o != v {
			out[k] = v
		}
	}
	return out
}

func sameMap(a, b map[string]string) bool { return len(a) == len(b) && len(without(a, b)) == 0 }

func (c *checker) selector(path string, s *metav1.LabelSelector) {
	if !sameMap(s.MatchLabels, c.o.Value.GetLabels()) {
		c.labels(path+".matchLabels", s.MatchLabels)
	}
	for i, p := range indexed(path+".matchExpressions", s.MatchExpressions) {
		e := &s.MatchExpressions[i]
		if c.needs(p+".key", e.Key, "") {
			c.invalid(p+".key", e.Key, validation.IsQualifiedName(e.Key)...)
		}
		switch e.Operator {
		case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn:
			if len(e.Values) == 0 {
				c.required(p+".values", "must be specified when `operator` is 'In' or 'NotIn'")
			}
		case metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist:
			if len(e.Values) > 0 {
				c.forbidden(p+".values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
			}
		default:
			c.required(p+".operator", "one of In, NotIn, Exists, DoesNotExist")
		}
		for _, v := range e.Values {
			c.invalid(p+".values", v, validation.IsValidLabelValue(v)...)
		}
	}
}
