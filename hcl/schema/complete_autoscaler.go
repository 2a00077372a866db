package schema

import (
	"cmp"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"berth.dev/berth/api"
)

// completeAutoscaler names what the blocks of an autoscaler already say: the kind of its target, of its metrics, and of what they
// are compared with.
func completeAutoscaler(s *api.AutoscalerSpec) {
	s.ScaleTargetRef.Kind = cmp.Or(s.ScaleTargetRef.Kind, "Deployment")
	for i := range s.Metrics {
		m := &s.Metrics[i]
		for _, source := range []struct {
			name   autoscalingv2.MetricSourceType
			target *autoscalingv2.MetricTarget
		}{
			{autoscalingv2.ResourceMetricSourceType, targetOf(m.Resource, func(r *autoscalingv2.ResourceMetricSource) *autoscalingv2.MetricTarget { return &r.Target })},
			{autoscalingv2.ContainerResourceMetricSourceType, targetOf(m.ContainerResource, func(r *autoscalingv2.ContainerResourceMetricSource) *autoscalingv2.MetricTarget { return &r.Target })},
			{autoscalingv2.PodsMetricSourceType, targetOf(m.Pods, func(r *autoscalingv2.PodsMetricSource) *autoscalingv2.MetricTarget { return &r.Target })},
			{autoscalingv2.ObjectMetricSourceType, targetOf(m.Object, func(r *autoscalingv2.ObjectMetricSource) *autoscalingv2.MetricTarget { return &r.Target })},
			{autoscalingv2.ExternalMetricSourceType, targetOf(m.External, func(r *autoscalingv2.ExternalMetricSource) *autoscalingv2.MetricTarget { return &r.Target })},
		} {
			if t := source.target; t != nil {
				m.Type = cmp.Or(m.Type, source.name)
				t.Type = cmp.Or(t.Type, targetType(t))
			}
		}
	}
}

func targetOf[T any](source *T, target func(*T) *autoscalingv2.MetricTarget) *autoscalingv2.MetricTarget {
	if source == nil {
		return nil
	}
	return target(source)
}

func targetType(t *autoscalingv2.MetricTarget) autoscalingv2.MetricTargetType {
	switch {
	case t.AverageUtilization != nil:
		return autoscalingv2.UtilizationMetricType
	case t.AverageValue != nil:
		return autoscalingv2.AverageValueMetricType
	case t.Value != nil:
		return autoscalingv2.ValueMetricType
	}
	return ""
}
