package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
)

// getKinds is the table of what `berth get` lists; the columns are Kubernetes' (semantics.md 8.2).
var getKinds = []getKind{
	{names: []string{"pods", "pod", "po"}, columns: []string{"NAME", "READY", "STATUS", "RESTARTS", "AGE"}, wide: []string{"IP", "NODE"}, list: listPods},
	{names: []string{"nodes", "node", "no"}, columns: []string{"NAME", "STATUS", "ROLES", "AGE", "VERSION"}, wide: []string{"INTERNAL-IP", "POD-CIDR", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"}, global: true, list: listNodes},
	{names: []string{"services", "service", "svc"}, columns: []string{"NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"}, wide: []string{"SELECTOR"}, list: listServices},
	{names: []string{"workloads", "workload"}, columns: []string{"NAME", "READY", "STATUS", "AGE"}, wide: []string{"CONTAINERS", "IMAGES", "SELECTOR"}, list: listWorkloads},
	{names: []string{"deployments", "deployment.apps", "deployment", "deploy"}, columns: []string{"NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"}, wide: []string{"CONTAINERS", "IMAGES", "SELECTOR"}, list: listDeployments},
	{names: []string{"volumes", "volume", "vol"}, columns: []string{"NAME", "CAPACITY", "RECLAIM POLICY", "STATUS", "AGE"}, wide: []string{"NODE", "PATH"}, list: listVolumes},
	{names: []string{"configmaps", "configmap", "cm", "config_map"}, columns: []string{"NAME", "DATA", "AGE"}, list: listConfigMaps},
	{names: []string{"secrets", "secret"}, columns: []string{"NAME", "TYPE", "DATA", "AGE"}, list: listSecrets},
	{names: []string{"namespaces", "namespace", "ns"}, columns: []string{"NAME", "STATUS", "AGE"}, global: true, list: listNamespaces},
	{names: []string{"images", "image"}, columns: []string{"NAME", "BASE", "REF", "AGE"}, global: true, list: listImages},
}

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

func listPods(l *live) []entry {
	var out []entry
	for _, p := range l.pods() {
		ready, restarts := 0, int32(0)
		var last time.Time
		for _, c := range p.Status.ContainerStatuses {
			if c.Ready {
				ready++
			}
			restarts += c.RestartCount
			if t := c.State.Running; t != nil && c.RestartCount > 0 && t.StartedAt.After(last) {
				last = t.StartedAt.Time
			}
		}
		r := strconv.Itoa(int(restarts))
		if restarts > 0 && !last.IsZero() {
			r += fmt.Sprintf(" (%s ago)", view.Age(l.now.Sub(last)))
		}
		total := max(len(p.Spec.Containers), len(p.Status.ContainerStatuses))
		out = append(out, entry{&p.ObjectMeta, p, []string{
			p.Name, fmt.Sprintf("%d/%d", ready, total), podStatus(&p), r, l.age(p.CreationTimestamp), or(p.Status.PodIP, "<none>"), or(p.Spec.NodeName, "<none>"),
		}})
	}
	return out
}

// podStatus is the STATUS cell (semantics.md 8.3).
func podStatus(p *corev1.Pod) string {
	if p.Status.Reason == "NodeLost" {
		return "Unknown"
	}
	if p.Status.Reason != "" {
		return p.Status.Reason
	}
	for i, c := range p.Status.InitContainerStatuses {
		if t := c.State.Terminated; t != nil && t.ExitCode == 0 {
			continue
		}
		if t := c.State.Terminated; t != nil {
			return "Init:" + or(t.Reason, "ExitCode:"+strconv.Itoa(int(t.ExitCode)))
		}
		return fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
	}
	status := string(p.Status.Phase)
	running := false
	for _, c := range slices.Backward(p.Status.ContainerStatuses) {
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			status = c.State.Terminated.Reason
		case c.State.Running != nil:
			running = true
		}
	}
	if status == "Completed" && running {
		if podReady(p) {
			return "Running"
		}
		return "NotReady"
	}
	return status
}

func listNodes(l *live) []entry {
	var out []entry
	for _, n := range l.nodes() {
		status := map[corev1.ConditionStatus]string{corev1.ConditionTrue: "Ready"}[n.Status.Conditions[0].Status]
		status = or(status, "NotReady")
		if n.Spec.Unschedulable {
			status += ",SchedulingDisabled"
		}
		var roles []string
		for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
			if r, ok := strings.CutPrefix(k, "node-role.kubernetes.io/"); ok && r != "" {
				roles = append(roles, r)
			}
		}
		info := n.Status.NodeInfo
		out = append(out, entry{&n.ObjectMeta, n, []string{
			n.Name, status, or(strings.Join(roles, ","), "<none>"), l.age(n.CreationTimestamp), strings.TrimPrefix(info.ContainerRuntimeVersion, "containerd://"),
			n.Status.Addresses[0].Address, n.Spec.PodCIDR, info.OSImage, info.KernelVersion, info.ContainerRuntimeVersion,
		}})
	}
	return out
}

func listServices(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindService) {
		s := o.Value.(*corev1.Service)
		var ports []string
		for _, p := range s.Spec.Ports {
			text := strconv.Itoa(int(p.Port))
			if p.NodePort != 0 {
				text += ":" + strconv.Itoa(int(p.NodePort))
			}
			ports = append(ports, text+"/"+or(string(p.Protocol), "TCP"))
		}
		out = append(out, entry{s, typed(o, s), []string{
			s.Name, or(string(s.Spec.Type), "ClusterIP"), or(s.Spec.ClusterIP, "<none>"), "<none>", or(strings.Join(ports, ","), "<none>"), l.ageOf(o), labelText(s.Spec.Selector),
		}})
	}
	return out
}

func labelText(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return or(strings.Join(parts, ","), "<none>")
}

func listDeployments(l *live) []entry {
	var out []entry
	byName := map[string]*api.Object{}
	for _, o := range l.objects(api.KindDeployment) {
		byName[o.Namespace()+"/"+o.Name()] = o
	}
	for _, d := range l.deployments() {
		o := byName[d.Namespace+"/"+d.Name]
		names, images := containerText(&d.Spec.Template.Spec)
		out = append(out, entry{&d.ObjectMeta, covered(o, d), []string{
			d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, desiredReplicas(&d)), strconv.Itoa(int(d.Status.UpdatedReplicas)), strconv.Itoa(int(d.Status.AvailableReplicas)),
			l.ageOf(o), names, images, selectorText(&d),
		}})
	}
	return out
}

func selectorText(d *api.Deployment) string {
	if d.Spec.Selector == nil {
		return "<none>"
	}
	return labelText(d.Spec.Selector.MatchLabels)
}

// containerText joins the names and the images of a pod's containers.
func containerText(s *corev1.PodSpec) (names, images string) {
	var ns, is []string
	for _, c := range s.Containers {
		ns, is = append(ns, c.Name), append(is, view.ShortImage(c.Image))
	}
	return strings.Join(ns, ","), strings.Join(is, ",")
}

// listWorkloads lists every kind that owns pods under its address-like name.
func listWorkloads(l *live) []entry {
	var out []entry
	for _, d := range listDeployments(l) {
		status := "Ready"
		if ready, want, _ := strings.Cut(d.cells[1], "/"); ready != want {
			status = "Degraded"
		}
		out = append(out, entry{d.meta, d.object, []string{"deployment/" + d.cells[0], d.cells[1], status, d.cells[4], d.cells[5], d.cells[6], d.cells[7]}})
	}
	pods := l.pods()
	for _, o := range l.objects(api.KindPod) {
		i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Annotations[api.AnnAddress] == o.Address.String() })
		status, ready := "Missing", "0/1"
		if i >= 0 {
			status = podStatus(&pods[i])
			if podReady(&pods[i]) {
				ready = "1/1"
			}
		}
		names, images := containerText(api.PodSpecOf(o.Value))
		out = append(out, entry{o.Value, covered(o, o.Value), []string{"pod/" + o.Name(), ready, status, l.ageOf(o), names, images, "<none>"}})
	}
	return out
}

// covered returns the value for machines, without what the configuration marks as sensitive.
func covered(o *api.Object, value any) any {
	m := typed(o, value)
	view.Cover(m, o)
	return m
}

func listVolumes(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindVolume) {
		v := o.Value.(*api.Volume)
		status, node, path := "Pending", "<none>", "<none>"
		if at := l.state.Volume(o.Address); at != nil {
			status, node, path = "Bound", at.Node, at.Path
		}
		capacity := "<none>"
		if !v.Spec.Capacity.IsZero() {
			capacity = v.Spec.Capacity.String()
		}
		out = append(out, entry{v, typed(o, v), []string{v.Name, capacity, or(v.Spec.ReclaimPolicy, "Retain"), status, l.ageOf(o), node, path}})
	}
	return out
}

func listConfigMaps(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindConfigMap) {
		c := o.Value.(*corev1.ConfigMap)
		out = append(out, entry{c, covered(o, c), []string{c.Name, strconv.Itoa(len(c.Data) + len(c.BinaryData)), l.ageOf(o)}})
	}
	return out
}

func listSecrets(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindSecret) {
		s := o.Value.(*corev1.Secret)
		keys := map[string]bool{}
		for k := range s.Data {
			keys[k] = true
		}
		for k := range s.StringData {
			keys[k] = true
		}
		out = append(out, entry{s, covered(o, s), []string{s.Name, or(string(s.Type), "Opaque"), strconv.Itoa(len(keys)), l.ageOf(o)}})
	}
	return out
}

func listNamespaces(l *live) []entry {
	declared := map[string]*api.Object{}
	names := map[string]bool{"default": true}
	for _, o := range l.state.Objects {
		if o.Address.Kind == api.KindNamespace {
			declared[o.Name()] = o
			names[o.Name()] = true
		} else if o.Namespace() != "" {
			names[o.Namespace()] = true
		}
	}
	var out []entry
	for _, name := range slices.Sorted(maps.Keys(names)) {
		ns := &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}}
		age := "<unknown>"
		if o := declared[name]; o != nil {
			ns.Labels, ns.Annotations, age = o.Value.GetLabels(), o.Value.GetAnnotations(), l.ageOf(o)
		}
		out = append(out, entry{ns, ns, []string{name, "Active", age}})
	}
	return out
}

func listImages(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindImage) {
		i := o.Value.(*api.Image)
		out = append(out, entry{i, typed(o, i), []string{i.Name, or(i.Spec.Base, "scratch"), view.ShortImage(i.Ref), l.ageOf(o)}})
	}
	return out
}
