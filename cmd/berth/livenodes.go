package main

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

// nodes lists the applied nodes as Kubernetes' objects.
func (l *live) nodes() []corev1.Node {
	var out []corev1.Node
	for i := range l.state.Nodes {
		out = append(out, l.node(&l.state.Nodes[i]))
	}
	return out
}

func (l *live) node(n *api.NodeState) corev1.Node {
	seen := l.seen.Node(n.Name)
	node := corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: n.Name},
		Spec:       corev1.NodeSpec{PodCIDR: n.PodCIDR},
	}
	if n.PodCIDR != "" {
		node.Spec.PodCIDRs = n.PodCIDRs()
	}
	if n.JoinedAt != nil {
		node.CreationTimestamp = metav1.NewTime(*n.JoinedAt)
	}
	var reserved corev1.ResourceList
	if n.Node != nil {
		node.Labels, node.Annotations, reserved = n.Node.Labels, n.Node.Annotations, n.Node.Reserved
		node.Spec.Unschedulable, node.Spec.Taints = n.Node.Unschedulable, n.Node.Taints
	}
	facts, boot := n.Facts, n.BootID
	if seen != nil && seen.Unreachable == "" {
		facts, boot = seen.Facts, cmp.Or(seen.BootID, boot)
	}
	st := &node.Status
	st.NodeInfo = corev1.NodeSystemInfo{
		BootID: boot, OSImage: facts.OS, KernelVersion: facts.Kernel, ContainerRuntimeVersion: "containerd://" + facts.Containerd,
		Architecture: facts.Arch, OperatingSystem: "linux",
	}
	st.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.IP}}
	if n.SecondIP != "" {
		st.Addresses = append(st.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: n.SecondIP})
	}
	st.Addresses = append(st.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: facts.Hostname})
	st.Capacity = corev1.ResourceList{
		corev1.ResourceCPU: *resource.NewQuantity(int64(facts.CPUs), resource.DecimalSI), corev1.ResourceMemory: *resource.NewQuantity(facts.MemoryBytes, resource.BinarySI),
		corev1.ResourcePods: *resource.NewQuantity(int64(facts.MaxPods), resource.DecimalSI),
	}
	st.Allocatable = st.Capacity.DeepCopy()
	for name, q := range reserved {
		if have, ok := st.Allocatable[name]; ok {
			have.Sub(q)
			st.Allocatable[name] = have
		}
	}
	st.Conditions = []corev1.NodeCondition{l.nodeReady(seen)}
	if lost := l.state.LostNode(n.Name); lost != nil {
		node.Spec.Taints = append(slices.Clone(node.Spec.Taints), lost.Taints()...)
		if st.Conditions[0].Status != corev1.ConditionTrue {
			st.Conditions = lost.Conditions()
		}
	}
	return node
}

// nodeReady is what `get nodes`, `get pods` and every other command say of a host that was not reached: the words of the
// transport, once.
func (l *live) nodeReady(seen *api.NodeObservation) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "HostReady", Message: "SSH, containerd and iptables answer"}
	switch {
	case seen == nil:
		c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "HostNotAsked", "the host was not asked"
	case seen.Unreachable != "":
		c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "HostUnreachable", seen.Unreachable
	case seen.Problems.HasErrors():
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "HostProblem", seen.Problems[0].Summary+": "+seen.Problems[0].Detail
	}
	return c
}
