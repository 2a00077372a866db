package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime"
)

var scaleNoon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func counters(id, uid string, at time.Duration, cpu time.Duration, memory uint64) runtime.ContainerStats {
	return runtime.ContainerStats{ID: id, PodUID: uid, Container: "app", At: scaleNoon.Add(at), CPU: cpu, Memory: memory}
}

// Rates are of two looks at one container, not too far apart.
func TestUsageSince(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		before, now runtime.ContainerStats
		cpu         int64 // -1 for unknown
	}{
		{"half a processor", counters("a", "u", 0, time.Second, 5), counters("a", "u", 15*time.Second, 8500*time.Millisecond, 7), 500},
		{"idle", counters("a", "u", 0, time.Second, 5), counters("a", "u", 15*time.Second, time.Second, 7), 0},
		{"a little counts", counters("a", "u", 0, 0, 5), counters("a", "u", 15*time.Second, time.Microsecond, 7), 1},
		{"another container", counters("a", "u", 0, time.Second, 5), counters("b", "u", 15*time.Second, 8*time.Second, 7), -1},
		{"the same moment", counters("a", "u", 0, time.Second, 5), counters("a", "u", 0, time.Second, 7), -1},
		{"too long ago", counters("a", "u", 0, time.Second, 5), counters("a", "u", 121*time.Second, 8*time.Second, 7), -1},
		{"the counter went back", counters("a", "u", 0, time.Second, 5), counters("a", "u", 15*time.Second, 0, 7), -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			first := usageSince(nil, []runtime.ContainerStats{tt.before})
			if _, known := first.rates["u"].cpu["app"]; known {
				t.Error("a rate of one look")
			}
			r := usageSince(first.counters, []runtime.ContainerStats{tt.now}).rates["u"]
			cpu, known := r.cpu["app"]
			if !known {
				cpu = -1
			}
			if cpu != tt.cpu || r.memory["app"] != 7 || !r.at.Equal(tt.now.At) {
				t.Errorf("%d milli-cores, %d bytes at %s", cpu, r.memory["app"], r.at)
			}
			if known && r.window != tt.now.At.Sub(tt.before.At) {
				t.Errorf("a window of %s", r.window)
			}
		})
	}
}

// scaleWorld is a deployment of n pods with an autoscaler for their cpu.
func scaleWorld(n int, changes ...func(*api.State)) *api.State {
	web := api.Address{Kind: api.KindDeployment, Name: "web"}
	d := &api.Deployment{}
	d.Name, d.Namespace, d.Spec.Replicas = "web", "default", new(int32(n))
	h := &api.Autoscaler{}
	h.Name, h.Namespace = "web", "default"
	h.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "web"}
	h.Spec.MaxReplicas = 10
	h.Spec.Metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))}}}}
	s := &api.State{}
	s.Apply(api.Delta{PutObject: &api.Object{Address: web, Value: d}})
	s.Apply(api.Delta{PutObject: &api.Object{Address: api.Address{Kind: api.KindAutoscaler, Name: "web"}, Value: h}})
	for i := range n {
		p := web
		p.Pod = "web-" + string(rune('a'+i))
		s.Apply(api.Delta{PutPod: &api.PodState{Address: p, UID: p.Pod, Node: "a1", Namespace: "default", Spec: &corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}}}}}}})
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// scalerOf is one whose pods have long been ready and use so many milli-cores each.
func scalerOf(s *api.State, now *time.Time, cpu int64) *watchScaler {
	w := &watchScaler{
		goal: &watchGoal{state: s}, hands: &watchHands{stands: map[string]podStand{}}, now: func() time.Time { return *now },
		usage: &watchUsage{nodes: map[string]nodeUsage{"a1": {rates: map[string]containerRates{}}}}, memory: map[api.Address]*scaleMemory{},
		log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	w.events = &watchEvents{now: w.now, log: w.log, noted: func() {}}
	for _, p := range s.Pods {
		w.hands.stands[p.UID] = podStand{phase: corev1.PodRunning, ready: true, readySince: now.Add(-time.Hour), started: now.Add(-time.Hour)}
		if cpu >= 0 {
			w.usage.nodes["a1"].rates[p.UID] = containerRates{cpu: map[string]int64{"app": cpu}, at: *now, window: 15 * time.Second}
		}
	}
	return w
}

// What an autoscaler is fed with, what of it is recorded, and when it holds still.
func TestScalerDecides(t *testing.T) {
	t.Parallel()
	web, hpa := api.Address{Kind: api.KindDeployment, Name: "web"}, api.Address{Kind: api.KindAutoscaler, Name: "web"}
	chosen := func(n int32, ago time.Duration, conditions ...autoscalingv2.HorizontalPodAutoscalerCondition) func(*api.State) {
		return func(s *api.State) {
			s.Apply(api.Delta{PutAutoscaler: &api.AutoscalerState{Address: hpa, Target: web, Replicas: n, At: scaleNoon.Add(-ago), Conditions: conditions}})
		}
	}
	overridden := func(s *api.State) {
		s.Apply(api.Delta{PutOverrides: []api.Override{{Address: web, Path: "spec.replicas", Ends: "spec.replicas", Base: api.RawJSON("3"), Who: "ada@desk", Reason: "berth scale"}}})
	}
	tests := []struct {
		name    string
		state   *api.State
		cpu     int64
		to      int32  // of what is recorded; -1 for nothing
		why     string // of the change
		reasons []string
	}{
		{"more", scaleWorld(2), 100, 4, "cpu resource utilization (percentage of request) above target", []string{"SucceededRescale", "ValidMetricFound", "DesiredWithinRange"}},
		{"enough", scaleWorld(2), 50, 2, "", []string{"ReadyForNewScale", "ValidMetricFound", "DesiredWithinRange"}},
		{"less, but not at once", scaleWorld(4), 10, 4, "", []string{"ScaleDownStabilized", "ValidMetricFound", "DesiredWithinRange"}},
		{"nothing is known", scaleWorld(2), -1, 2, "", []string{"SucceededGetScale", "FailedGetResourceMetric"}},
		{"what was chosen and is not made yet", scaleWorld(2, chosen(4, time.Hour)), 100, 4, "", []string{"ReadyForNewScale"}},
		{"what another object's autoscaler has chosen", scaleWorld(2, func(s *api.State) {
			s.Apply(api.Delta{PutAutoscaler: &api.AutoscalerState{Address: hpa, Target: api.Address{Kind: api.KindStatefulSet, Name: "web"}, Replicas: 9}})
		}), 100, 4, "cpu resource utilization (percentage of request) above target", nil},
		{"what a person has set", scaleWorld(2, overridden), 100, 3, "", []string{"Overridden"}},
		{"it was just recorded", scaleWorld(2, chosen(2, 10*time.Second, autoscalingv2.HorizontalPodAutoscalerCondition{Type: autoscalingv2.ScalingActive, Status: corev1.ConditionTrue})), 50, -1, "", nil},
		{"just recorded, and wrong by now", scaleWorld(2, chosen(2, 10*time.Second, autoscalingv2.HorizontalPodAutoscalerCondition{Type: autoscalingv2.ScalingActive, Status: corev1.ConditionTrue})), -1, 2, "", []string{"SucceededGetScale", "FailedGetResourceMetric"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now := scaleNoon
			w := scalerOf(tt.state, &now, tt.cpu)
			list := scalersOf(tt.state)
			w.keepOnly(list)
			got := w.decide(t.Context(), tt.state, &list[0])
			if got == nil {
				if tt.to >= 0 {
					t.Fatal("nothing is recorded")
				}
				return
			}
			if got.State.Replicas != tt.to || got.Why != tt.why {
				t.Errorf("%d because of %q, want %d because of %q", got.State.Replicas, got.Why, tt.to, tt.why)
			}
			for i, want := range tt.reasons {
				if i >= len(got.State.Conditions) || got.State.Conditions[i].Reason != want {
					t.Errorf("conditions %+v, want %v", got.State.Conditions, tt.reasons)
					break
				}
			}
		})
	}
}

// A change counts for the policies once it was recorded; how an autoscaler stands is written again when it has moved, a minute later at the soonest.
func TestScalerRemembers(t *testing.T) {
	t.Parallel()
	now := scaleNoon
	s := scaleWorld(2)
	w := scalerOf(s, &now, 100)
	list := scalersOf(s)
	w.keepOnly(list)
	look := func() *scaleMemory { return w.memory[list[0].address] }
	got := w.decide(t.Context(), s, &list[0])
	if got == nil || got.State.Replicas != 4 || len(look().Up) != 0 {
		t.Fatalf("%+v is to be recorded, %v is remembered", got, look().Up)
	}
	got.Done()
	if len(look().Up) != 1 || !w.events.waiting() {
		t.Errorf("%v is remembered after it was recorded", look().Up)
	}
	s.Apply(api.Delta{PutAutoscaler: &got.State})
	list = scalersOf(s)
	w.keepOnly(list)
	now = now.Add(15 * time.Second)
	if got := w.decide(t.Context(), s, &list[0]); got != nil {
		t.Errorf("recorded again after 15 s: %+v", got.State)
	}
	now = now.Add(time.Minute)
	got = w.decide(t.Context(), s, &list[0])
	if got == nil || got.Why != "" || got.State.LastScale == nil || got.State.Conditions[0].Reason != "ReadyForNewScale" {
		t.Errorf("%+v a minute later", got)
	}
	if was := s.Autoscaler(list[0].address); !got.State.Conditions[1].LastTransitionTime.Equal(&was.Conditions[1].LastTransitionTime) {
		t.Error("the time of a condition has changed, and not its status")
	}
	s.Apply(api.Delta{PutAutoscaler: &got.State})
	now = now.Add(time.Hour)
	if got := w.decide(t.Context(), s, &list[0]); got != nil {
		t.Errorf("recorded again though nothing has moved: %+v", got.State)
	}
	if targets := scaledOf(s); len(targets) != 1 {
		t.Errorf("%v are to be brought to what was chosen", targets)
	}
}

// An autoscaler's metrics have the names and labels of kube-state-metrics, and say why it cannot tell how many pods are needed.
func TestScalerMetrics(t *testing.T) {
	t.Parallel()
	web, hpa := api.Address{Kind: api.KindDeployment, Name: "web"}, api.Address{Kind: api.KindAutoscaler, Name: "web"}
	collect := func(s *api.State) string {
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(scalerCollector{s})
		page := httptest.NewRecorder()
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return page.Body.String()
	}
	if got := collect(&api.State{}); got != "" {
		t.Errorf("without autoscalers:\n%s", got)
	}
	got := collect(scaleWorld(2, func(s *api.State) {
		s.Apply(api.Delta{PutAutoscaler: &api.AutoscalerState{Address: hpa, Target: web, Replicas: 4, At: scaleNoon, Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{
			{Type: autoscalingv2.AbleToScale, Status: corev1.ConditionTrue, Reason: "SucceededGetScale"},
			{Type: autoscalingv2.ScalingActive, Status: corev1.ConditionFalse, Reason: "FailedGetResourceMetric"},
		}}})
	}))
	const of = `{horizontalpodautoscaler="web",namespace="default"`
	for _, want := range []string{
		`kube_horizontalpodautoscaler_info` + of + `,scaletargetref_kind="Deployment",scaletargetref_name="web"} 1`,
		`kube_horizontalpodautoscaler_spec_min_replicas` + of + `} 1`,
		`kube_horizontalpodautoscaler_spec_max_replicas` + of + `} 10`,
		`kube_horizontalpodautoscaler_status_current_replicas` + of + `} 2`,
		`kube_horizontalpodautoscaler_status_desired_replicas` + of + `} 4`,
		`kube_horizontalpodautoscaler_status_condition{condition="ScalingActive",horizontalpodautoscaler="web",namespace="default",status="false"} 1`,
		`kube_horizontalpodautoscaler_status_condition{condition="ScalingActive",horizontalpodautoscaler="web",namespace="default",status="true"} 0`,
		`berth_autoscaler_trouble` + of + `,reason="FailedGetResourceMetric"} 1`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
}

// scalerCollector collects the metrics of a state's autoscalers.
type scalerCollector struct{ s *api.State }

func (c scalerCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range metricScalers.all() {
		ch <- d
	}
}

func (c scalerCollector) Collect(ch chan<- prometheus.Metric) {
	metricScalers.collect(c.s, func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	})
}
