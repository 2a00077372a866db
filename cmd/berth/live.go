package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
)

// live is what was applied together with what the hosts show now, as Kubernetes' objects with their status.
type live struct {
	state *api.State
	seen  *api.Observation
	now   time.Time
}

// look reads the state and asks every node that it knows.
func look(ctx context.Context, g *globals) (*live, error) {
	state, err := readState(ctx, g)
	if err != nil {
		return nil, err
	}
	r := &round{g: g, emit: func(api.Event) {}}
	r.opts.parallelism = defaultParallelism
	r.connect()
	defer r.close()
	seen := executor.Observe(ctx, r.executor(), nodesToSee(nil, state))
	return &live{state, seen, g.proc.Now()}, ctx.Err()
}

// pods lists the pods of the state and those that only the hosts know, by namespace and name.
func (l *live) pods() []corev1.Pod {
	byUID := map[string]*api.ObservedPod{}
	for _, n := range l.seen.Nodes {
		for i := range n.Pods {
			byUID[n.Pods[i].UID] = &n.Pods[i]
		}
	}
	var pods []corev1.Pod
	for i := range l.state.Pods {
		p := &l.state.Pods[i]
		seen := byUID[p.UID]
		delete(byUID, p.UID)
		pods = append(pods, l.pod(p, seen))
	}
	for _, n := range l.seen.Nodes {
		for i := range n.Pods {
			p := &n.Pods[i]
			if byUID[p.UID] == nil || p.Lineage != l.state.Lineage {
				continue
			}
			known := api.PodState{Address: p.Address, Namespace: p.Namespace, UID: p.UID, Node: n.Name, Hash: p.Hash, IP: p.IP, Labels: p.Labels}
			pods = append(pods, l.pod(&known, p))
		}
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return pods
}

// pod puts what was applied and what is seen into one Kubernetes pod. A nil seen means that the host does not
// show it, or could not be asked.
func (l *live) pod(p *api.PodState, seen *api.ObservedPod) corev1.Pod {
	pod := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: p.Address.Pod, Namespace: p.Namespace, UID: types.UID(p.UID), Labels: p.Labels, Annotations: map[string]string{api.AnnAddress: p.Address.Owner().String()}},
	}
	if p.Spec != nil {
		pod.Spec = *p.Spec
	}
	pod.Spec.NodeName = p.Node
	st := &pod.Status
	st.PodIP = p.IP
	if n := l.state.Node(p.Node); n != nil {
		st.HostIP = n.IP
	}
	node := l.seen.Node(p.Node)
	switch {
	case node == nil || node.Unreachable != "":
		st.Phase, st.Reason = corev1.PodUnknown, "NodeLost"
		if node != nil {
			st.Message = node.Unreachable
		}
		return pod
	case seen == nil:
		st.Phase, st.Reason = corev1.PodFailed, "Missing"
		st.Message = "The host does not have this pod. berth apply creates it again."
		return pod
	}
	l.status(&pod, p, seen)
	addEphemeral(&pod, seen)
	return pod
}

func (l *live) status(pod *corev1.Pod, p *api.PodState, seen *api.ObservedPod) {
	st := &pod.Status
	pod.CreationTimestamp = metav1.NewTime(seen.CreatedAt)
	st.StartTime = &pod.CreationTimestamp
	st.PodIP = seen.IP
	if seen.IP != "" {
		st.PodIPs = []corev1.PodIP{{IP: seen.IP}}
	}
	inits := map[string]bool{}
	for _, c := range pod.Spec.InitContainers {
		inits[c.Name] = true
	}
	ready := p.Ready && seen.SandboxReady
	running, ended, failed := 0, 0, 0
	for _, c := range seen.Containers {
		cs := containerStatus(c, ready)
		if inits[c.Name] {
			st.InitContainerStatuses = append(st.InitContainerStatuses, cs)
			continue
		}
		st.ContainerStatuses = append(st.ContainerStatuses, cs)
		switch {
		case c.State == api.ContainerRunning:
			running++
		case c.State == api.ContainerExited && c.ExitCode == 0:
			ended++
		case c.State == api.ContainerExited:
			ended++
			failed++
		}
	}
	all := len(st.ContainerStatuses)
	switch {
	case running == 0 && all > 0 && ended == all && failed > 0 && pod.Spec.RestartPolicy == corev1.RestartPolicyNever:
		st.Phase = corev1.PodFailed
	case running == 0 && all > 0 && ended == all && failed == 0 && pod.Spec.RestartPolicy != corev1.RestartPolicyAlways && pod.Spec.RestartPolicy != "":
		st.Phase = corev1.PodSucceeded
	case running+ended > 0:
		st.Phase = corev1.PodRunning
	default:
		st.Phase = corev1.PodPending
	}
	cond := func(t corev1.PodConditionType, ok bool) {
		v := corev1.ConditionFalse
		if ok {
			v = corev1.ConditionTrue
		}
		st.Conditions = append(st.Conditions, corev1.PodCondition{Type: t, Status: v})
	}
	cond(corev1.PodScheduled, true)
	cond(corev1.ContainersReady, ready && running == all && all > 0)
	cond(corev1.PodReady, ready && running == all && all > 0)
}

func containerStatus(c api.ObservedContainer, podReady bool) corev1.ContainerStatus {
	cs := corev1.ContainerStatus{Name: c.Name, ContainerID: "containerd://" + c.ID, Image: c.Image, ImageID: c.ImageID, RestartCount: int32(c.Attempt)}
	started := c.State == api.ContainerRunning
	cs.Started = &started
	switch c.State {
	case api.ContainerRunning:
		cs.Ready = podReady
		cs.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(c.StartedAt)}
	case api.ContainerExited:
		reason := c.Reason
		if reason == "" {
			reason = map[bool]string{true: "Completed", false: "Error"}[c.ExitCode == 0]
		}
		cs.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: c.ExitCode, Reason: reason, Message: c.Message, StartedAt: metav1.NewTime(c.StartedAt), FinishedAt: metav1.NewTime(c.FinishedAt), ContainerID: cs.ContainerID}
	default:
		cs.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	}
	return cs
}

// deployments lists the applied deployments with the status that their pods give them.
func (l *live) deployments() []api.Deployment {
	pods := l.pods()
	var out []api.Deployment
	for _, o := range l.state.Objects {
		d, ok := o.Value.(*api.Deployment)
		if !ok {
			continue
		}
		c := *d
		c.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
		hash := l.newestHash(o.Address)
		for _, p := range pods {
			if p.Annotations[api.AnnAddress] != o.Address.String() {
				continue
			}
			c.Status.Replicas++
			if hash[p.Name] {
				c.Status.UpdatedReplicas++
			}
			if podReady(&p) {
				c.Status.ReadyReplicas++
				c.Status.AvailableReplicas++
			}
		}
		c.Status.UnavailableReplicas = max(0, desiredReplicas(&c)-c.Status.AvailableReplicas)
		out = append(out, c)
	}
	return out
}

// newestHash names the pods of an object that are of the template which most of them have: after an apply, all.
func (l *live) newestHash(a api.Address) map[string]bool {
	counts := map[string]int{}
	for _, p := range l.state.Pods {
		if p.Address.Owner() == a {
			counts[p.Hash]++
		}
	}
	best := ""
	for _, h := range slices.Sorted(maps.Keys(counts)) {
		if best == "" || counts[h] > counts[best] {
			best = h
		}
	}
	names := map[string]bool{}
	for _, p := range l.state.Pods {
		if p.Address.Owner() == a && p.Hash == best {
			names[p.Address.Pod] = true
		}
	}
	return names
}

func desiredReplicas(d *api.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// nodes lists the applied nodes as Kubernetes' objects.
func (l *live) nodes() []corev1.Node {
	var out []corev1.Node
	for _, n := range l.state.Nodes {
		seen := l.seen.Node(n.Name)
		node := corev1.Node{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
			ObjectMeta: metav1.ObjectMeta{Name: n.Name},
			Spec:       corev1.NodeSpec{PodCIDR: n.PodCIDR, PodCIDRs: []string{n.PodCIDR}},
		}
		if n.JoinedAt != nil {
			node.CreationTimestamp = metav1.NewTime(*n.JoinedAt)
		}
		if n.Node != nil {
			node.Labels, node.Annotations = n.Node.Labels, n.Node.Annotations
			node.Spec.Unschedulable, node.Spec.Taints = n.Node.Unschedulable, n.Node.Taints
		}
		facts := n.Facts
		if seen != nil && seen.Unreachable == "" {
			facts = seen.Facts
		}
		node.Status.NodeInfo = corev1.NodeSystemInfo{
			OSImage: facts.OS, KernelVersion: facts.Kernel, ContainerRuntimeVersion: "containerd://" + facts.Containerd,
			Architecture: facts.Arch, OperatingSystem: "linux",
		}
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.IP}, {Type: corev1.NodeHostName, Address: facts.Hostname}}
		node.Status.Capacity = corev1.ResourceList{
			corev1.ResourceCPU: *resource.NewQuantity(int64(facts.CPUs), resource.DecimalSI), corev1.ResourceMemory: *resource.NewQuantity(facts.MemoryBytes, resource.BinarySI),
			corev1.ResourcePods: *resource.NewQuantity(int64(facts.MaxPods), resource.DecimalSI),
		}
		node.Status.Conditions = []corev1.NodeCondition{nodeReady(seen)}
		out = append(out, node)
	}
	return out
}

func nodeReady(seen *api.NodeObservation) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "HostReady", Message: "SSH, containerd and iptables answer"}
	switch {
	case seen == nil || seen.Unreachable != "":
		c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "HostUnreachable", "the host was not reached"
		if seen != nil {
			c.Message = seen.Unreachable
		}
	case seen.Problems.HasErrors():
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "HostProblem", seen.Problems[0].Summary+": "+seen.Problems[0].Detail
	}
	return c
}

// objects lists the applied objects of one kind.
func (l *live) objects(kind string) []*api.Object {
	var out []*api.Object
	for _, o := range l.state.Objects {
		if o.Address.Kind == kind {
			out = append(out, o)
		}
	}
	return out
}
