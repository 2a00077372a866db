package schema

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

func (c *checker) autoscaler(h *api.Autoscaler) {
	s := &h.Spec
	c.needs("spec.scaleTargetRef.name", s.ScaleTargetRef.Name, "the name of the workload to scale")
	least := int32(1)
	if s.MinReplicas != nil {
		least = *s.MinReplicas
		atLeast(c, "spec.minReplicas", s.MinReplicas, 1)
	}
	switch {
	case s.MaxReplicas < 1:
		c.invalid("spec.maxReplicas", s.MaxReplicas, "must be greater than 0")
	case s.MaxReplicas < least:
		c.invalid("spec.maxReplicas", s.MaxReplicas, "must be greater than or equal to `minReplicas`")
	}
	for i, p := range indexed("spec.metrics", s.Metrics) {
		c.metric(p, &s.Metrics[i])
		c.sourced(p, s, &s.Metrics[i])
	}
	c.sources(s)
	if b := s.Behavior; b != nil {
		c.scalingRules("spec.behavior.scaleUp", b.ScaleUp)
		c.scalingRules("spec.behavior.scaleDown", b.ScaleDown)
	}
}

func (c *checker) metric(p string, m *autoscalingv2.MetricSpec) {
	sources := []struct {
		t    autoscalingv2.MetricSourceType
		name string
		set  bool
	}{
		{autoscalingv2.ResourceMetricSourceType, "resource", m.Resource != nil},
		{autoscalingv2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil},
		{autoscalingv2.PodsMetricSourceType, "pods", m.Pods != nil},
		{autoscalingv2.ObjectMetricSourceType, "object", m.Object != nil},
		{autoscalingv2.ExternalMetricSourceType, "external", m.External != nil},
	}
	var names []string
	var set []bool
	for _, s := range sources {
		names, set = append(names, s.name), append(set, s.set)
		switch {
		case s.t == m.Type && !s.set:
			c.required(p+"."+s.name, "must populate information for the given metric source")
		case s.t != m.Type && s.set && m.Type != "":
			c.forbidden(p+"."+s.name, "must populate the given metric source only")
		}
	}
	if m.Type == "" {
		c.exactlyOne(p, names, set...)
	}
	const utilization, value, average = autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType
	switch {
	case m.Resource != nil:
		c.measured(p+".resource.name", m.Resource.Name)
		c.metricTarget(p+".resource.target", &m.Resource.Target, utilization, average)
	case m.ContainerResource != nil:
		c.measured(p+".containerResource.name", m.ContainerResource.Name)
		c.needs(p+".containerResource.container", m.ContainerResource.Container, "must specify a container")
		c.metricTarget(p+".containerResource.target", &m.ContainerResource.Target, utilization, average)
	case m.Pods != nil:
		c.metricName(p+".pods.metric", &m.Pods.Metric)
		c.metricTarget(p+".pods.target", &m.Pods.Target, average)
	case m.Object != nil:
		c.metricName(p+".object.metric", &m.Object.Metric)
		c.needs(p+".object.describedObject.kind", m.Object.DescribedObject.Kind, "")
		c.needs(p+".object.describedObject.name", m.Object.DescribedObject.Name, "")
		c.metricTarget(p+".object.target", &m.Object.Target, value, average)
	case m.External != nil:
		c.metricName(p+".external.metric", &m.External.Metric)
		c.metricTarget(p+".external.target", &m.External.Target, value, average)
	}
}

func (c *checker) measured(p string, name corev1.ResourceName) {
	if c.needs(p, string(name), "must specify a resource name") && name != corev1.ResourceCPU && name != corev1.ResourceMemory {
		c.unsupported(p, string(name), "cpu", "memory")
	}
}

func (c *checker) metricName(p string, m *autoscalingv2.MetricIdentifier) {
	c.needs(p+".name", m.Name, "must specify a metric name")
	if m.Selector != nil {
		c.selector(p+".selector", m.Selector)
	}
}

// metricTarget checks that a target says just one thing, of those that its metric can be compared with.
func (c *checker) metricTarget(p string, t *autoscalingv2.MetricTarget, allowed ...autoscalingv2.MetricTargetType) {
	var names []string
	var set []bool
	for _, a := range allowed {
		switch a {
		case autoscalingv2.UtilizationMetricType:
			names, set = append(names, "averageUtilization"), append(set, t.AverageUtilization != nil)
			if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
				c.invalid(p+".averageUtilization", *t.AverageUtilization, "must be greater than 0")
			}
		case autoscalingv2.ValueMetricType:
			names, set = append(names, "value"), append(set, t.Value != nil)
			if t.Value != nil && t.Value.Sign() != 1 {
				c.invalid(p+".value", t.Value.String(), "must be positive")
			}
		case autoscalingv2.AverageValueMetricType:
			names, set = append(names, "averageValue"), append(set, t.AverageValue != nil)
			if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
				c.invalid(p+".averageValue", t.AverageValue.String(), "must be positive")
			}
		}
	}
	c.exactlyOne(p, names, set...)
	for _, other := range []struct {
		t    autoscalingv2.MetricTargetType
		name string
		set  bool
	}{
		{autoscalingv2.UtilizationMetricType, "averageUtilization", t.AverageUtilization != nil},
		{autoscalingv2.ValueMetricType, "value", t.Value != nil},
	} {
		if other.set && !containsType(allowed, other.t) {
			c.forbidden(p+"."+other.name, "this metric has none")
		}
	}
	if t.Type != "" && !containsType(allowed, t.Type) {
		c.unsupported(p+".type", string(t.Type), texts(allowed)...)
	}
}

func containsType(list []autoscalingv2.MetricTargetType, t autoscalingv2.MetricTargetType) bool {
	for _, a := range list {
		if a == t {
			return true
		}
	}
	return false
}

// Bounds of scaling rules.
const (
	maxStabilization = 3600
	maxPolicyPeriod  = 1800
)

func (c *checker) scalingRules(p string, r *autoscalingv2.HPAScalingRules) {
	if r == nil {
		return
	}
	atLeast(c, p+".stabilizationWindowSeconds", r.StabilizationWindowSeconds, 0)
	if w := r.StabilizationWindowSeconds; w != nil && *w > maxStabilization {
		c.invalid(p+".stabilizationWindowSeconds", *w, fmt.Sprintf("must be less than or equal to %d", maxStabilization))
	}
	if r.Tolerance != nil {
		c.notNegative(p+".tolerance", *r.Tolerance)
	}
	for i, pp := range indexed(p+".policies", r.Policies) {
		policy := &r.Policies[i]
		c.needs(pp+".type", string(policy.Type), "one of Pods, Percent")
		if policy.Value <= 0 {
			c.invalid(pp+".value", policy.Value, "must be greater than zero")
		}
		switch {
		case policy.PeriodSeconds <= 0:
			c.invalid(pp+".periodSeconds", policy.PeriodSeconds, "must be greater than zero")
		case policy.PeriodSeconds > maxPolicyPeriod:
			c.invalid(pp+".periodSeconds", policy.PeriodSeconds, fmt.Sprintf("must be less than or equal to %d", maxPolicyPeriod))
		}
	}
}
