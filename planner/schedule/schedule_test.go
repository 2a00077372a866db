package schedule

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// nodeOf returns a node of 4 cpus, 8 GiB and 110 pods, changed by with.
func nodeOf(name string, with ...func(*Node)) Node {
	n := Node{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name},
		Allocatable: Resources{MilliCPU: 4000, Memory: 8 << 30, Pods: 110}}
	for _, f := range with {
		f(&n)
	}
	return n
}

func label(k, v string) func(*Node) { return func(n *Node) { n.Labels[k] = v } }

func taint(k, v string, e corev1.TaintEffect) func(*Node) {
	return func(n *Node) { n.Taints = append(n.Taints, corev1.Taint{Key: k, Value: v, Effect: e}) }
}

func cordoned(n *Node) { n.Unschedulable = true }

func lost(why string) func(*Node) { return func(n *Node) { n.NotAvailable = why } }

func zone(z string) func(*Node) { return label(corev1.LabelTopologyZone, z) }

func nodes(names ...string) []Node {
	var ns []Node
	for _, n := range names {
		ns = append(ns, nodeOf(n))
	}
	return ns
}

// requests returns a container that asks for cpu and memory; "" asks for nothing.
func requests(cpu, memory string) corev1.Container {
	l := corev1.ResourceList{}
	for name, q := range map[corev1.ResourceName]string{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory} {
		if q != "" {
			l[name] = resource.MustParse(q)
		}
	}
	return corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{Requests: l}}
}

func spec(with ...func(*corev1.PodSpec)) *corev1.PodSpec {
	s := &corev1.PodSpec{Containers: []corev1.Container{requests("", "")}}
	for _, f := range with {
		f(s)
	}
	return s
}

func asks(cpu, memory string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { s.Containers = []corev1.Container{requests(cpu, memory)} }
}

func selects(k, v string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{k: v} }
}

func named(n string) func(*corev1.PodSpec) { return func(s *corev1.PodSpec) { s.NodeName = n } }

func tolerating(t corev1.Toleration) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { s.Tolerations = append(s.Tolerations, t) }
}

func hostPorted(ip string, port int32) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.Containers[0].Ports = append(s.Containers[0].Ports, corev1.ContainerPort{ContainerPort: 80, HostPort: port, HostIP: ip})
	}
}

func pod(key string, s *corev1.PodSpec) Pod {
	return Pod{Key: key, Owner: "web", Namespace: "dev", Spec: s}
}

func onNode(key, node string, s *corev1.PodSpec) Pod {
	p := pod(key, s)
	p.Owner, p.Node = "other", node
	return p
}

func TestPlaceSpreadsReplicas(t *testing.T) {
	t.Parallel()
	s := New(nodes("a1", "a2", "a3"), nil, Options{})
	shared := spec()
	count := map[string]int{}
	for i := range 9 {
		p, err := s.Place(pod(fmt.Sprint("web/", i), shared))
		if err != nil {
			t.Fatal(err)
		}
		count[p.Node]++
	}
	if diff := cmp.Diff(map[string]int{"a1": 3, "a2": 3, "a3": 3}, count); diff != "" {
		t.Error(diff)
	}
}

func TestPlaceSpreadsOverZonesFirst(t *testing.T) {
	t.Parallel()
	// Three nodes in zone a, one in zone b: the second replica must go to b, whatever node the first took.
	s := New([]Node{nodeOf("a1", zone("a")), nodeOf("a2", zone("a")), nodeOf("a3", zone("a")), nodeOf("b1", zone("b"))},
		[]Pod{{Key: "0", Owner: "web", Node: "a2", Spec: spec()}}, Options{})
	got, err := s.Place(pod("1", spec()))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Placement{"b1", "spread over 2 zones"}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestWhy(t *testing.T) {
	t.Parallel()
	big := spec(asks("3", "6Gi"))
	ssd := []Node{nodeOf("a1"), nodeOf("a2", label("disk", "ssd")), nodeOf("a3")}
	tests := []struct {
		name  string
		nodes []Node
		run   []Pod
		pod   Pod
		want  Placement
	}{
		{"a single node", nodes("a1"), nil, pod("p", spec()), Placement{"a1", "only node"}},
		{"selector", ssd, nil, pod("p", spec(selects("disk", "ssd"))), Placement{"a2", "only node with disk=ssd"}},
		{"node name", ssd, nil, pod("p", spec(named("a3"))), Placement{"a3", "node_name is a3"}},
		{"volume", ssd, nil, Pod{Key: "p", Spec: spec(), Pins: []Pin{{"a1", "volume data is here"}}}, Placement{"a1", "volume data is here"}},
		{"volume without a word", ssd, nil, Pod{Key: "p", Spec: spec(), Pins: []Pin{{Node: "a1"}}}, Placement{"a1", "its volume is here"}},
		{"least allocated", nodes("a1", "a2"), []Pod{onNode("x", "a1", big)}, pod("p", spec()), Placement{"a2", "least allocated of 2"}},
		{"spread", nodes("a1", "a2"), []Pod{{Key: "x", Owner: "web", Node: "a1", Spec: spec()}}, pod("p", spec()), Placement{"a2", "spread over 2 nodes"}},
		{"room", nodes("a1", "a2"), []Pod{onNode("x", "a1", big)}, pod("p", big), Placement{"a2", "only node with room for it"}},
		{"taint", []Node{nodeOf("a1", taint("k", "v", corev1.TaintEffectNoSchedule)), nodeOf("a2")}, nil, pod("p", spec()), Placement{"a2", "only node whose taints it tolerates"}},
		{"several rules", []Node{nodeOf("a1", cordoned), nodeOf("a2", lost("unreachable")), nodeOf("a3")}, nil, pod("p", spec()), Placement{"a3", "only node of 3 that fits"}},
		{"preference", []Node{nodeOf("a1"), nodeOf("a2", taint("k", "", corev1.TaintEffectPreferNoSchedule))}, nil, pod("p", spec()), Placement{"a1", "fewest PreferNoSchedule taints of 2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := New(tt.nodes, tt.run, Options{}).Place(tt.pod)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTiesBreakByPodAndNode(t *testing.T) {
	t.Parallel()
	place := func(salt string, names ...string) map[string]int {
		count := map[string]int{}
		for i := range 300 {
			got, err := New(nodes(names...), nil, Options{Salt: salt}).Place(pod(fmt.Sprint("p", i), spec()))
			if err != nil {
				t.Fatal(err)
			}
			if got.Why != "one of 3 equal nodes" {
				t.Fatalf("why: %q", got.Why)
			}
			count[got.Node]++
		}
		return count
	}
	first := place("", "a1", "a2", "a3")
	for n, c := range first {
		if c < 60 || c > 140 {
			t.Errorf("node %s was chosen %d times of 300: ties are not even", n, c)
		}
	}
	if diff := cmp.Diff(first, place("", "a3", "a1", "a2")); diff != "" {
		t.Errorf("the order of the inventory matters:\n%s", diff)
	}
	if cmp.Equal(first, place("blue", "a1", "a2", "a3")) {
		t.Error("the salt does not matter")
	}
}

func TestRemoveGivesBack(t *testing.T) {
	t.Parallel()
	s := New(nodes("a1"), nil, Options{})
	full := spec(asks("4", "8Gi"), hostPorted("", 8080))
	a, b := pod("a", full), pod("b", full)
	if _, err := s.Place(a); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Place(b); err == nil {
		t.Fatal("two pods share what one takes")
	}
	s.Remove(a)
	s.Remove(a)
	if _, err := s.Place(b); err != nil {
		t.Fatalf("after the first pod left: %v", err)
	}
	if _, err := s.Place(b); err != nil {
		t.Fatalf("a pod placed again is in its own way: %v", err)
	}
}

func TestPlaceLooksOnceForPodsOfOneShape(t *testing.T) {
	t.Parallel()
	var ns []Node
	for i := range 50 {
		ns = append(ns, nodeOf(fmt.Sprintf("n%02d", i)))
	}
	s := New(ns, nil, Options{})
	asked := 0
	s.filters = append(s.filters, filter{name: "Count", reach: local, compile: func(*request) check {
		return func(*node) []Reason { asked++; return nil }
	}})
	shared := spec()
	for i := range 100 {
		if _, err := s.Place(pod(fmt.Sprint(i), shared)); err != nil {
			t.Fatal(err)
		}
	}
	if want := 50 + 99; asked != want {
		t.Errorf("a filter of local reach was asked %d times for 100 pods on 50 nodes, want %d", asked, want)
	}
}

func TestUnknownNodes(t *testing.T) {
	t.Parallel()
	s := New(nodes("a1"), []Pod{onNode("x", "gone", spec())}, Options{})
	s.Remove(onNode("x", "gone", spec()))
	if err := s.Fits(pod("x", spec()), "gone"); err == nil || err.Error() != "node gone is not in the inventory" {
		t.Errorf("got %v", err)
	}
}

func TestFits(t *testing.T) {
	t.Parallel()
	big := spec(asks("3", "6Gi"), hostPorted("", 80))
	tests := []struct {
		name string
		node Node
		pod  Pod
		want string
	}{
		{"its own usage", nodeOf("a1"), onNode("x", "a1", big), ""},
		{"cordon", nodeOf("a1", cordoned), onNode("x", "a1", big), ""},
		{"NoSchedule", nodeOf("a1", taint("k", "v", corev1.TaintEffectNoSchedule)), onNode("x", "a1", big), ""},
		{"label gone", nodeOf("a1"), onNode("x", "a1", spec(selects("disk", "ssd"))), ""},
		{"shrunken node", nodeOf("a1", func(n *Node) { n.Allocatable.MilliCPU = 1 }), onNode("x", "a1", big), ""},
		{"unreachable", nodeOf("a1", lost("unreachable")), onNode("x", "a1", big), ""},
		{"NoExecute", nodeOf("a1", taint("k", "v", corev1.TaintEffectNoExecute)), onNode("x", "a1", big),
			"node a1: node(s) had untolerated taint {k: v} (NoExecute)"},
		{"node name", nodeOf("a1"), onNode("x", "a1", spec(named("a2"))),
			"node a1: node(s) didn't match the requested node name (node_name is a2)"},
		{"volume elsewhere", nodeOf("a1"), Pod{Key: "x", Node: "a1", Spec: spec(), Pins: []Pin{{"a2", "volume data"}}},
			"node a1: node(s) had volume node affinity conflict (must be on a2: volume data)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := New([]Node{tt.node, nodeOf("a2")}, []Pod{tt.pod}, Options{})
			before := *s.byName["a1"]
			got := ""
			if err := s.Fits(tt.pod, "a1"); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if after := s.byName["a1"]; after.cpu != before.cpu || after.pods != before.pods || len(after.ports) != len(before.ports) {
				t.Error("asking changed what the node's pods take")
			}
		})
	}
}
