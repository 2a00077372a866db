package main

import (
	"github.com/prometheus/client_golang/prometheus"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// scalerMetrics tell how autoscalers stand, under the names that kube-state-metrics has for them, so that its dashboards and alerts serve here, too; and
// beside those why one of them cannot tell how many pods are needed.
type scalerMetrics struct{ info, least, most, current, desired, condition, trouble *prometheus.Desc }

var metricScalers = func() scalerMetrics {
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"namespace", "horizontalpodautoscaler"}, more...), nil)
	}
	const of = "kube_horizontalpodautoscaler_"
	return scalerMetrics{
		info:      desc(of+"info", "What the autoscaler scales.", "scaletargetref_kind", "scaletargetref_name"),
		least:     desc(of+"spec_min_replicas", "The least number of pods that the autoscaler chooses."),
		most:      desc(of+"spec_max_replicas", "The greatest number of pods that the autoscaler chooses."),
		current:   desc(of+"status_current_replicas", "The number of pods that there are."),
		desired:   desc(of+"status_desired_replicas", "The number of pods that the autoscaler has chosen, or a person has set."),
		condition: desc(of+"status_condition", "1 for the status that a condition of the autoscaler has.", "condition", "status"),
		trouble:   desc("berth_autoscaler_trouble", "1 while the autoscaler cannot tell how many pods are needed, with the reason.", "reason"),
	}
}()

func (m *scalerMetrics) all() []*prometheus.Desc {
	return []*prometheus.Desc{m.info, m.least, m.most, m.current, m.desired, m.condition, m.trouble}
}

// collect says how the autoscalers of a state stand whose targets were applied.
func (m *scalerMetrics) collect(s *api.State, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	if s == nil {
		return
	}
	for _, k := range scalersOf(s) {
		say := func(d *prometheus.Desc, v float64, more ...string) {
			gauge(d, v, append([]string{k.object.Namespace, k.object.Name}, more...)...)
		}
		least, most := k.spec.Bounds()
		say(m.info, 1, k.target.Kind().APIKind, k.target.Name())
		say(m.least, float64(least))
		say(m.most, float64(most))
		say(m.current, float64(len(k.pods)))
		say(m.desired, float64(k.replicas))
		found := s.Autoscaler(k.address)
		if found == nil || found.Target != k.target.Address {
			continue
		}
		for _, c := range found.Conditions {
			for status, label := range map[corev1.ConditionStatus]string{corev1.ConditionTrue: "true", corev1.ConditionFalse: "false", corev1.ConditionUnknown: "unknown"} {
				say(m.condition, boolFloat(c.Status == status), string(c.Type), label)
			}
			if c.Type == autoscalingv2.ScalingActive && c.Status != corev1.ConditionTrue && c.Reason != "ScalingDisabled" {
				say(m.trouble, 1, c.Reason)
			}
		}
	}
}
