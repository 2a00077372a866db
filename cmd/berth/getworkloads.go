package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
)

// containerText joins the names and the images of a pod's containers.
func containerText(s *corev1.PodSpec) (names, images string) {
	var ns, is []string
	if s != nil {
		for _, c := range s.Containers {
			ns, is = append(ns, c.Name), append(is, view.ShortImage(c.Image))
		}
	}
	return or(strings.Join(ns, ","), "<none>"), or(strings.Join(is, ","), "<none>")
}

// selectorText is a selector as --selector takes it.
func selectorText(s *metav1.LabelSelector) string {
	if s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		return "<none>"
	}
	return metav1.FormatLabelSelector(s)
}

func number(n int32) string { return strconv.Itoa(int(n)) }

func listDeployments(l *live) []entry {
	var out []entry
	for _, o := range l.owners(api.KindDeployment) {
		d := l.deployment(o)
		names, images := containerText(&d.Spec.Template.Spec)
		out = append(out, entry{address: o.Address, meta: createdAt(o, d), object: covered(o, d), cells: []string{
			d.Name, fmt.Sprintf("%d/%s", d.Status.ReadyReplicas, l.desired(o, d.Spec.Replicas)), number(d.Status.UpdatedReplicas), number(d.Status.AvailableReplicas),
			l.ageOf(o), names, images, selectorText(d.Spec.Selector),
		}})
	}
	return out
}

func listStatefulSets(l *live) []entry {
	var out []entry
	for _, o := range l.owners(api.KindStatefulSet) {
		v := l.statefulSet(o)
		names, images := containerText(&v.Spec.Template.Spec)
		out = append(out, entry{address: o.Address, meta: createdAt(o, v), object: covered(o, v), cells: []string{
			v.Name, fmt.Sprintf("%d/%s", v.Status.ReadyReplicas, l.desired(o, v.Spec.Replicas)), l.ageOf(o), names, images,
		}})
	}
	return out
}

func listDaemonSets(l *live) []entry {
	var out []entry
	for _, o := range l.owners(api.KindDaemonSet) {
		v := l.daemonSet(o)
		st := &v.Status
		names, images := containerText(&v.Spec.Template.Spec)
		out = append(out, entry{address: o.Address, meta: createdAt(o, v), object: covered(o, v), cells: []string{
			v.Name, number(st.DesiredNumberScheduled), number(st.CurrentNumberScheduled), number(st.NumberReady), number(st.UpdatedNumberScheduled), number(st.NumberAvailable),
			labelText(v.Spec.Template.Spec.NodeSelector), l.ageOf(o), names, images, selectorText(v.Spec.Selector),
		}})
	}
	return out
}

func listReplicaSets(l *live) []entry {
	var out []entry
	for _, o := range l.owners(api.KindReplicaSet) {
		v := l.replicaSet(o)
		names, images := containerText(&v.Spec.Template.Spec)
		out = append(out, entry{address: o.Address, meta: createdAt(o, v), object: covered(o, v), cells: []string{
			v.Name, l.desired(o, v.Spec.Replicas), number(v.Status.Replicas), number(v.Status.ReadyReplicas), l.ageOf(o), names, images, selectorText(v.Spec.Selector),
		}})
	}
	return out
}

// desired is how many pods an object should have; of one whose first apply did not come to its end nobody knows.
func (l *live) desired(o *api.Object, replicas *int32) string {
	if !l.applied(o) {
		return "?"
	}
	return number(count(replicas))
}

// statusOfUnfinished is the STATUS of a workload whose first apply did not come to its end.
const statusOfUnfinished = "Unfinished"

// listWorkloads lists every object that owns pods, whatever its kind, under its kind and name.
func listWorkloads(l *live) []entry {
	var out []entry
	for _, k := range api.Kinds {
		if !k.Workload {
			continue
		}
		for _, o := range l.owners(k.Name) {
			ready, want, status := l.workloadStatus(o)
			names, images := containerText(api.PodSpecOf(o.Value))
			if !l.applied(o) && k.Name != api.KindPod { // a pod's own status says more
				status = statusOfUnfinished
			}
			out = append(out, entry{address: o.Address, meta: o.Value, object: covered(o, l.withStatus(o)), cells: []string{
				k.Name + "/" + o.Name(), ready + "/" + want, status, l.ageOf(o), names, images, selectorText(selectorOf(o.Value)),
			}})
		}
	}
	slices.SortStableFunc(out, func(a, b entry) int { return strings.Compare(a.meta.GetNamespace(), b.meta.GetNamespace()) })
	return out
}

// withStatus is an object's value with the status that its pods give it.
func (l *live) withStatus(o *api.Object) api.Value {
	switch o.Value.(type) {
	case *api.Deployment:
		return l.deployment(o)
	case *appsv1.StatefulSet:
		return l.statefulSet(o)
	case *appsv1.DaemonSet:
		return l.daemonSet(o)
	case *appsv1.ReplicaSet:
		return l.replicaSet(o)
	case *corev1.Pod:
		if pods := l.podsOf(o.Address); len(pods) > 0 {
			return &pods[0]
		}
	}
	return o.Value
}

// workloadStatus is how many of a workload's pods are ready, how many should be, and a word for it.
func (l *live) workloadStatus(o *api.Object) (ready, want, status string) {
	switch v := o.Value.(type) {
	case *api.Deployment:
		d := l.deployment(o)
		return replicaStatus(d.Status.ReadyReplicas, l.desired(o, v.Spec.Replicas))
	case *corev1.Pod:
		pods := l.podsOf(o.Address)
		if len(pods) == 0 {
			return "0", "1", reasonMissing
		}
		ready = "0"
		if podReady(&pods[0]) {
			ready = "1"
		}
		return ready, "1", podStatus(&pods[0])
	}
	t := l.tallyOf(o.Address, 0)
	if c, ok := api.ControllerOf(o.Value); ok && c.Replicas != nil {
		return replicaStatus(t.ready, l.desired(o, c.Replicas))
	}
	return replicaStatus(t.ready, number(t.total))
}

func replicaStatus(ready int32, want string) (string, string, string) {
	if number(ready) == want {
		return number(ready), want, "Ready"
	}
	return number(ready), want, "Degraded"
}
