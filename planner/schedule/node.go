package schedule

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// node is a node with the sum of what its pods take.
type node struct {
	Node
	index   int
	zone    int          // number of its zone; -1 without the label
	object  *corev1.Node // for the matchers of k8s.io/component-helpers
	version uint64       // of the scheduler when a pod last came or left

	pods            int
	cpu, memory     int64 // requested
	scoreCPU        int64 // the same with Kubernetes' assumptions for what is not requested
	scoreMemory     int64
	other           map[corev1.ResourceName]int64
	ports           []hostPort
	schedulingTaint bool // it has a taint that refuses new pods
}

func newNode(index int, n Node, zones map[string]int) *node {
	c := &node{Node: n, index: index, zone: -1, version: 1, other: map[corev1.ResourceName]int64{}}
	c.object = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}}
	if z, ok := n.Labels[corev1.LabelTopologyZone]; ok {
		if _, known := zones[z]; !known {
			zones[z] = len(zones)
		}
		c.zone = zones[z]
	}
	for _, t := range n.Taints {
		c.schedulingTaint = c.schedulingTaint || t.Effect != corev1.TaintEffectPreferNoSchedule
	}
	return c
}

// take adds (sign +1) or gives back (-1) what a pod takes.
func (n *node) take(d *demand, sign int64, version uint64) {
	n.version = version
	n.pods += int(sign)
	n.cpu += sign * d.cpu
	n.memory += sign * d.memory
	n.scoreCPU += sign * d.scoreCPU
	n.scoreMemory += sign * d.scoreMemory
	for _, r := range d.other {
		n.other[r.name] += sign * r.amount
	}
	for _, p := range d.ports {
		n.port(p, sign)
	}
}

func (n *node) port(p hostPort, sign int64) {
	if sign > 0 {
		n.ports = append(n.ports, p)
		return
	}
	for i, q := range n.ports {
		if p == q {
			n.ports[i] = n.ports[len(n.ports)-1]
			n.ports = n.ports[:len(n.ports)-1]
			return
		}
	}
}

// owner counts the pods of one owner per node and per zone.
type owner struct {
	nodes []int32
	zones map[int]int32
}

func (s *Scheduler) ownerOf(name string) *owner {
	o := s.owners[name]
	if o == nil {
		o = &owner{make([]int32, len(s.nodes)), map[int]int32{}}
		s.owners[name] = o
	}
	return o
}

func (o *owner) count(n *node, sign int32) {
	o.nodes[n.index] += sign
	if n.zone >= 0 {
		o.zones[n.zone] += sign
	}
}
