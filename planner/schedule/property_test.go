package schedule

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

// TestPlacementsBreakNoFilter places pods of a few shapes on random nodes, removing some in between, and
// recounts from scratch after each step what the nodes give and what they have.
func TestPlacementsBreakNoFilter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ns, specs := drawNodes(t), drawSpecs(t)
		s := New(ns, nil, Options{})
		byName := map[string]Node{}
		for _, n := range ns {
			byName[n.Name] = n
		}
		running := map[string]Pod{}
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			p := Pod{Key: fmt.Sprint("p", rapid.IntRange(0, 30).Draw(t, "key")), Owner: rapid.SampledFrom([]string{"", "web", "db"}).Draw(t, "owner"), Spec: rapid.SampledFrom(specs).Draw(t, "spec")}
			if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				s.Remove(p)
				delete(running, p.Key)
				continue
			}
			delete(running, p.Key)
			fresh := New(ns, list(running), Options{})
			got, err := s.Place(p)
			again, errAgain := fresh.Place(p)
			if diff := cmp.Diff(again, got) + cmp.Diff(errAgain, err); diff != "" {
				t.Fatalf("step %d: a scheduler that remembers decides otherwise than a fresh one:\n%s", i, diff)
			}
			if err != nil {
				if len(err.Refusals) != len(ns) {
					t.Fatalf("%d nodes, reasons of %d", len(ns), len(err.Refusals))
				}
				continue
			}
			p.Node = got.Node
			running[p.Key] = p
			verify(t, byName[got.Node], p, running)
		}
	})
}

// verify checks a placement by the plainest means.
func verify(t *rapid.T, n Node, p Pod, running map[string]Pod) {
	if n.Unschedulable && p.Spec.Tolerations == nil || n.NotAvailable != "" {
		t.Fatalf("%s was placed on %s, which takes none", p.Key, n.Name)
	}
	for k, v := range p.Spec.NodeSelector {
		if n.Labels[k] != v {
			t.Fatalf("%s was placed on %s, whose labels do not match", p.Key, n.Name)
		}
	}
	if slices.ContainsFunc(n.Taints, func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectPreferNoSchedule }) && p.Spec.Tolerations == nil {
		t.Fatalf("%s was placed on %s, whose taint it does not tolerate", p.Key, n.Name)
	}
	var cpu, memory int64
	pods, ports := 0, map[int32]bool{}
	for _, q := range running {
		if q.Node != n.Name {
			continue
		}
		pods++
		for _, c := range q.Spec.Containers {
			cpu += c.Resources.Requests.Cpu().MilliValue()
			memory += c.Resources.Requests.Memory().Value()
			for _, hp := range c.Ports {
				if ports[hp.HostPort] {
					t.Fatalf("host port %d is taken twice on %s", hp.HostPort, n.Name)
				}
				ports[hp.HostPort] = true
			}
		}
	}
	if cpu > n.Allocatable.MilliCPU || memory > n.Allocatable.Memory || pods > n.Allocatable.Pods {
		t.Fatalf("%s is overcommitted: %dm cpu, %d memory, %d pods", n.Name, cpu, memory, pods)
	}
}

func drawNodes(t *rapid.T) []Node {
	var ns []Node
	for i := range rapid.IntRange(1, 8).Draw(t, "nodes") {
		n := nodeOf(fmt.Sprint("n", i), zone(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "zone")))
		n.Allocatable = Resources{
			MilliCPU: rapid.Int64Range(0, 4000).Draw(t, "cpu"), Memory: rapid.Int64Range(0, 8<<30).Draw(t, "memory"), Pods: rapid.IntRange(0, 6).Draw(t, "pods")}
		n.Unschedulable = rapid.IntRange(0, 5).Draw(t, "cordon") == 0
		if rapid.IntRange(0, 5).Draw(t, "lost") == 0 {
			n.NotAvailable = "unreachable"
		}
		if rapid.Bool().Draw(t, "ssd") {
			n.Labels["disk"] = "ssd"
		}
		if rapid.IntRange(0, 3).Draw(t, "tainted") == 0 {
			effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule}
			n.Taints = []corev1.Taint{{Key: "k", Value: "v", Effect: rapid.SampledFrom(effects).Draw(t, "effect")}}
		}
		ns = append(ns, n)
	}
	return ns
}

func drawSpecs(t *rapid.T) []*corev1.PodSpec {
	var specs []*corev1.PodSpec
	for range rapid.IntRange(1, 4).Draw(t, "shapes") {
		s := spec()
		if rapid.Bool().Draw(t, "asks for cpu") {
			s.Containers[0].Resources.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(rapid.Int64Range(0, 2000).Draw(t, "cpu"), resource.DecimalSI)
		}
		if rapid.Bool().Draw(t, "asks for memory") {
			s.Containers[0].Resources.Requests[corev1.ResourceMemory] = *resource.NewQuantity(rapid.Int64Range(0, 4<<30).Draw(t, "memory"), resource.BinarySI)
		}
		if rapid.IntRange(0, 2).Draw(t, "port") == 0 {
			hostPorted("", rapid.Int32Range(80, 82).Draw(t, "number"))(s)
		}
		if rapid.IntRange(0, 2).Draw(t, "selects") == 0 {
			selects("disk", "ssd")(s)
		}
		if rapid.Bool().Draw(t, "tolerates") {
			tolerating(corev1.Toleration{Operator: corev1.TolerationOpExists})(s)
		}
		specs = append(specs, s)
	}
	return specs
}

func list(pods map[string]Pod) []Pod {
	var ps []Pod
	for _, p := range pods {
		ps = append(ps, p)
	}
	return ps
}
