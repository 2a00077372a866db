package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
)

// What the pods of a daemon set tolerate, so that no trouble of their node takes them away (semantics.md 3.5).
func TestDaemonSetTolerations(t *testing.T) {
	t.Parallel()
	always := []string{
		"node.kubernetes.io/disk-pressure:NoSchedule", "node.kubernetes.io/memory-pressure:NoSchedule", "node.kubernetes.io/not-ready:NoExecute",
		"node.kubernetes.io/pid-pressure:NoSchedule", "node.kubernetes.io/unreachable:NoExecute", "node.kubernetes.io/unschedulable:NoSchedule",
	}
	five := int64(5)
	tests := []struct {
		name        string
		hostNetwork bool
		own         []corev1.Toleration
		want        []string
	}{
		{"nothing of its own", false, nil, always},
		{"on the host's network", true, nil, append([]string{"node.kubernetes.io/network-unavailable:NoSchedule"}, always...)},
		{"of its own", false, []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, append([]string{"dedicated:NoSchedule"}, always...)},
		{"one that would end", false, []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &five}}, always},
		{"one of them already", false, []corev1.Toleration{{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, always},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := &appsv1.DaemonSet{}
			d.Spec.Template.Spec.HostNetwork, d.Spec.Template.Spec.Tolerations = tt.hostNetwork, tt.own
			w, err := For(&api.Object{Value: d}, Inputs{Pin: asWritten, Nodes: func(*Template) []string { return []string{"a1"} }})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range w.Template.Spec.Tolerations {
				if o.Operator != corev1.TolerationOpExists || o.TolerationSeconds != nil {
					t.Errorf("%+v ends, or is about a value", o)
				}
				got = append(got, fmt.Sprintf("%s:%s", o.Key, o.Effect))
			}
			slices.SortFunc(got, strings.Compare)
			want := slices.Sorted(slices.Values(tt.want))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if len(d.Spec.Template.Spec.Tolerations) != len(tt.own) {
				t.Error("the object that was given is changed")
			}
		})
	}
}

// Both bounds of a daemon set round up, and one of them is 0.
func TestDaemonSetBounds(t *testing.T) {
	t.Parallel()
	number, percent := intstr.FromInt32, intstr.FromString
	tests := []struct {
		name               string
		nodes              int
		surge, unavailable *intstr.IntOrString
		want               PerNode
	}{
		{"default", 5, nil, nil, PerNode{Unavailable: 1}},
		{"a share of the nodes rounds up", 5, nil, ptr(percent("25%")), PerNode{Unavailable: 2}},
		{"a surge alone", 5, ptr(percent("25%")), nil, PerNode{Surge: 2}},
		{"a surge and no pod missing", 5, ptr(number(2)), ptr(number(0)), PerNode{Surge: 2}},
		{"nothing could change", 5, ptr(number(0)), ptr(number(0)), PerNode{Unavailable: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := &appsv1.DaemonSet{}
			d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: tt.surge, MaxUnavailable: tt.unavailable}
			w, err := For(&api.Object{Value: d}, Inputs{Pin: asWritten, Nodes: func(*Template) []string { return make([]string, tt.nodes) }})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Order(tt.want), w.Order); diff != "" {
				t.Error(diff)
			}
		})
	}
}
