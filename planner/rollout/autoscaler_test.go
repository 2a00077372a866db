package rollout

import (
	"errors"
	"fmt"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

// measured answers every metric from one value.
type measured struct {
	pods  map[string]int64 // by pod, in container "app"
	total int64
	err   error
	at    time.Time
}

func (m measured) Resource(corev1.ResourceName) ([]Sample, error) {
	var out []Sample
	for _, pod := range sortedNames(m.pods) {
		out = append(out, Sample{Pod: pod, Usage: map[string]int64{"app": m.pods[pod]}, At: m.at, Window: 30 * time.Second})
	}
	return out, m.err
}
func (m measured) Pods(autoscalingv2.MetricIdentifier) ([]Sample, error) {
	return m.Resource("")
}
func (m measured) Object(autoscalingv2.CrossVersionObjectReference, autoscalingv2.MetricIdentifier) (int64, error) {
	return m.total, m.err
}
func (m measured) External(autoscalingv2.MetricIdentifier) (int64, error) { return m.total, m.err }

func hpa(least, most int32, metrics ...autoscalingv2.MetricSpec) *autoscalingv2.HorizontalPodAutoscaler {
	h := &autoscalingv2.HorizontalPodAutoscaler{}
	h.Spec.MinReplicas, h.Spec.MaxReplicas, h.Spec.Metrics = &least, most, metrics
	return h
}

func cpu(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}}}
}

func perPod(value string) autoscalingv2.MetricSpec {
	q := resource.MustParse(value)
	return autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "qps"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &q}}}
}

func external(t autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "queue"}, Target: t}}
}

func onObject(t autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{
		DescribedObject: autoscalingv2.CrossVersionObjectReference{Kind: "Service"}, Metric: autoscalingv2.MetricIdentifier{Name: "rps"}, Target: t}}
}

func value(v string) autoscalingv2.MetricTarget {
	q := resource.MustParse(v)
	return autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: &q}
}

func averageOf(v string) autoscalingv2.MetricTarget {
	q := resource.MustParse(v)
	return autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &q}
}

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// scaled makes pods that have long been ready and request one core each.
func scaled(n int, change func(i int, p *ScaledPod)) []ScaledPod {
	var out []ScaledPod
	for i := range n {
		p := ScaledPod{Name: fmt.Sprint("p", i), Phase: corev1.PodRunning, Started: noon.Add(-time.Hour), Ready: true, ReadySince: noon.Add(-time.Hour),
			Requests: map[string]map[corev1.ResourceName]int64{"app": {corev1.ResourceCPU: 1000, corev1.ResourceMemory: 1 << 20}}}
		if change != nil {
			change(i, &p)
		}
		out = append(out, p)
	}
	return out
}

func usage(values ...int64) map[string]int64 {
	out := map[string]int64{}
	for i, v := range values {
		if v >= 0 {
			out[fmt.Sprint("p", i)] = v
		}
	}
	return out
}

// The cases are those of upstream's replica_calculator_test.go and horizontal_test.go in our terms.
func TestAutoscale(t *testing.T) {
	t.Parallel()
	pending := func(from int) func(int, *ScaledPod) {
		return func(i int, p *ScaledPod) {
			if i >= from {
				p.Phase, p.Ready = corev1.PodPending, false
			}
		}
	}
	tests := []struct {
		name         string
		hpa          *autoscalingv2.HorizontalPodAutoscaler
		replicas     int32
		pods         []ScaledPod
		measured     measured
		want         int32
		reason, cond string // the reason of ScalingActive or, when that is as it should be, of ScalingLimited
	}{
		{"scale up", hpa(2, 6, cpu(30)), 3, scaled(3, nil), measured{pods: usage(300, 500, 700)}, 5, "cpu resource utilization (percentage of request) above target", "DesiredWithinRange"},
		{"within tolerance", hpa(1, 5, cpu(100)), 3, scaled(3, nil), measured{pods: usage(1010, 1030, 1020)}, 3, "", "DesiredWithinRange"},
		{"ten percent are within", hpa(1, 5, cpu(100)), 3, scaled(3, nil), measured{pods: usage(1100, 1100, 1100)}, 3, "", "DesiredWithinRange"},
		{"a little more is not", hpa(1, 5, cpu(100)), 3, scaled(3, nil), measured{pods: usage(1110, 1110, 1110)}, 4, "cpu resource utilization (percentage of request) above target", "DesiredWithinRange"},
		{"scale down", hpa(2, 6, cpu(50)), 5, scaled(5, nil), measured{pods: usage(100, 300, 500, 250, 250)}, 3, "All metrics below target", "DesiredWithinRange"},
		{"pods that are starting damp", hpa(2, 6, cpu(30)), 3, scaled(3, pending(1)), measured{pods: usage(700)}, 3, "", "DesiredWithinRange"},
		{"and do not turn it round", hpa(2, 6, cpu(80)), 3, scaled(3, pending(2)), measured{pods: usage(700, 1000)}, 3, "", "DesiredWithinRange"},
		{"missing ones are full on the way down", hpa(2, 6, cpu(50)), 4, scaled(4, nil), measured{pods: usage(100, 100, 100)}, 3, "All metrics below target", "DesiredWithinRange"},
		{"missing ones are idle on the way up", hpa(2, 9, cpu(50)), 4, scaled(4, nil), measured{pods: usage(1000, 1000, 1000)}, 6, "cpu resource utilization (percentage of request) above target", "DesiredWithinRange"},
		{"failed and leaving pods do not count", hpa(1, 9, cpu(50)), 4, scaled(4, func(i int, p *ScaledPod) {
			p.Deleting = i == 0
			if i == 1 {
				p.Phase = corev1.PodFailed
			}
		}), measured{pods: usage(9000, 9000, 1000, 1000)}, 4, "", "DesiredWithinRange"},
		{"a cold pod does not count for cpu", hpa(1, 9, cpu(30)), 3, scaled(3, func(i int, p *ScaledPod) {
			if i > 0 {
				p.Started, p.ReadySince, p.Ready = noon.Add(-2*time.Minute), noon.Add(-2*time.Minute), false
			}
		}), measured{pods: usage(300, 9000, 9000), at: noon}, 3, "", "DesiredWithinRange"},
		{"a pod that was ready once does", hpa(1, 9, cpu(30)), 3, scaled(3, func(i int, p *ScaledPod) {
			if i > 0 {
				p.ReadySince, p.Ready = noon.Add(-time.Minute), false
			}
		}), measured{pods: usage(300, 300, 1200), at: noon}, 6, "cpu resource utilization (percentage of request) above target", "DesiredWithinRange"},
		{"not more than the most", hpa(1, 4, cpu(10)), 3, scaled(3, nil), measured{pods: usage(1000, 1000, 1000)}, 4, "cpu resource utilization (percentage of request) above target", "TooManyReplicas"},
		{"not less than the least", hpa(2, 4, cpu(90)), 3, scaled(3, nil), measured{pods: usage(10, 10, 10)}, 2, "All metrics below target", "TooFewReplicas"},
		{"not faster than the rate", hpa(1, 100, cpu(10)), 3, scaled(3, nil), measured{pods: usage(1000, 1000, 1000)}, 7, "cpu resource utilization (percentage of request) above target", "ScaleUpLimit"},
		{"above the most", hpa(1, 4, cpu(10)), 9, scaled(9, nil), measured{}, 4, "Current number of replicas above Spec.MaxReplicas", ""},
		{"below the least", hpa(3, 4, cpu(10)), 1, scaled(1, nil), measured{}, 3, "Current number of replicas below Spec.MinReplicas", ""},
		{"nothing stays nothing", hpa(1, 4, cpu(10)), 0, nil, measured{}, 0, "", "ScalingDisabled"},
		{"no request", hpa(1, 4, cpu(10)), 2, scaled(2, func(_ int, p *ScaledPod) { p.Requests["app"] = nil }), measured{pods: usage(900, 900)}, 2, "", "FailedGetResourceMetric"},
		{"no samples", hpa(1, 4, cpu(10)), 2, scaled(2, nil), measured{}, 2, "", "FailedGetResourceMetric"},
		{"an error forbids to go down", hpa(1, 4, cpu(90), external(value("1"))), 3, scaled(3, nil), measured{pods: usage(1, 1, 1), err: errors.New("down")}, 3, "", "FailedGetResourceMetric"},
		{"value per pod", hpa(1, 9, perPod("20")), 3, scaled(3, nil), measured{pods: usage(20000, 10000, 60000)}, 5, "pods metric qps above target", "DesiredWithinRange"},
		{"the largest proposal wins", hpa(1, 9, cpu(50), perPod("20")), 3, scaled(3, nil), measured{pods: usage(1000, 1000, 1000)}, 6, "cpu resource utilization (percentage of request) above target", "DesiredWithinRange"},
		{"a value for all", hpa(1, 9, external(value("10"))), 3, scaled(3, nil), measured{total: 20000}, 6, "external metric queue above target", "DesiredWithinRange"},
		{"a value for each", hpa(1, 9, external(averageOf("10"))), 3, scaled(3, nil), measured{total: 61000}, 7, "external metric queue above target", "DesiredWithinRange"},
		{"each within tolerance", hpa(1, 9, external(averageOf("10"))), 3, scaled(3, nil), measured{total: 32000}, 3, "", "DesiredWithinRange"},
		{"of an object", hpa(1, 9, onObject(value("20"))), 3, scaled(3, nil), measured{total: 40000}, 6, "Service metric rps above target", "DesiredWithinRange"},
		{"an object's value counts ready pods", hpa(1, 9, onObject(value("20"))), 3, scaled(3, pending(2)), measured{total: 40000}, 4, "Service metric rps above target", "DesiredWithinRange"},
		{"from nothing by an object", hpa(0, 9, onObject(value("20"))), 0, nil, measured{total: 40000}, 2, "Service metric rps above target", "DesiredWithinRange"},
		{"80 percent of cpu when nothing is said", hpa(1, 9), 2, scaled(2, nil), measured{pods: usage(1600, 1600)}, 4, "cpu resource utilization (percentage of request) above target", "DesiredWithinRange"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Autoscale(&tt.hpa.Spec, AutoscalerSeen{Replicas: tt.replicas, Current: tt.replicas, Pods: tt.pods, Samples: tt.measured}, noon)
			cond := ""
			if n := len(got.Conditions); n > 0 {
				cond = got.Conditions[n-1].Reason
			}
			if got.Replicas != tt.want || got.Reason != tt.reason || cond != tt.cond {
				t.Errorf("%d replicas, reason %q, condition %q; want %d, %q, %q\n%+v", got.Replicas, got.Reason, cond, tt.want, tt.reason, tt.cond, got.Conditions)
			}
		})
	}
}

func TestAutoscaleBehavior(t *testing.T) {
	t.Parallel()
	ago := func(seconds int, n int32) Recommendation {
		return Recommendation{noon.Add(-time.Duration(seconds) * time.Second), n}
	}
	event := func(seconds int, n int32) ScaleEvent {
		return ScaleEvent{noon.Add(-time.Duration(seconds) * time.Second), n}
	}
	rules := func(window int32, policy autoscalingv2.ScalingPolicySelect, p ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, SelectPolicy: &policy, Policies: p}
	}
	pods := func(n, period int32) autoscalingv2.HPAScalingPolicy {
		return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: n, PeriodSeconds: period}
	}
	percent := func(n, period int32) autoscalingv2.HPAScalingPolicy {
		return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: n, PeriodSeconds: period}
	}
	const mx, mn, off = autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect
	tests := []struct {
		name     string
		up, down *autoscalingv2.HPAScalingRules
		memory   AutoscalerMemory
		replicas int32
		proposal int64 // what the metric asks for
		want     int32
		cond     string
	}{
		{"down is held for five minutes", nil, nil, AutoscalerMemory{Recommendations: []Recommendation{ago(299, 10)}}, 10, 2, 10, "ScaleDownStabilized"},
		{"and no longer", nil, nil, AutoscalerMemory{Recommendations: []Recommendation{ago(300, 10)}}, 10, 2, 2, "ReadyForNewScale"},
		{"to the highest within", nil, nil, AutoscalerMemory{Recommendations: []Recommendation{ago(200, 4), ago(100, 7), ago(50, 3)}}, 10, 2, 7, "ScaleDownStabilized"},
		{"up is held by a window of its own", rules(60, mx, percent(900, 15)), nil, AutoscalerMemory{Recommendations: []Recommendation{ago(59, 4), ago(30, 9)}}, 2, 9, 4, "ScaleUpStabilized"},
		{"up by pods", rules(0, mx, pods(3, 60)), nil, AutoscalerMemory{}, 5, 50, 8, "ScaleUpLimit"},
		{"up less what came before", rules(0, mx, pods(3, 60)), nil, AutoscalerMemory{Up: []ScaleEvent{event(30, 2)}}, 5, 50, 6, "ScaleUpLimit"},
		{"up not counting what is long ago", rules(0, mx, pods(3, 60)), nil, AutoscalerMemory{Up: []ScaleEvent{event(60, 2)}}, 5, 50, 8, "ScaleUpLimit"},
		{"up more after it went down", rules(0, mx, pods(3, 60)), nil, AutoscalerMemory{Down: []ScaleEvent{event(30, 4)}}, 5, 50, 12, "ScaleUpLimit"},
		{"up by percent rounds up", rules(0, mx, percent(10, 60)), nil, AutoscalerMemory{}, 5, 50, 6, "ScaleUpLimit"},
		{"up by the smaller", rules(0, mn, percent(100, 60), pods(1, 60)), nil, AutoscalerMemory{}, 5, 50, 6, "ScaleUpLimit"},
		{"up by the larger", rules(0, mx, percent(100, 60), pods(1, 60)), nil, AutoscalerMemory{}, 5, 50, 10, "ScaleUpLimit"},
		{"not up at all", rules(0, off), nil, AutoscalerMemory{}, 5, 50, 5, "ScaleUpLimit"},
		{"down by pods", nil, rules(0, mx, pods(2, 60)), AutoscalerMemory{}, 10, 1, 8, "ScaleDownLimit"},
		{"down by percent rounds down", nil, rules(0, mx, percent(25, 60)), AutoscalerMemory{}, 10, 1, 7, "ScaleDownLimit"},
		{"down by the smaller", nil, rules(0, mn, percent(50, 60), pods(1, 60)), AutoscalerMemory{}, 10, 1, 9, "ScaleDownLimit"},
		{"down less what went before", nil, rules(0, mx, pods(4, 60)), AutoscalerMemory{Down: []ScaleEvent{event(10, 3)}}, 10, 1, 9, "ScaleDownLimit"},
		{"not down at all", nil, rules(0, off), AutoscalerMemory{}, 10, 1, 10, "ScaleDownLimit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := hpa(1, 100, external(averageOf("1")))
			h.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: tt.up, ScaleDown: tt.down}
			got := Autoscale(&h.Spec, AutoscalerSeen{Replicas: tt.replicas, Current: tt.replicas, Samples: measured{total: tt.proposal * 1000}, Memory: tt.memory}, noon)
			found := false
			for _, c := range got.Conditions {
				found = found || c.Reason == tt.cond
			}
			if got.Replicas != tt.want || !found {
				t.Errorf("%d replicas, want %d; no condition %s in %+v", got.Replicas, tt.want, tt.cond, got.Conditions)
			}
		})
	}
}

// TestAutoscaleKeepsBounds runs an autoscaler against any load: it stays within its bounds, never goes down faster than its window
// and policies allow nor up faster than its policies, forgets what it does not need, and comes to rest under a steady load.
func TestAutoscaleKeepsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		least := rapid.Int32Range(1, 5).Draw(rt, "least")
		most := least + rapid.Int32Range(0, 20).Draw(rt, "room")
		h := hpa(least, most, external(averageOf("1")))
		window := rapid.Int32Range(0, 120).Draw(rt, "window")
		step, period := rapid.Int32Range(1, 5).Draw(rt, "step"), rapid.Int32Range(15, 60).Draw(rt, "period")
		policy := []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: step, PeriodSeconds: period}}
		h.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{
			ScaleUp: &autoscalingv2.HPAScalingRules{Policies: policy}, ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, Policies: policy}}
		seen := AutoscalerSeen{Replicas: rapid.Int32Range(least, most).Draw(rt, "start")}
		type change struct {
			at time.Time
			n  int32
		}
		var history []change
		now, load := noon, int64(0)
		for i := range 160 {
			if i < 40 {
				load = rapid.Int64Range(0, 40_000).Draw(rt, "load")
			}
			seen.Current, seen.Samples = seen.Replicas, measured{total: load}
			d := Autoscale(&h.Spec, seen, now)
			if d.Replicas < least || d.Replicas > most {
				rt.Fatalf("%d replicas are not within %d and %d", d.Replicas, least, most)
			}
			history = append(history, change{now, d.Replicas - seen.Replicas})
			up, down := int32(0), int32(0)
			for _, c := range history {
				if c.at.After(now.Add(-time.Duration(period) * time.Second)) {
					up, down = up+max(c.n, 0), down+max(-c.n, 0)
				}
			}
			if d.Replicas > seen.Replicas && up-down > step || d.Replicas < seen.Replicas && down-up > step {
				rt.Fatalf("step %d: %d up and %d down within %d s, %d are allowed", i, up, down, period, step)
			}
			if d.Replicas < seen.Replicas {
				for _, r := range seen.Memory.Recommendations {
					if r.At.After(now.Add(-time.Duration(window)*time.Second)) && r.Replicas > d.Replicas && r.Replicas <= seen.Replicas {
						rt.Fatalf("down to %d though %d were recommended within the window", d.Replicas, r.Replicas)
					}
				}
			}
			if len(d.Memory.Recommendations) > int(window)/15+2 {
				rt.Fatalf("%d recommendations are remembered", len(d.Memory.Recommendations))
			}
			seen.Replicas, seen.Memory = d.Replicas, d.Memory
			now = now.Add(15 * time.Second)
		}
		wanted := min(max(int32((load+999)/1000), least), most)
		if r := float64(load) / 1000 / float64(seen.Replicas); seen.Replicas != wanted && (r < 0.9 || r > 1.1) {
			rt.Fatalf("at rest with %d replicas under a load of %d", seen.Replicas, load)
		}
	})
}
