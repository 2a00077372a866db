package schedule

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// points runs one score over the nodes and returns what each node gets.
func pointsOf(t *testing.T, name string, s *Scheduler, p Pod) []int64 {
	t.Helper()
	sh := s.shapeOf(p)
	s.refresh(sh)
	for r, b := range sh.ratings {
		if b.name == name {
			return append([]int64{}, s.points(sh, r, s.nodes)...)
		}
	}
	return nil
}

func TestScores(t *testing.T) {
	t.Parallel()
	soft := func(k string) func(*Node) { return taint(k, "", corev1.TaintEffectPreferNoSchedule) }
	web := func(key, node string) Pod { return Pod{Key: key, Owner: "web", Node: node, Spec: spec()} }
	tests := []struct {
		name, score string
		nodes       []Node
		run         []Pod
		pod         Pod
		want        []int64
	}{
		// The worked check of semantics.md 2.7.
		{"worked check", "NodeResourcesFit", nodes("a1"), []Pod{onNode("x", "a1", spec(asks("1", "2Gi")))}, pod("p", spec(asks("500m", "1Gi"))), []int64{62}},
		{"worked check", "NodeResourcesBalancedAllocation", nodes("a1"), []Pod{onNode("x", "a1", spec(asks("1", "2Gi")))}, pod("p", spec(asks("500m", "1Gi"))), []int64{100}},
		// 100m of 4000m and 200Mi of 8192Mi are assumed for each of the two: (95 + 95) / 2.
		{"assumed requests", "NodeResourcesFit", nodes("a1"), []Pod{onNode("x", "a1", spec())}, pod("p", spec()), []int64{95}},
		{"more than there is", "NodeResourcesFit", nodes("a1"), []Pod{onNode("x", "a1", spec(asks("4", "0")))}, pod("p", spec(asks("1", "4Gi"))), []int64{25}},
		// (1 - |0.75 - 0.25| / 2) * 100
		{"unbalanced", "NodeResourcesBalancedAllocation", nodes("a1"), nil, pod("p", spec(asks("3", "2Gi"))), []int64{75}},
		{"nothing requested", "NodeResourcesBalancedAllocation", nodes("a1"), nil, pod("p", spec()), nil},
		{"soft taints", "TaintToleration", []Node{nodeOf("a1"), nodeOf("a2", soft("k")), nodeOf("a3", soft("k"), soft("l"))}, nil, pod("p", spec()), []int64{100, 50, 0}},
		{"soft taint tolerated", "TaintToleration", []Node{nodeOf("a1"), nodeOf("a2", soft("k"))}, nil,
			pod("p", spec(tolerating(corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists}))), []int64{100, 100}},
		{"no soft taints", "TaintToleration", nodes("a1", "a2"), nil, pod("p", spec()), nil},
		// Costs 2+2ln5=5.2, 2+1ln5=3.6, 2: 5, 4, 2.
		{"spread over nodes", "PodTopologySpread", nodes("a1", "a2", "a3"), []Pod{web("0", "a1"), web("1", "a1"), web("2", "a2")}, pod("p", spec()), []int64{40, 60, 100}},
		// Zone a has one pod: a1 2+ln5+4+ln4=9, a2 2+4+ln4=7, b1 6.
		{"spread over zones", "PodTopologySpread", []Node{nodeOf("a1", zone("a")), nodeOf("a2", zone("a")), nodeOf("b1", zone("b"))}, []Pod{web("0", "a1")}, pod("p", spec()), []int64{66, 88, 100}},
		{"pods of others", "PodTopologySpread", nodes("a1", "a2"), []Pod{onNode("0", "a1", spec())}, pod("p", spec()), []int64{100, 100}},
		{"pod alone", "PodTopologySpread", nodes("a1", "a2"), nil, Pod{Key: "p", Spec: spec()}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.score+"/"+tt.name, func(t *testing.T) {
			t.Parallel()
			got := pointsOf(t, tt.score, New(tt.nodes, tt.run, Options{}), tt.pod)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
