package main

import (
	"strconv"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

func listAutoscalers(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindAutoscaler) {
		v := o.Value.(*api.Autoscaler).DeepCopy()
		target := l.scaleTarget(v)
		if target != nil {
			v.Status.CurrentReplicas = l.tallyOf(target.Address, 0).total
			n, _ := rollout.Replicas(target)
			v.Status.DesiredReplicas = int32(n) //nolint:gosec // made from an int32
		}
		if s := l.state.Autoscaler(o.Address); s != nil && target != nil && s.Target == target.Address {
			v.Status.CurrentMetrics, v.Status.Conditions = s.Metrics, s.Conditions
			if s.LastScale != nil {
				v.Status.LastScaleTime = &metav1.Time{Time: *s.LastScale}
			}
		}
		ref := v.Spec.ScaleTargetRef
		out = append(out, entry{address: o.Address, meta: createdAt(o, v), object: covered(o, v), cells: []string{
			v.Name, or(ref.Kind, "Deployment") + "/" + ref.Name, scaleTargetsCell(v), number(count(v.Spec.MinReplicas)), number(v.Spec.MaxReplicas),
			number(v.Status.CurrentReplicas), l.ageOf(o),
		}})
	}
	return out
}

// scaleTarget is the workload that an autoscaler is about; nil when it is not there.
func (l *live) scaleTarget(v *api.Autoscaler) *api.Object {
	for _, o := range l.state.Objects {
		if o.Kind().OwnsPods && v.Scales(o) {
			return o
		}
	}
	return nil
}

// metricsOf are the metrics of an autoscaler: the cpu when it names none.
func metricsOf(s *api.AutoscalerSpec) []autoscalingv2.MetricSpec {
	if len(s.Metrics) > 0 {
		return s.Metrics
	}
	return []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(rollout.DefaultCPUUtilization))},
	}}}
}

// metricParts are the name of a metric, what it is to be, and what of it was measured; nil when that is not known.
func metricParts(m autoscalingv2.MetricSpec, measured []autoscalingv2.MetricStatus) (name string, target autoscalingv2.MetricTarget, now *autoscalingv2.MetricValueStatus) {
	for i := range measured {
		s := &measured[i]
		switch {
		case m.Resource != nil && s.Resource != nil && s.Resource.Name == m.Resource.Name:
			now = &s.Resource.Current
		case m.ContainerResource != nil && s.ContainerResource != nil && s.ContainerResource.Name == m.ContainerResource.Name && s.ContainerResource.Container == m.ContainerResource.Container:
			now = &s.ContainerResource.Current
		case m.Pods != nil && s.Pods != nil && s.Pods.Metric.Name == m.Pods.Metric.Name:
			now = &s.Pods.Current
		case m.Object != nil && s.Object != nil && s.Object.Metric.Name == m.Object.Metric.Name && s.Object.DescribedObject == m.Object.DescribedObject:
			now = &s.Object.Current
		case m.External != nil && s.External != nil && s.External.Metric.Name == m.External.Metric.Name:
			now = &s.External.Current
		}
	}
	switch {
	case m.Resource != nil:
		return string(m.Resource.Name), m.Resource.Target, now
	case m.ContainerResource != nil:
		return m.ContainerResource.Container + "/" + string(m.ContainerResource.Name), m.ContainerResource.Target, now
	case m.Pods != nil:
		return m.Pods.Metric.Name, m.Pods.Target, now
	case m.Object != nil:
		return m.Object.Metric.Name, m.Object.Target, now
	case m.External != nil:
		return m.External.Metric.Name, m.External.Target, now
	}
	return string(m.Type), autoscalingv2.MetricTarget{}, nil
}

// share is what was measured of a metric, as a part of its target; false when it is not known.
func share(m autoscalingv2.MetricSpec, measured []autoscalingv2.MetricStatus) (float64, bool) {
	_, t, now := metricParts(m, measured)
	of := func(now, target *resource.Quantity) (float64, bool) {
		if now == nil || target.Sign() <= 0 {
			return 0, false
		}
		return now.AsApproximateFloat64() / target.AsApproximateFloat64(), true
	}
	switch {
	case now == nil:
		return 0, false
	case t.AverageUtilization != nil && now.AverageUtilization != nil:
		return float64(*now.AverageUtilization) / float64(max(1, *t.AverageUtilization)), true
	case t.AverageValue != nil:
		return of(now.AverageValue, t.AverageValue)
	case t.Value != nil:
		return of(now.Value, t.Value)
	}
	return 0, false
}

// scaleTargets are what metrics are and what they are to be, as kubectl shows it.
func scaleTargets(v *api.Autoscaler) []string {
	var out []string
	for _, m := range metricsOf(&v.Spec) {
		name, target, now := metricParts(m, v.Status.CurrentMetrics)
		out = append(out, name+": "+metricNow(target, now)+"/"+metricTarget(target))
	}
	return out
}

// scaleTargetsCell is the TARGETS cell: the first two metrics, and how many more there are.
func scaleTargetsCell(v *api.Autoscaler) string {
	all := scaleTargets(v)
	text := strings.Join(all[:min(2, len(all))], ", ")
	if len(all) > 2 {
		text += " + " + strconv.Itoa(len(all)-2) + " more..."
	}
	return text
}

func metricNow(t autoscalingv2.MetricTarget, now *autoscalingv2.MetricValueStatus) string {
	switch {
	case now == nil:
	case t.AverageUtilization != nil && now.AverageUtilization != nil:
		return number(*now.AverageUtilization) + "%"
	case t.AverageValue != nil && now.AverageValue != nil:
		return now.AverageValue.String()
	case t.Value != nil && now.Value != nil:
		return now.Value.String()
	}
	return "<unknown>"
}

func metricTarget(t autoscalingv2.MetricTarget) string {
	switch {
	case t.AverageUtilization != nil:
		return number(*t.AverageUtilization) + "%"
	case t.AverageValue != nil:
		return t.AverageValue.String() + " (avg)"
	case t.Value != nil:
		return t.Value.String()
	}
	return "<unset>"
}
