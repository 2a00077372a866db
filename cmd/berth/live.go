package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/executor"
	"berth.dev/berth/providers/runtime/life"
	"berth.dev/berth/statefile"
)

// live is what was applied together with what the hosts show now, as Kubernetes' objects with their status.
type live struct {
	state    *api.State
	seen     *api.Observation // nil when no host was asked
	inFlight []statefile.StepNote
	now      time.Time

	podList []corev1.Pod         // of pods, made once
	hashes  map[types.UID]string // of the pods' templates
}

// looker looks again and again, over the same connections.
type looker struct {
	g     *globals
	store statefile.Store
	round *round // nil until a host is asked
}

func newLooker(g *globals) (*looker, error) {
	store, err := storeOf(g)
	return &looker{g: g, store: store}, err
}

// close ends the connections.
func (k *looker) close() {
	if k.round != nil {
		k.round.close()
	}
}

// look reads the state and, if asked to, has every node that the state knows say what is on it.
func (k *looker) look(ctx context.Context, hosts bool) (*live, error) {
	state, inFlight, err := statefile.ReadInFlight(ctx, k.store)
	if err != nil {
		return nil, err
	}
	l := &live{state: state, inFlight: inFlight, now: k.g.proc.Now()}
	if !hosts {
		return l, nil
	}
	l.seen, err = k.observe(ctx, state)
	return l, err
}

func (k *looker) observe(ctx context.Context, state *api.State) (*api.Observation, error) {
	if k.g.proc.Observe != nil {
		return k.g.proc.Observe()
	}
	if k.round == nil {
		k.round = &round{g: k.g, emit: func(api.Event) {}}
		k.round.opts.parallelism = defaultParallelism
		k.round.connect()
	}
	return executor.Observe(ctx, k.round.executor(), nodesToSee(nil, state)), ctx.Err()
}

// pods lists the pods of the state and those that only the hosts know, by namespace and name.
func (l *live) pods() []corev1.Pod {
	if l.podList != nil {
		return l.podList
	}
	byUID := map[string]*api.ObservedPod{}
	if l.seen != nil {
		for _, n := range l.seen.Nodes {
			for i := range n.Pods {
				byUID[n.Pods[i].UID] = &n.Pods[i]
			}
		}
	}
	pods := []corev1.Pod{}
	l.hashes = map[types.UID]string{}
	for i := range l.state.Pods {
		p := &l.state.Pods[i]
		seen := byUID[p.UID]
		delete(byUID, p.UID)
		pods = append(pods, l.pod(p, seen))
	}
	for _, n := range l.nodesSeen() {
		for i := range n.Pods {
			p := &n.Pods[i]
			if l.state.LeftPod(p.UID) != nil || byUID[p.UID] == nil || p.Lineage != l.state.Lineage {
				continue
			}
			known := api.PodState{Address: p.Address, Namespace: p.Namespace, UID: p.UID, Node: n.Name, Hash: p.Hash, Labels: p.Labels, Spec: p.Spec}
			known.IP, known.SecondIP = l.state.Cluster.PrimaryFirst(p.IP, p.SecondIP)
			if known.Address.Pod == "" {
				known.Address.Pod = p.Name
			}
			pods = append(pods, l.pod(&known, p))
		}
	}
	pods = append(pods, l.leftPods(byUID)...)
	pods = append(pods, l.stuck(pods)...)
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	l.podList = pods
	return pods
}

// leftPods are those that were given up while their nodes could not be reached, and may still run there: they are terminating, for as long as that takes.
func (l *live) leftPods(seen map[string]*api.ObservedPod) []corev1.Pod {
	var out []corev1.Pod
	for i := range l.state.Left {
		p := &l.state.Left[i]
		node := l.seen.Node(p.Node)
		if node != nil && node.Unreachable == "" && seen[p.UID] == nil {
			continue // it is gone, and the next run forgets it
		}
		pod := l.pod(&api.PodState{Address: p.Address, Namespace: p.Namespace, UID: p.UID, Node: p.Node, Hash: p.Hash}, seen[p.UID])
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = new(metav1.NewTime(l.now)), new(int64)
		if lost := l.state.LostNode(p.Node); lost != nil {
			pod.DeletionTimestamp = new(metav1.NewTime(lost.Since))
		}
		out = append(out, pod)
	}
	return out
}

func (l *live) nodesSeen() []*api.NodeObservation {
	if l.seen == nil {
		return nil
	}
	return l.seen.Nodes
}

// Reasons of pods whose containers cannot be seen.
const (
	reasonNodeLost = "NodeLost"
	reasonMissing  = "Missing"
)

// pod puts what was applied and what is seen into one Kubernetes pod. A nil seen means that the host does not
// show it, or could not be asked.
func (l *live) pod(p *api.PodState, seen *api.ObservedPod) corev1.Pod {
	pod := corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: p.Address.Pod, Namespace: p.Namespace, UID: types.UID(p.UID), Labels: p.Labels, Annotations: map[string]string{api.AnnAddress: p.Address.Owner().String()},
		},
	}
	if o := l.state.Object(p.Address.Owner()); o != nil {
		maps.Copy(pod.Annotations, podAnnotations(o))
		if o.Address.Kind != api.KindPod {
			pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: o.Kind().APIVersion, Kind: o.Kind().APIKind, Name: o.Name(), Controller: new(true)}}
		}
	}
	if p.Spec != nil {
		pod.Spec = *p.Spec.DeepCopy()
	}
	pod.Spec.NodeName = p.Node
	l.hashes[pod.UID] = p.Hash
	going := l.deletion(p, &pod)
	switch node := l.seen.Node(p.Node); {
	case node == nil || node.Unreachable != "":
		st := &pod.Status
		st.Phase, st.Reason, st.PodIP, st.QOSClass = corev1.PodUnknown, reasonNodeLost, p.IP, life.QOSClass(&pod.Spec)
		if node != nil {
			st.Message = "Node " + p.Node + " was not reached: " + node.Unreachable
		}
	case seen == nil && going != nil: // its removal is nearly done
		pod.Status.Phase, pod.Status.QOSClass = corev1.PodRunning, life.QOSClass(&pod.Spec)
	case seen == nil:
		st := &pod.Status
		st.Phase, st.Reason, st.QOSClass = corev1.PodFailed, reasonMissing, life.QOSClass(&pod.Spec)
		st.Message = "The host does not have this pod. berth apply creates it again."
	default:
		pod.CreationTimestamp = metav1.NewTime(seen.StartedAt)
		if pod.CreationTimestamp.IsZero() {
			pod.CreationTimestamp = metav1.NewTime(seen.CreatedAt)
		}
		known := life.SeenOf(seen).Recorded(p.Ready)
		if s := known.Sandbox; s != nil {
			s.IP, s.SecondIP = l.state.Cluster.PrimaryFirst(s.IP, s.SecondIP)
		}
		known.Deletion = going
		known.Containers = append(known.Containers, l.troubles(p, seen)...)
		pod.Status = life.Status(&pod, known, l.now)
		addEphemeral(&pod, seen)
	}
	if n := l.state.Node(p.Node); n != nil && n.IP != "" {
		pod.Status.HostIP = n.IP
		own := pod.Spec.HostNetwork && pod.Status.PodIP == ""
		if own {
			pod.Status.PodIP = n.IP
		}
		for _, ip := range n.IPs() {
			pod.Status.HostIPs = append(pod.Status.HostIPs, corev1.HostIP{IP: ip})
			if own {
				pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
			}
		}
	}
	return pod
}

// deletion says that a run is just removing the pod, or was when it was killed.
func (l *live) deletion(p *api.PodState, pod *corev1.Pod) *life.Deletion {
	i := slices.IndexFunc(l.inFlight, func(n statefile.StepNote) bool { return n.Op == api.OpPodRemove && n.Address == p.Address })
	if i < 0 {
		return nil
	}
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		grace = *g
	}
	began := l.inFlight[i].Began
	d := &life.Deletion{At: began, Grace: time.Duration(grace) * time.Second}
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = new(metav1.NewTime(began.Add(d.Grace))), &grace
	return d
}

// troubles are the containers that could not be made, with what the last events say of why.
func (l *live) troubles(p *api.PodState, seen *api.ObservedPod) []life.Container {
	var out []life.Container
	for _, c := range seen.Containers {
		if c.ID != "" {
			continue
		}
		if t := l.trouble(p.UID, api.ContainerField(c.Name, c.Init)); t != nil {
			out = append(out, life.Container{ObservedContainer: c, Notes: life.Notes{Trouble: t}})
		}
	}
	return out
}

// trouble is why a container could not be made, or nil: what the newest event says that is about that. Of a pull that is put off, the one
// before it says why.
func (l *live) trouble(uid, field string) *life.Trouble {
	var putOff *life.Trouble
	for _, e := range slices.Backward(l.state.Events) {
		if e.Object.UID != uid || e.Field != field || e.Waiting == "" {
			continue
		}
		if e.Waiting == imagePullBackOff {
			putOff = &life.Trouble{Reason: e.Waiting, Message: e.Message}
			continue
		}
		message := strings.TrimPrefix(e.Message, "Error: ")
		if putOff == nil {
			return &life.Trouble{Reason: e.Waiting, Message: message}
		}
		if _, why, ok := strings.Cut(message, `": `); ok { // Failed to pull image "app": why
			message = why
		}
		putOff.Message += ": " + e.Waiting + ": " + message
		return putOff
	}
	return putOff
}

const imagePullBackOff = "ImagePullBackOff"

// stuck lists the pods that the last run wanted to make and could not even begin, because an image or a reference was not
// to be had: no host has them, and only events tell of them.
func (l *live) stuck(known []corev1.Pod) []corev1.Pod {
	there := map[string]bool{}
	for i := range known {
		there[string(known[i].UID)] = true
	}
	run := uint64(0)
	for i := range l.state.Events {
		run = max(run, l.state.Events[i].Run)
	}
	var out []corev1.Pod
	for _, e := range l.state.Events {
		if e.Waiting == "" || e.Run != run || e.Object.UID == "" || there[e.Object.UID] || l.now.Sub(e.Last) > api.EventAge {
			continue
		}
		there[e.Object.UID] = true
		if n := l.seen.Node(e.Node); n != nil && n.Unreachable == "" {
			out = append(out, l.stuckPod(&e))
		}
	}
	return out
}

func (l *live) stuckPod(e *api.ObjectEvent) corev1.Pod {
	seen := &api.ObservedPod{}
	p := &api.PodState{Address: e.Object.Address, Namespace: e.Object.Namespace, UID: e.Object.UID, Node: e.Node, Spec: &corev1.PodSpec{}}
	created := e.First
	for _, other := range l.state.Events {
		if other.Object.UID != e.Object.UID {
			continue
		}
		if other.First.Before(created) {
			created = other.First
		}
		if name, isInit, ok := api.ContainerOf(other.Field); ok && !slices.ContainsFunc(seen.Containers, func(c api.ObservedContainer) bool { return c.Name == name }) {
			seen.Containers = append(seen.Containers, api.ObservedContainer{Name: name, Init: isInit, State: api.ContainerCreated})
			list := &p.Spec.Containers
			if isInit {
				list = &p.Spec.InitContainers
			}
			*list = append(*list, corev1.Container{Name: name})
		}
	}
	pod := corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: e.Object.Name, Namespace: e.Object.Namespace, UID: types.UID(e.Object.UID), CreationTimestamp: metav1.NewTime(created),
			Annotations: map[string]string{api.AnnAddress: e.Object.Address.Owner().String()},
		},
		Spec: *p.Spec,
	}
	pod.Spec.NodeName = e.Node
	pod.Status = life.Status(&pod, life.Seen{Containers: l.troubles(p, seen)}, l.now)
	return pod
}

// podAnnotations are those that an object gives to its pods.
func podAnnotations(o *api.Object) map[string]string {
	if t := templateOf(o.Value); t != nil {
		return t.Annotations
	}
	return o.Value.GetAnnotations()
}

func podReady(p *corev1.Pod) bool { return conditionTrue(p, corev1.PodReady) }

func conditionTrue(p *corev1.Pod, t corev1.PodConditionType) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == t && c.Status == corev1.ConditionTrue })
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

// age is how long ago something was.
func (l *live) age(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return view.Age(l.now.Sub(t.Time))
}

// ageOf is the age of an applied object.
func (l *live) ageOf(o *api.Object) string {
	if o.CreatedAt == nil {
		return "<unknown>"
	}
	return view.Age(l.now.Sub(*o.CreatedAt))
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// containerStatus is the status of a container that is no part of what was applied.
func containerStatus(c api.ObservedContainer, ready bool) corev1.ContainerStatus {
	alone := corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: c.Name, Image: c.Image}}}}
	st := life.Status(&alone, life.Seen{Sandbox: &life.Sandbox{Ready: true}, Containers: []life.Container{{ObservedContainer: c}}}, time.Time{}).ContainerStatuses[0]
	st.Ready = st.Ready && ready
	return st
}
