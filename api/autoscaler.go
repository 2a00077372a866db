package api

import (
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Autoscaler is Kubernetes' horizontal pod autoscaler with what Berth adds to it: where metrics come from that the container runtime
// does not have. Its JSON is that of autoscaling/v2 as long as there is none.
type Autoscaler struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AutoscalerSpec                              `json:"spec,omitempty"`
	Status autoscalingv2.HorizontalPodAutoscalerStatus `json:"status,omitempty"`
}

// AutoscalerSpec is Kubernetes' specification and the sources of its metrics.
type AutoscalerSpec struct {
	autoscalingv2.HorizontalPodAutoscalerSpec `json:",inline"`

	// Sources say where metrics of pods, of objects, and of nothing that Berth knows come from, by the metrics' names.
	Sources []MetricSource `json:"sources,omitempty"`
}

// MetricSource says where the watchdog gets a metric: from a command or from a Prometheus.
type MetricSource struct {
	Name string `json:"name"` // of the metric
	// Command is run without a shell on the watchdog's machine, in the directory in which it works. It prints a number; for a metric
	// of pods a line with a pod's name and a number for each.
	Command    []string         `json:"command,omitempty"`
	Prometheus *PrometheusQuery `json:"prometheus,omitempty"`
	// TimeoutSeconds bound each run or query, 10 when it is not set.
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
}

// PrometheusQuery is an instant query of Prometheus' HTTP API. The values of the series that it answers are added up; for a metric of pods
// those with the same label "pod".
type PrometheusQuery struct {
	URL   string `json:"url"`   // of the server: "http://10.0.0.5:9090"
	Query string `json:"query"` // in PromQL
	// BearerTokenFile, on the watchdog's machine, is read for every query. CAFile has the certificates that the server's is checked by.
	BearerTokenFile string `json:"bearerTokenFile,omitempty"`
	CAFile          string `json:"caFile,omitempty"`
}

// DefaultMetricTimeout and MaxMetricTimeout are seconds.
const (
	DefaultMetricTimeout = 10
	MaxMetricTimeout     = 60
)

// MetricOutputLimit bounds what a source may answer, in bytes.
const MetricOutputLimit = 1 << 20

// Source returns where a metric comes from, or nil.
func (s *AutoscalerSpec) Source(metric string) *MetricSource {
	for i := range s.Sources {
		if s.Sources[i].Name == metric {
			return &s.Sources[i]
		}
	}
	return nil
}

// Bounds are the least and the most replicas of the target.
func (s *AutoscalerSpec) Bounds() (least, most int32) {
	least = 1
	if s.MinReplicas != nil {
		least = *s.MinReplicas
	}
	return least, s.MaxReplicas
}

// Scales reports whether the autoscaler is that of an object.
func (a *Autoscaler) Scales(o *Object) bool {
	kind := a.Spec.ScaleTargetRef.Kind
	if kind == "" {
		kind = "Deployment"
	}
	return a.Namespace == o.Namespace() && a.Spec.ScaleTargetRef.Name == o.Name() && (kind == o.Kind().APIKind || kind == "ReplicationController" && o.Address.Kind == KindReplicaSet)
}

// DeepCopy returns a copy that shares nothing with a.
func (a *Autoscaler) DeepCopy() *Autoscaler {
	out := &Autoscaler{TypeMeta: a.TypeMeta}
	a.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	a.Spec.HorizontalPodAutoscalerSpec.DeepCopyInto(&out.Spec.HorizontalPodAutoscalerSpec)
	for _, s := range a.Spec.Sources {
		s.Command, s.Prometheus = slices.Clone(s.Command), copied(s.Prometheus)
		out.Spec.Sources = append(out.Spec.Sources, s)
	}
	a.Status.DeepCopyInto(&out.Status)
	return out
}

// AutoscalerState is what the watchdog has decided for an autoscaler, and how it came to that.
type AutoscalerState struct {
	Address Address `json:"address"` // of the autoscaler
	Target  Address `json:"target"`
	// Replicas is the number that was chosen; it counts for every plan, within the autoscaler's bounds.
	Replicas int32 `json:"replicas"`
	// LastScale is when it was last changed; nil for never.
	LastScale *time.Time `json:"last_scale,omitempty"`
	// Metrics are what was measured at At. They are recorded with a change of the number or of a condition, and when they have moved
	// noticeably.
	At         time.Time                                        `json:"at"`
	Metrics    []autoscalingv2.MetricStatus                     `json:"metrics,omitempty"`
	Conditions []autoscalingv2.HorizontalPodAutoscalerCondition `json:"conditions,omitempty"`
}

func byAutoscaler(a, b AutoscalerState) int { return a.Address.Compare(b.Address) }

// Autoscaler returns what was decided for an autoscaler, or nil.
func (s *State) Autoscaler(a Address) *AutoscalerState {
	if i, ok := slices.BinarySearchFunc(s.Autoscalers, AutoscalerState{Address: a}, byAutoscaler); ok {
		return &s.Autoscalers[i]
	}
	return nil
}

// Chosen is the number that an autoscaler has chosen for an object; false when it has not yet chosen one.
func (s *State) Chosen(autoscaler, target Address) (int32, bool) {
	if a := s.Autoscaler(autoscaler); a != nil && a.Target == target {
		return a.Replicas, true
	}
	return 0, false
}

// Scaled is a workload whose number of pods an autoscaler chooses, as a plan has it.
type Scaled struct {
	Address    Address `json:"address"`
	Autoscaler Address `json:"autoscaler"`
	Replicas   int32   `json:"replicas"`
	Least      int32   `json:"least"`
	Most       int32   `json:"most"`
}
