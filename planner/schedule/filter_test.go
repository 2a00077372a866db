package schedule

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// TestFilters asks for a place on a single node; want is the error, "" for a placement.
func TestFilters(t *testing.T) {
	t.Parallel()
	noSchedule := taint("dedicated", "db", corev1.TaintEffectNoSchedule)
	always := corev1.ContainerRestartPolicyAlways
	other := func(name string, n int64) func(*Node) {
		return func(nd *Node) { nd.Allocatable.Other = map[corev1.ResourceName]int64{corev1.ResourceName(name): n} }
	}
	gpus := func(n string) *corev1.PodSpec {
		s := spec()
		s.Containers[0].Resources.Requests["nvidia.com/gpu"] = resource.MustParse(n)
		return s
	}
	const no = "0/1 nodes are available: 1 "
	const taintText = no + "node(s) had untolerated taint {dedicated: db}."
	const portText = no + "node(s) didn't have free ports for the requested pod ports."
	const selectorText = no + "node(s) didn't match Pod's node affinity/selector."
	tests := []struct {
		name string
		node Node
		run  []*corev1.PodSpec
		pod  *corev1.PodSpec
		want string
	}{
		{"nothing in the way", nodeOf("a1"), nil, spec(), ""},
		{"no specification", nodeOf("a1"), nil, nil, ""},

		{"not available", nodeOf("a1", lost("unreachable")), nil, spec(), no + "node(s) were not available."},
		{"not available comes first", nodeOf("a1", lost("x"), cordoned), nil, spec(named("a2")), no + "node(s) were not available."},

		{"cordoned", nodeOf("a1", cordoned), nil, spec(), no + "node(s) were unschedulable."},
		{"cordoned, tolerated", nodeOf("a1", cordoned), nil, spec(tolerating(corev1.Toleration{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists})), ""},
		{"cordoned, by name", nodeOf("a1", cordoned), nil, spec(named("a1")), ""},

		{"other name", nodeOf("a1"), nil, spec(named("a2")), no + "node(s) didn't match the requested node name."},

		{"taint", nodeOf("a1", noSchedule), nil, spec(), taintText},
		{"taint, tolerated", nodeOf("a1", noSchedule), nil, spec(tolerating(corev1.Toleration{Key: "dedicated", Value: "db"})), ""},
		{"taint, other value", nodeOf("a1", noSchedule), nil, spec(tolerating(corev1.Toleration{Key: "dedicated", Value: "web"})), taintText},
		{"taint, other effect", nodeOf("a1", noSchedule), nil, spec(tolerating(corev1.Toleration{Key: "dedicated", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})), taintText},
		{"taint, all tolerated", nodeOf("a1", noSchedule), nil, spec(tolerating(corev1.Toleration{Operator: corev1.TolerationOpExists})), ""},
		{"taint, by name", nodeOf("a1", noSchedule), nil, spec(named("a1")), ""},
		{"evicting taint, by name", nodeOf("a1", taint("dedicated", "db", corev1.TaintEffectNoExecute)), nil, spec(named("a1")), taintText},
		{"soft taint", nodeOf("a1", taint("dedicated", "db", corev1.TaintEffectPreferNoSchedule)), nil, spec(), ""},
		{"first of two taints", nodeOf("a1", noSchedule, taint("a", "b", corev1.TaintEffectNoExecute)), nil, spec(), taintText},
		{"taint without value", nodeOf("a1", taint("k", "", corev1.TaintEffectNoSchedule)), nil, spec(), no + "node(s) had untolerated taint {k: }."},

		{"selector", nodeOf("a1"), nil, spec(selects("disk", "ssd")), selectorText},
		{"selector matches", nodeOf("a1", label("disk", "ssd")), nil, spec(selects("disk", "ssd")), ""},
		{"affinity", nodeOf("a1", label("disk", "hdd")), nil, spec(requires(corev1.NodeSelectorOpNotIn, "disk", "hdd")), selectorText},
		{"affinity matches", nodeOf("a1", label("cores", "8")), nil, spec(requires(corev1.NodeSelectorOpGt, "cores", "4")), ""},

		{"port taken", nodeOf("a1"), []*corev1.PodSpec{spec(hostPorted("", 80))}, spec(hostPorted("", 80)), portText},
		{"port free", nodeOf("a1"), []*corev1.PodSpec{spec(hostPorted("", 80))}, spec(hostPorted("", 81)), ""},
		{"port on another address", nodeOf("a1"), []*corev1.PodSpec{spec(hostPorted("10.0.0.1", 80))}, spec(hostPorted("10.0.0.2", 80)), ""},
		{"port on every address", nodeOf("a1"), []*corev1.PodSpec{spec(hostPorted("10.0.0.1", 80))}, spec(hostPorted("0.0.0.0", 80)), portText},
		{"port of another protocol", nodeOf("a1"), []*corev1.PodSpec{spec(hostPorted("", 80))}, spec(hostPorted("", 80), func(s *corev1.PodSpec) {
			s.Containers[0].Ports[0].Protocol = corev1.ProtocolUDP
		}), ""},
		{"port of the host's network", nodeOf("a1"), []*corev1.PodSpec{spec(hostPorted("", 80))}, spec(hostPorted("", 0), func(s *corev1.PodSpec) { s.HostNetwork = true }), portText},
		{"port of a sidecar", nodeOf("a1"), []*corev1.PodSpec{spec(hostPorted("", 80))}, spec(func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{RestartPolicy: &always, Ports: []corev1.ContainerPort{{HostPort: 80}}}}
		}), portText},

		{"cpu just fits", nodeOf("a1"), []*corev1.PodSpec{spec(asks("1", ""))}, spec(asks("3", "")), ""},
		{"cpu", nodeOf("a1"), []*corev1.PodSpec{spec(asks("1", ""))}, spec(asks("3001m", "")), no + "Insufficient cpu."},
		{"memory", nodeOf("a1"), nil, spec(asks("", "9Gi")), no + "Insufficient memory."},
		{"all at once", nodeOf("a1", func(n *Node) { n.Allocatable.Pods = 0 }), nil, spec(asks("5", "9Gi")), "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods."},
		{"too many pods", nodeOf("a1", func(n *Node) { n.Allocatable.Pods = 1 }), []*corev1.PodSpec{spec()}, spec(), no + "Too many pods."},
		{"no requests on an overcommitted node", nodeOf("a1", func(n *Node) { n.Allocatable.MilliCPU = 500 }), []*corev1.PodSpec{spec(asks("1", ""))}, spec(), ""},
		{"assumed requests do not count", nodeOf("a1", func(n *Node) { n.Allocatable.MilliCPU, n.Allocatable.Memory = 1, 1 }), nil, spec(), ""},
		{"init container is larger", nodeOf("a1"), nil, spec(asks("1", ""), inits(requests("5", ""))), no + "Insufficient cpu."},
		{"init containers run one by one", nodeOf("a1"), nil, spec(asks("3", ""), inits(requests("4", ""), requests("4", ""))), ""},
		{"sidecar adds up", nodeOf("a1"), nil, spec(asks("3", ""), func(s *corev1.PodSpec) {
			c := requests("2", "")
			c.RestartPolicy = &always
			s.InitContainers = []corev1.Container{c}
		}), no + "Insufficient cpu."},
		{"overhead", nodeOf("a1"), nil, spec(asks("4", ""), func(s *corev1.PodSpec) {
			s.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m")}
		}), no + "Insufficient cpu."},
		{"extended resource", nodeOf("a1", other("nvidia.com/gpu", 2)), []*corev1.PodSpec{gpus("1")}, gpus("1"), ""},
		{"extended resource used up", nodeOf("a1", other("nvidia.com/gpu", 2)), []*corev1.PodSpec{gpus("1")}, gpus("2"), no + "Insufficient nvidia.com/gpu."},
		{"extended resource unknown", nodeOf("a1"), nil, gpus("1"), no + "Insufficient nvidia.com/gpu."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := New([]Node{tt.node}, nil, Options{})
			for i, sp := range tt.run {
				s.Add(Pod{Key: string(rune('a' + i)), Spec: sp}, "a1")
			}
			got := ""
			if _, err := s.Place(pod("p", tt.pod)); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func inits(cs ...corev1.Container) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { s.InitContainers = cs }
}

func requires(op corev1.NodeSelectorOperator, key string, values ...string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op, Values: values}},
			}}},
		}}
	}
}

func TestVolumesOnTwoNodes(t *testing.T) {
	t.Parallel()
	s := New(nodes("a1", "a2"), nil, Options{})
	_, err := s.Place(Pod{Key: "p", Spec: spec(), Pins: []Pin{{"a1", "volume data"}, {"a2", "volume logs"}}})
	if err == nil {
		t.Fatal("placed")
	}
	want := []string{
		"a1: node(s) had volume node affinity conflict (must be on a2: volume logs)",
		"a2: node(s) had volume node affinity conflict (must be on a1: volume data)",
	}
	if diff := cmp.Diff(want, err.Lines()); diff != "" {
		t.Error(diff)
	}
}

func TestFitError(t *testing.T) {
	t.Parallel()
	big := spec(asks("3", "6Gi"))
	db := taint("node-role.kubernetes.io/control-plane", "", corev1.TaintEffectNoSchedule)
	tests := []struct {
		name  string
		nodes []Node
		run   []Pod
		want  string
		lines []string
	}{
		{"no nodes", nil, nil, "no nodes available to schedule pods", nil},
		{
			"counted and sorted", []Node{nodeOf("a1"), nodeOf("a2", db), nodeOf("a3", db)}, []Pod{onNode("x", "a1", big)},
			"0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 2 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }.",
			[]string{
				"a1: Insufficient cpu (requested 2, 1 of 4 left), Insufficient memory (requested 4Gi, 2Gi of 8Gi left)",
				"a2: node(s) had untolerated taint {node-role.kubernetes.io/control-plane: } (NoSchedule)",
				"a3: node(s) had untolerated taint {node-role.kubernetes.io/control-plane: } (NoSchedule)",
			},
		},
		{
			"two resources on two nodes", nodes("a1", "a2"), []Pod{onNode("x", "a1", big), onNode("y", "a2", big)},
			"0/2 nodes are available: 2 Insufficient cpu, 2 Insufficient memory.",
			[]string{
				"a1: Insufficient cpu (requested 2, 1 of 4 left), Insufficient memory (requested 4Gi, 2Gi of 8Gi left)",
				"a2: Insufficient cpu (requested 2, 1 of 4 left), Insufficient memory (requested 4Gi, 2Gi of 8Gi left)",
			},
		},
		{
			"availability", []Node{nodeOf("a1", lost("unreachable: dial tcp 10.0.0.1:22: i/o timeout")), nodeOf("a2", lost("containerd is not running"))}, nil,
			"0/2 nodes are available: 2 node(s) were not available.",
			[]string{
				"a1: node(s) were not available (unreachable: dial tcp 10.0.0.1:22: i/o timeout)",
				"a2: node(s) were not available (containerd is not running)",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := New(tt.nodes, tt.run, Options{}).Place(pod("p", spec(asks("2", "4Gi"))))
			if err == nil {
				t.Fatal("placed")
			}
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err.Error(), tt.want)
			}
			if diff := cmp.Diff(tt.lines, err.Lines()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
