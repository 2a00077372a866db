package rollout

import (
	"errors"
	"fmt"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What autoscalers assume when nothing else is said (semantics.md 3.9).
const (
	// DefaultCPUUtilization is the target of an autoscaler without metrics: percent of the requested cpu.
	DefaultCPUUtilization = 80

	defaultTolerance  = 0.1
	cpuInitialization = 5 * time.Minute
	initialReadiness  = 30 * time.Second
)

// ScaledPod is one pod of an autoscaler's target.
type ScaledPod struct {
	Name     string
	Deleting bool
	Phase    corev1.PodPhase
	Started  time.Time // zero when it is not known
	// Ready is what its condition says since ReadySince; a pod without the condition has a zero ReadySince.
	Ready      bool
	ReadySince time.Time
	// Requests of its containers by name: milli-cores, bytes.
	Requests map[string]map[corev1.ResourceName]int64
}

// Sample is what one pod used.
type Sample struct {
	Pod string
	// Usage by container, in milli-cores and bytes; for metrics of pods the value in thousandths under "".
	Usage  map[string]int64
	At     time.Time
	Window time.Duration
}

// Samples answers what a metric measures. An error makes the metric invalid, which forbids scaling down.
type Samples interface {
	// Resource returns the usage of a resource by the target's pods.
	Resource(name corev1.ResourceName) ([]Sample, error)
	// Pods returns a metric of the target's pods.
	Pods(metric autoscalingv2.MetricIdentifier) ([]Sample, error)
	// Object returns a metric of one object, in thousandths.
	Object(object autoscalingv2.CrossVersionObjectReference, metric autoscalingv2.MetricIdentifier) (int64, error)
	// External returns the sum of a metric that no object has, in thousandths.
	External(metric autoscalingv2.MetricIdentifier) (int64, error)
}

// Recommendation is what an autoscaler would have done at a time, before it was held back.
type Recommendation struct {
	At       time.Time `json:"at"`
	Replicas int32     `json:"replicas"`
}

// ScaleEvent is a change that an autoscaler made: by how many replicas, always above zero.
type ScaleEvent struct {
	At     time.Time `json:"at"`
	Change int32     `json:"change"`
}

// AutoscalerMemory is what an autoscaler remembers from one look to the next: as much of the past as its windows reach.
type AutoscalerMemory struct {
	Recommendations []Recommendation `json:"recommendations,omitempty"`
	Up              []ScaleEvent     `json:"up,omitempty"`
	Down            []ScaleEvent     `json:"down,omitempty"`
}

// AutoscalerSeen is what a decision follows from besides the specification.
type AutoscalerSeen struct {
	Replicas int32 // what the target asks for now
	Current  int32 // what it has
	Pods     []ScaledPod
	Samples  Samples
	Memory   AutoscalerMemory
}

// AutoscalerDecision says how many replicas the target should have, and why.
type AutoscalerDecision struct {
	Replicas int32
	// Reason is the end of the event "New size: 5; reason: …"; "" when the number stays.
	Reason     string
	Conditions []autoscalingv2.HorizontalPodAutoscalerCondition
	Metrics    []autoscalingv2.MetricStatus // of those that could be measured
	Failures   []MetricFailure              // why the others could not
	Memory     AutoscalerMemory
}

// MetricFailure is why a metric could not be used, as Kubernetes tells it in an event.
type MetricFailure struct {
	Reason  string // "FailedGetResourceMetric"
	Message string
}

// Autoscale decides about the replicas of an autoscaler's target (semantics.md 3.9). It follows the upstream controller with the
// behaviour's defaults filled in. Called again with the memory of the decision before, at any interval.
func Autoscale(h *autoscalingv2.HorizontalPodAutoscalerSpec, seen AutoscalerSeen, now time.Time) AutoscalerDecision {
	a := newAutoscaler(h, seen, now)
	d := AutoscalerDecision{Replicas: seen.Replicas}
	current := seen.Replicas
	switch {
	case current == 0 && a.least != 0:
		a.condition(autoscalingv2.ScalingActive, false, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
	case current > a.most:
		d.Replicas, d.Reason = a.most, "Current number of replicas above Spec.MaxReplicas"
	case current < a.least:
		d.Replicas, d.Reason = a.least, "Current number of replicas below Spec.MinReplicas"
	default:
		proposal, metric, ok := a.propose()
		if !ok {
			break
		}
		switch {
		case proposal > current:
			d.Reason = metric + " above target"
		case proposal < current:
			d.Reason = "All metrics below target"
		}
		d.Replicas = a.restrain(proposal)
		if d.Replicas == current {
			d.Reason = ""
		}
	}
	d.Memory = a.remember(d.Replicas)
	d.Conditions, d.Metrics, d.Failures = a.conditions, a.metrics, a.failures
	return d
}

// autoscaler is one decision in the making.
type autoscaler struct {
	AutoscalerSeen
	spec        *autoscalingv2.HorizontalPodAutoscalerSpec
	least, most int32
	up, down    scalingRules
	now         time.Time
	proposed    *int32 // before it was held back
	conditions  []autoscalingv2.HorizontalPodAutoscalerCondition
	metrics     []autoscalingv2.MetricStatus
	failures    []MetricFailure
}

func newAutoscaler(h *autoscalingv2.HorizontalPodAutoscalerSpec, seen AutoscalerSeen, now time.Time) *autoscaler {
	a := &autoscaler{AutoscalerSeen: seen, spec: h, least: 1, most: h.MaxReplicas, now: now}
	if h.MinReplicas != nil {
		a.least = *h.MinReplicas
	}
	a.up, a.down = rulesOf(h.Behavior)
	return a
}

func (a *autoscaler) condition(t autoscalingv2.HorizontalPodAutoscalerConditionType, ok bool, reason, format string, args ...any) {
	status := corev1.ConditionFalse
	if ok {
		status = corev1.ConditionTrue
	}
	a.conditions = append(a.conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
		Type: t, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...), LastTransitionTime: metav1.NewTime(a.now),
	})
}

// invalidMetric is a metric that could not be used.
type invalidMetric struct {
	reason string
	err    error
}

// propose takes the largest of the metrics' proposals. When one metric is invalid nothing is scaled down on what the others say.
func (a *autoscaler) propose() (replicas int32, metric string, ok bool) {
	metrics := a.spec.Metrics
	if len(metrics) == 0 {
		utilization := int32(DefaultCPUUtilization)
		metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &utilization},
		}}}
	}
	var first *invalidMetric
	invalid := 0
	for i := range metrics {
		n, name, bad := a.measure(&metrics[i])
		if bad != nil {
			invalid++
			a.failures = append(a.failures, MetricFailure{bad.reason, bad.err.Error()})
			if first == nil {
				first = bad
			}
			continue
		}
		if metric == "" || n > replicas {
			replicas, metric = n, name
		}
	}
	if invalid == len(metrics) || invalid > 0 && replicas < a.Replicas {
		a.condition(autoscalingv2.ScalingActive, false, first.reason, "the HPA was unable to compute the replica count: %s", first.err)
		return 0, "", false
	}
	a.condition(autoscalingv2.ScalingActive, true, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from %s", metric)
	return replicas, metric, true
}

// measure returns what one metric proposes, and its name.
func (a *autoscaler) measure(m *autoscalingv2.MetricSpec) (int32, string, *invalidMetric) {
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		n, name, value, bad := a.measureResource(m.Resource.Name, "", m.Resource.Target)
		return a.noted(n, name, bad, autoscalingv2.MetricStatus{Type: m.Type, Resource: &autoscalingv2.ResourceMetricStatus{Name: m.Resource.Name, Current: value}})
	case autoscalingv2.ContainerResourceMetricSourceType:
		c := m.ContainerResource
		n, name, value, bad := a.measureResource(c.Name, c.Container, c.Target)
		return a.noted(n, name, bad, autoscalingv2.MetricStatus{Type: m.Type, ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{Name: c.Name, Container: c.Container, Current: value}})
	case autoscalingv2.PodsMetricSourceType:
		samples, err := a.Samples.Pods(m.Pods.Metric)
		if err != nil {
			return 0, "", &invalidMetric{"FailedGetPodsMetric", err}
		}
		n, average, err := a.byAverage(samples, "", "", m.Pods.Target.AverageValue.MilliValue())
		if err != nil {
			return 0, "", &invalidMetric{"FailedGetPodsMetric", err}
		}
		return a.noted(n, "pods metric "+m.Pods.Metric.Name, nil, autoscalingv2.MetricStatus{Type: m.Type, Pods: &autoscalingv2.PodsMetricStatus{
			Metric: m.Pods.Metric, Current: autoscalingv2.MetricValueStatus{AverageValue: resource.NewMilliQuantity(average, resource.DecimalSI)}}})
	case autoscalingv2.ObjectMetricSourceType:
		o := m.Object
		usage, err := a.Samples.Object(o.DescribedObject, o.Metric)
		if err != nil {
			return 0, "", &invalidMetric{"FailedGetObjectMetric", err}
		}
		n, value := a.byTotal(usage, o.Target)
		return a.noted(n, o.DescribedObject.Kind+" metric "+o.Metric.Name, nil, autoscalingv2.MetricStatus{Type: m.Type, Object: &autoscalingv2.ObjectMetricStatus{
			Metric: o.Metric, DescribedObject: o.DescribedObject, Current: value}})
	case autoscalingv2.ExternalMetricSourceType:
		usage, err := a.Samples.External(m.External.Metric)
		if err != nil {
			return 0, "", &invalidMetric{"FailedGetExternalMetric", err}
		}
		n, value := a.byTotal(usage, m.External.Target)
		return a.noted(n, "external metric "+m.External.Metric.Name, nil, autoscalingv2.MetricStatus{Type: m.Type, External: &autoscalingv2.ExternalMetricStatus{Metric: m.External.Metric, Current: value}})
	}
	return 0, "", &invalidMetric{"InvalidMetricSourceType", fmt.Errorf("unknown metric source type %q", m.Type)}
}

// noted keeps what a metric is now, when it could be measured.
func (a *autoscaler) noted(n int32, name string, bad *invalidMetric, status autoscalingv2.MetricStatus) (int32, string, *invalidMetric) {
	if bad == nil {
		a.metrics = append(a.metrics, status)
	}
	return n, name, bad
}

func (a *autoscaler) measureResource(name corev1.ResourceName, container string, target autoscalingv2.MetricTarget) (n int32, label string, value autoscalingv2.MetricValueStatus, bad *invalidMetric) {
	label, reason := string(name)+" resource", "FailedGetResourceMetric"
	if container != "" {
		label, reason = string(name)+" container resource", "FailedGetContainerResourceMetric"
	}
	samples, err := a.Samples.Resource(name)
	if err != nil {
		return 0, "", value, &invalidMetric{reason, fmt.Errorf("failed to get %s utilization: %w", name, err)}
	}
	var average int64
	if target.AverageValue != nil {
		wanted := target.AverageValue.Value()
		if name == corev1.ResourceCPU {
			wanted = target.AverageValue.MilliValue()
		}
		n, average, err = a.byAverage(samples, name, container, wanted)
	} else {
		var percent int32
		label += " utilization (percentage of request)"
		n, percent, average, err = a.byUtilization(samples, name, container, *target.AverageUtilization)
		value.AverageUtilization = &percent
	}
	if err != nil {
		return 0, "", value, &invalidMetric{reason, fmt.Errorf("failed to get %s utilization: %w", name, err)}
	}
	value.AverageValue = resource.NewQuantity(average, resource.BinarySI)
	if name == corev1.ResourceCPU {
		value.AverageValue = resource.NewMilliQuantity(average, resource.DecimalSI)
	}
	return n, label, value, nil
}

// byUtilization compares what the pods use with what they request. It also returns the percentage, and the usage of a pod on the average.
func (a *autoscaler) byUtilization(samples []Sample, name corev1.ResourceName, container string, target int32) (n, percent int32, average int64, err error) {
	g := a.group(samples, name, container)
	if len(g.usage) == 0 {
		return 0, 0, 0, errNoMetrics
	}
	requests, err := a.requests(name, container)
	if err != nil {
		return 0, 0, 0, err
	}
	utilization := func(usage map[string]int64) (int32, error) {
		var used, requested int64
		for pod, u := range usage {
			if r, ok := requests[pod]; ok {
				used, requested = used+u, requested+r
			}
		}
		if requested == 0 {
			return 0, fmt.Errorf("no metrics returned matched known pods")
		}
		return int32(min(used*100/requested, math.MaxInt32)), nil //nolint:gosec // bounded
	}
	if percent, err = utilization(g.usage); err != nil {
		return 0, 0, 0, err
	}
	average = averageUsage(g.usage)
	ratio := func(usage map[string]int64) (float64, error) {
		p, err := utilization(usage)
		return float64(p) / float64(target), err
	}
	idle := func(pod string) int64 { return requests[pod] * int64(max(100, target)) / 100 }
	n, err = a.estimate(g, ratio, idle)
	return n, percent, average, err
}

var errNoMetrics = errors.New("did not receive metrics for targeted pods (pods might be unready)")

// averageUsage is what a pod uses on the average; there is at least one.
func averageUsage(usage map[string]int64) int64 {
	var used int64
	for _, u := range usage {
		used += u
	}
	return used / int64(len(usage))
}

// byAverage compares what the pods use on the average with a value. It also returns that average.
func (a *autoscaler) byAverage(samples []Sample, name corev1.ResourceName, container string, target int64) (n int32, average int64, err error) {
	g := a.group(samples, name, container)
	if len(g.usage) == 0 {
		return 0, 0, errNoMetrics
	}
	average = averageUsage(g.usage)
	ratio := func(usage map[string]int64) (float64, error) {
		return float64(averageUsage(usage)) / float64(target), nil
	}
	n, err = a.estimate(g, ratio, func(string) int64 { return target })
	return n, average, err
}

// estimate turns a ratio into a number of replicas. Pods that were not measured are assumed to be such that they damp the change:
// at their target when it goes down, idle when it goes up; it never turns round because of them.
func (a *autoscaler) estimate(g groups, ratio func(map[string]int64) (float64, error), idle func(pod string) int64) (int32, error) {
	r, err := ratio(g.usage)
	if err != nil {
		return 0, err
	}
	unready := len(g.unready) > 0 && r > 1
	if !unready && len(g.missing) == 0 {
		if a.tolerates(r) {
			return a.Replicas, nil
		}
		return ceil(r * float64(g.ready)), nil
	}
	for _, pod := range g.missing {
		switch {
		case r < 1:
			g.usage[pod] = idle(pod)
		case r > 1:
			g.usage[pod] = 0
		}
	}
	if unready {
		for _, pod := range g.unready {
			g.usage[pod] = 0
		}
	}
	again, err := ratio(g.usage)
	if err != nil {
		return 0, err
	}
	if a.tolerates(again) || r < 1 && again > 1 || r > 1 && again < 1 {
		return a.Replicas, nil
	}
	n := ceil(again * float64(len(g.usage)))
	if again < 1 && n > a.Replicas || again > 1 && n < a.Replicas {
		return a.Replicas, nil
	}
	return n, nil
}

// byTotal compares one number with a target, for all pods or for each. It also returns what it has compared.
func (a *autoscaler) byTotal(usage int64, target autoscalingv2.MetricTarget) (int32, autoscalingv2.MetricValueStatus) {
	if v := target.AverageValue; v != nil {
		each := float64(v.MilliValue())
		status := autoscalingv2.MetricValueStatus{AverageValue: resource.NewMilliQuantity(usage/int64(max(1, a.Current)), resource.DecimalSI)}
		if a.Current > 0 && a.tolerates(float64(usage)/(each*float64(a.Current))) {
			return a.Current, status
		}
		return ceil(float64(usage) / each), status
	}
	r := float64(usage) / float64(target.Value.MilliValue())
	status := autoscalingv2.MetricValueStatus{Value: resource.NewMilliQuantity(usage, resource.DecimalSI)}
	if a.Replicas == 0 {
		return ceil(r), status
	}
	if a.tolerates(r) {
		return a.Replicas, status
	}
	ready := 0
	for i := range a.Pods {
		if p := &a.Pods[i]; p.Phase == corev1.PodRunning && p.Ready && !p.Deleting {
			ready++
		}
	}
	return ceil(r * float64(ready)), status
}

func (a *autoscaler) tolerates(ratio float64) bool {
	return 1-a.down.tolerance <= ratio && ratio <= 1+a.up.tolerance
}

// ceil rounds up within what replicas can be.
func ceil(v float64) int32 { return int32(min(math.Ceil(v), math.MaxInt32)) }

// groups sorts an autoscaler's pods by what can be said of their usage.
type groups struct {
	usage            map[string]int64 // of those that count
	ready            int              // how many these are
	unready, missing []string
}

func (a *autoscaler) group(samples []Sample, name corev1.ResourceName, container string) groups {
	g := groups{usage: map[string]int64{}}
	byPod := map[string]Sample{}
	for _, s := range samples {
		byPod[s.Pod] = s
	}
	for i := range a.Pods {
		p := &a.Pods[i]
		s, found := byPod[p.Name]
		used, whole := s.of(container)
		switch {
		case p.Deleting || p.Phase == corev1.PodFailed:
		case p.Phase == corev1.PodPending:
			g.unready = append(g.unready, p.Name)
		case !found || !whole:
			g.missing = append(g.missing, p.Name)
		case name == corev1.ResourceCPU && a.unready(p, s):
			g.unready = append(g.unready, p.Name)
		default:
			g.ready++
			g.usage[p.Name] = used
		}
	}
	return g
}

// unready reports whether a sample says little about the pod's work: it is still starting, or was never ready.
func (a *autoscaler) unready(p *ScaledPod, s Sample) bool {
	if p.Started.IsZero() || p.ReadySince.IsZero() {
		return true
	}
	if p.Started.Add(cpuInitialization).After(a.now) {
		return !p.Ready || s.At.Before(p.ReadySince.Add(s.Window))
	}
	return !p.Ready && p.Started.Add(initialReadiness).After(p.ReadySince)
}

// of sums a sample over the containers, or returns that of one; false when that one was not measured.
func (s Sample) of(container string) (int64, bool) {
	if container != "" {
		v, ok := s.Usage[container]
		return v, ok
	}
	var sum int64
	for _, v := range s.Usage {
		sum += v
	}
	return sum, true
}

// requests returns what each pod requests. Every container must request the resource.
func (a *autoscaler) requests(name corev1.ResourceName, container string) (map[string]int64, error) {
	out := make(map[string]int64, len(a.Pods))
	for i := range a.Pods {
		p := &a.Pods[i]
		for _, c := range sortedNames(p.Requests) {
			if container != "" && c != container {
				continue
			}
			r, ok := p.Requests[c][name]
			if !ok {
				return nil, fmt.Errorf("missing request for %s in container %s of Pod %s", name, c, p.Name)
			}
			out[p.Name] += r
		}
	}
	return out, nil
}
