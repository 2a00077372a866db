package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
)

// getKind is how one kind is listed.
type getKind struct {
	kind    string   // of api.Kinds; "" for what is no object of a configuration
	names   []string // the first is the title, the second stands before names
	columns []string
	wide    []string
	global  bool // no namespace
	hosts   bool // hosts have to be asked for it
	fields  *fieldTable
	list    func(*live) []entry
	// describe writes everything but the events (semantics.md 8.4).
	describe func(*description, *live, entry) error
}

// fieldTable is what --field-selector knows of a kind beyond its name and namespace.
type fieldTable struct {
	names []string
	of    func(entry) fields.Set
}

// getKinds is the table of what `berth get` lists; the columns are Kubernetes' (semantics.md 8.2).
var getKinds = []*getKind{
	{kind: api.KindPod, names: []string{"pods", "pod", "po"}, columns: []string{"NAME", "READY", "STATUS", "RESTARTS", "AGE"}, wide: []string{"IP", "NODE", "NOMINATED NODE", "READINESS GATES"},
		hosts: true, fields: &fieldTable{[]string{"spec.nodeName", "spec.restartPolicy", "status.phase", "status.podIP"}, podFields}, list: listPods, describe: describePod},
	{kind: api.KindNode, names: []string{"nodes", "node", "no"}, columns: []string{"NAME", "STATUS", "ROLES", "AGE", "VERSION"}, wide: []string{"INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME", "POD-CIDR"},
		global: true, hosts: true, fields: &fieldTable{[]string{"spec.unschedulable"}, nodeFields}, list: listNodes, describe: describeNode},
	{kind: api.KindService, names: []string{"services", "service", "svc"}, columns: []string{"NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"}, wide: []string{"SELECTOR"}, list: listServices, describe: describeService},
	{names: []string{"endpoints", "endpoints", "ep"}, columns: []string{"NAME", "ENDPOINTS", "AGE"}, hosts: true, list: listEndpoints, describe: describeEndpoints},
	{kind: api.KindEndpointSlice, names: []string{"endpointslices", "endpointslice.discovery.k8s.io", "endpointslice", "endpoint_slice", "endpoint_slices"}, columns: []string{"NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"},
		list: listEndpointSlices, describe: describeEndpointSlice},
	{names: []string{"workloads", "workload"}, columns: []string{"NAME", "READY", "STATUS", "AGE"}, wide: []string{"CONTAINERS", "IMAGES", "SELECTOR"}, hosts: true, list: listWorkloads},
	{kind: api.KindDeployment, names: []string{"deployments", "deployment.apps", "deployment", "deploy", "deployments.apps"}, columns: []string{"NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"},
		wide: []string{"CONTAINERS", "IMAGES", "SELECTOR"}, hosts: true, list: listDeployments, describe: describeDeployment},
	{kind: api.KindReplicaSet, names: []string{"replicasets", "replicaset.apps", "replicaset", "rs", "replicasets.apps", "replicationcontrollers", "replicationcontroller", "rc"}, columns: []string{"NAME", "DESIRED", "CURRENT", "READY", "AGE"},
		wide: []string{"CONTAINERS", "IMAGES", "SELECTOR"}, hosts: true, list: listReplicaSets, describe: describeReplicaSet},
	{kind: api.KindStatefulSet, names: []string{"statefulsets", "statefulset.apps", "statefulset", "sts", "statefulsets.apps"}, columns: []string{"NAME", "READY", "AGE"},
		wide: []string{"CONTAINERS", "IMAGES"}, hosts: true, list: listStatefulSets, describe: describeStatefulSet},
	{kind: api.KindDaemonSet, names: []string{"daemonsets", "daemonset.apps", "daemonset", "ds", "daemonsets.apps"}, columns: []string{"NAME", "DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE", "NODE SELECTOR", "AGE"},
		wide: []string{"CONTAINERS", "IMAGES", "SELECTOR"}, hosts: true, list: listDaemonSets, describe: describeDaemonSet},
	{kind: api.KindAutoscaler, names: []string{"horizontalpodautoscalers", "horizontalpodautoscaler.autoscaling"}, columns: []string{"NAME", "REFERENCE", "TARGETS", "MINPODS", "MAXPODS", "REPLICAS", "AGE"},
		hosts: true, list: listAutoscalers, describe: describeAutoscaler},
	{kind: api.KindDisruptionBudget, names: []string{"poddisruptionbudgets", "poddisruptionbudget.policy"}, columns: []string{"NAME", "MIN AVAILABLE", "MAX UNAVAILABLE", "ALLOWED DISRUPTIONS", "AGE"},
		hosts: true, list: listBudgets, describe: describeBudget},
	{kind: api.KindResourceQuota, names: []string{"resourcequotas", "resourcequota"}, columns: []string{"NAME", "REQUEST", "LIMIT", "AGE"}, hosts: true, list: listQuotas, describe: describeQuota},
	{kind: api.KindLimitRange, names: []string{"limitranges", "limitrange"}, columns: []string{"NAME", "CREATED AT"}, list: listLimitRanges, describe: describeLimitRange},
	{kind: api.KindPriorityClass, names: []string{"priorityclasses", "priorityclass.scheduling.k8s.io"}, columns: []string{"NAME", "VALUE", "GLOBAL-DEFAULT", "AGE", "PREEMPTIONPOLICY"},
		global: true, list: listPriorityClasses, describe: describePriorityClass},
	{kind: api.KindJob, names: []string{"jobs", "job.batch", "job", "jobs.batch"}, columns: []string{"NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"},
		wide: []string{"CONTAINERS", "IMAGES", "SELECTOR"}, hosts: true, list: listJobs, describe: describeJob},
	{kind: api.KindCronJob, names: []string{"cronjobs", "cronjob.batch", "cronjob", "cj", "cronjobs.batch"}, columns: []string{"NAME", "SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST SCHEDULE", "NEXT SCHEDULE", "AGE"},
		wide: []string{"CONTAINERS", "IMAGES", "SELECTOR"}, hosts: true, list: listCronJobs, describe: describeCronJob},
	{kind: api.KindVolume, names: []string{"volumes", "volume", "vol"}, columns: []string{"NAME", "CAPACITY", "RECLAIM POLICY", "STATUS", "AGE"}, wide: []string{"NODE", "PATH"}, list: listVolumes, describe: describeVolume},
	{kind: api.KindConfigMap, names: []string{"configmaps", "configmap", "cm", "config_map"}, columns: []string{"NAME", "DATA", "AGE"}, list: listConfigMaps, describe: describeConfigMap},
	{kind: api.KindSecret, names: []string{"secrets", "secret"}, columns: []string{"NAME", "TYPE", "DATA", "AGE"},
		fields: &fieldTable{[]string{"type"}, secretFields}, list: listSecrets, describe: describeSecret},
	{kind: api.KindNamespace, names: []string{"namespaces", "namespace", "ns"}, columns: []string{"NAME", "STATUS", "AGE"}, global: true, list: listNamespaces, describe: describeNamespace},
	{kind: api.KindImage, names: []string{"images", "image"}, columns: []string{"NAME", "BASE", "REF", "AGE"}, global: true, list: listImages, describe: describeImage},
	{names: []string{"events", "event", "ev"}, columns: []string{"LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"}, wide: []string{"SUBOBJECT", "SOURCE", "FIRST SEEN", "COUNT", "NAME"},
		fields: &fieldTable{[]string{"reason", "type", "involvedObject.kind", "involvedObject.name", "involvedObject.uid"}, eventFields}, list: listEvents, describe: describeEvent},
}

func labelText(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return or(strings.Join(parts, ","), "<none>")
}

// covered returns the value for machines, without what the configuration marks as sensitive.
func covered(o *api.Object, value any) any {
	m := typed(o, value)
	view.Cover(m, o)
	return m
}

// createdAt gives a value the time at which it was first applied, where it has none of its own.
func createdAt[T metav1.Object](o *api.Object, v T) T {
	if t := v.GetCreationTimestamp(); o.CreatedAt != nil && t.IsZero() {
		v.SetCreationTimestamp(metav1.NewTime(*o.CreatedAt))
	}
	return v
}

func listNodes(l *live) []entry {
	var out []entry
	for _, n := range l.nodes() {
		info := n.Status.NodeInfo
		out = append(out, entry{meta: &n.ObjectMeta, object: n, cells: []string{
			n.Name, nodeStatus(&n), or(strings.Join(nodeRoles(&n), ","), "<none>"), l.age(n.CreationTimestamp), strings.TrimPrefix(info.ContainerRuntimeVersion, "containerd://"),
			or(nodeAddress(&n, corev1.NodeInternalIP), "<none>"), or(nodeAddress(&n, corev1.NodeExternalIP), "<none>"),
			or(info.OSImage, "<unknown>"), or(info.KernelVersion, "<unknown>"), info.ContainerRuntimeVersion, or(n.Spec.PodCIDR, "<none>"),
		}})
	}
	return out
}

// nodeStatus is the STATUS cell (semantics.md 8.3).
func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status = "NotReady"
			if c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func nodeRoles(n *corev1.Node) []string {
	var roles []string
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		if r, ok := strings.CutPrefix(k, "node-role.kubernetes.io/"); ok && r != "" {
			roles = append(roles, r)
		}
	}
	return roles
}

func nodeAddress(n *corev1.Node, t corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == t {
			return a.Address
		}
	}
	return ""
}

func nodeFields(e entry) fields.Set {
	return fields.Set{"spec.unschedulable": strconv.FormatBool(e.object.(corev1.Node).Spec.Unschedulable)}
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
		out = append(out, entry{meta: v, object: covered(o, v), cells: []string{v.Name, capacity, or(v.Spec.ReclaimPolicy, "Retain"), status, l.ageOf(o), node, path}})
	}
	return out
}

func listConfigMaps(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindConfigMap) {
		c := o.Value.(*corev1.ConfigMap)
		out = append(out, entry{meta: c, object: covered(o, c), cells: []string{c.Name, strconv.Itoa(len(c.Data) + len(c.BinaryData)), l.ageOf(o)}})
	}
	return out
}

func listSecrets(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindSecret) {
		s := o.Value.(*corev1.Secret)
		out = append(out, entry{meta: s, object: covered(o, s), cells: []string{s.Name, or(string(s.Type), "Opaque"), strconv.Itoa(len(secretSizes(s))), l.ageOf(o)}})
	}
	return out
}

// secretSizes are a secret's keys with the bytes that each holds.
func secretSizes(s *corev1.Secret) map[string]int {
	sizes := map[string]int{}
	for k, v := range s.Data {
		sizes[k] = len(v)
	}
	for k, v := range s.StringData {
		sizes[k] = len(v)
	}
	return sizes
}

func secretFields(e entry) fields.Set {
	return fields.Set{"type": e.cells[1]}
}

// namespaces are those that were declared, those that objects are in, and the default one.
func (l *live) namespaces() []corev1.Namespace {
	declared := map[string]*api.Object{}
	names := map[string]bool{metav1.NamespaceDefault: true}
	for _, o := range l.state.Objects {
		if o.Address.Kind == api.KindNamespace {
			declared[o.Name()] = o
			names[o.Name()] = true
		} else if o.Namespace() != "" {
			names[o.Namespace()] = true
		}
	}
	var out []corev1.Namespace
	for _, name := range slices.Sorted(maps.Keys(names)) {
		ns := corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}}
		if o := declared[name]; o != nil {
			ns.Labels, ns.Annotations = o.Value.GetLabels(), o.Value.GetAnnotations()
			createdAt(o, &ns)
		}
		out = append(out, ns)
	}
	return out
}

func listNamespaces(l *live) []entry {
	var out []entry
	for _, ns := range l.namespaces() {
		out = append(out, entry{meta: &ns, object: ns, cells: []string{ns.Name, string(ns.Status.Phase), l.age(ns.CreationTimestamp)}})
	}
	return out
}

func listImages(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindImage) {
		i := o.Value.(*api.Image)
		out = append(out, entry{meta: i, object: covered(o, i), cells: []string{i.Name, or(i.Spec.Base, "scratch"), view.ShortImage(i.Ref), l.ageOf(o)}})
	}
	return out
}

func listEvents(l *live) []entry {
	var out []entry
	for i := range l.state.Events {
		e := &l.state.Events[i]
		k := eventObject(e)
		out = append(out, entry{meta: k, object: k, cells: []string{
			view.Age(l.now.Sub(e.Last)), e.Type, e.Reason, strings.ToLower(e.Object.Kind()) + "/" + e.Object.Name, oneLine(e.Message),
			e.Field, e.Source + ", " + or(e.Node, "<none>"), view.Age(l.now.Sub(e.First)), strconv.Itoa(e.Count), k.Name,
		}})
	}
	return out
}

func eventFields(e entry) fields.Set {
	k := e.object.(*corev1.Event)
	return fields.Set{"reason": k.Reason, "type": k.Type, "involvedObject.kind": k.InvolvedObject.Kind, "involvedObject.name": k.InvolvedObject.Name, "involvedObject.uid": string(k.InvolvedObject.UID)}
}
