package schema

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
)

// template checks what a controller selects and how it labels its pods.
func (c *checker) template(selectorPath, templatePath string, s *metav1.LabelSelector, t *corev1.PodTemplateSpec) {
	labelsPath := templatePath + ".metadata.labels"
	if len(t.Labels) > 0 && !sameMap(t.Labels, c.o.Value.GetLabels()) {
		c.podLabels(labelsPath, t.Labels)
	}
	c.annotations(templatePath+".metadata.annotations", without(t.Annotations, c.o.Value.GetAnnotations()))
	if s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		c.invalid(selectorPath, "{}", "empty selector is invalid for "+c.o.Address.Kind)
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
