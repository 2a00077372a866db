package main

import (
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

// owners lists the applied objects of one kind, and those of which only pods or a run are there: their first apply did not come to
// its end. Of these, just the name, the labels and the pods' template are known.
func (l *live) owners(kind string) []*api.Object {
	out := l.objects(kind)
	known := map[api.Address]bool{}
	for _, o := range out {
		known[o.Address] = true
	}
	for i := range l.state.Jobs {
		j := &l.state.Jobs[i]
		if j.Address.Kind == kind && kind == api.KindJob && j.Spec != nil && !known[j.Address] {
			known[j.Address] = true
			out = append(out, &api.Object{Address: j.Address, CreatedAt: startOf(j), Value: unfinishedJob(j)})
		}
	}
	k, _ := api.KindByName(kind)
	for _, p := range l.pods() {
		a, err := api.ParseAddress(p.Annotations[api.AnnAddress])
		if err != nil || a.Kind != kind || known[a] {
			continue
		}
		known[a] = true
		out = append(out, &api.Object{Address: a, Value: unfinished(k, a, &p)})
	}
	slices.SortFunc(out, func(a, b *api.Object) int {
		return strings.Compare(a.Namespace()+"/"+a.Name()+"/"+a.Address.String(), b.Namespace()+"/"+b.Name()+"/"+b.Address.String())
	})
	return out
}

// unfinishedJob is a job that no apply has recorded, because it has failed or still runs.
func unfinishedJob(s *api.JobState) *batchv1.Job {
	j := &batchv1.Job{Spec: *s.Spec.DeepCopy()}
	j.Name, j.Namespace, j.Labels = s.Name, s.Namespace, s.Spec.Template.Labels
	return j
}

func startOf(s *api.JobState) *time.Time {
	if s.Status.StartTime == nil {
		return nil
	}
	return &s.Status.StartTime.Time
}

// unfinished makes what can be known of an object from one of its pods.
func unfinished(k api.Kind, a api.Address, p *corev1.Pod) api.Value {
	v := k.New()
	v.SetName(a.Name)
	if a.Kind == api.KindPod {
		v.SetName(p.Name)
	}
	v.SetNamespace(p.Namespace)
	labels := map[string]string{}
	for name, value := range p.Labels {
		if name != api.LabelTemplateHash {
			labels[name] = value
		}
	}
	v.SetLabels(labels)
	if spec := api.PodSpecOf(v); spec != nil {
		*spec = *p.Spec.DeepCopy()
		spec.NodeName = ""
	}
	return v
}

// applied reports whether an object is in the state: whether an apply of it has come to its end.
func (l *live) applied(o *api.Object) bool { return l.state.Object(o.Address) != nil }

// podsOf lists the pods of an object.
func (l *live) podsOf(a api.Address) []corev1.Pod {
	var out []corev1.Pod
	for _, p := range l.pods() {
		if p.Annotations[api.AnnAddress] == a.String() {
			out = append(out, p)
		}
	}
	return out
}

// tally counts an object's pods.
type tally struct {
	pods                               []corev1.Pod
	total, ready, available, updated   int32
	running, pending, succeeded, ended int32 // by phase; ended are those that failed
}

func (l *live) tallyOf(a api.Address, minReadySeconds int32) tally {
	t := tally{pods: l.podsOf(a)}
	newest := l.newestHash(a, t.pods)
	for i := range t.pods {
		p := &t.pods[i]
		switch p.Status.Phase {
		case corev1.PodSucceeded:
			t.succeeded++
		case corev1.PodFailed:
			t.ended++
		case corev1.PodRunning:
			t.running++
		default:
			t.pending++
		}
		t.total++
		if l.hashes[p.UID] == newest {
			t.updated++
		}
		if podReady(p) {
			t.ready++
			if l.readyFor(p, minReadySeconds) {
				t.available++
			}
		}
	}
	return t
}

// readyFor reports whether a pod has been ready for some seconds.
func (l *live) readyFor(p *corev1.Pod, seconds int32) bool {
	if seconds == 0 {
		return true
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && !c.LastTransitionTime.IsZero() {
			return l.now.Sub(c.LastTransitionTime.Time).Seconds() >= float64(seconds)
		}
	}
	return true // since the last apply, which has waited
}

// newestHash is the template of an object's newest revision. Where none was recorded it is the one of which most of its
// pods are.
func (l *live) newestHash(a api.Address, pods []corev1.Pod) string {
	if revisions := l.state.RevisionsOf(a); len(revisions) > 0 {
		return revisions[len(revisions)-1].Hash
	}
	counts, best := map[string]int{}, ""
	for i := range pods {
		counts[l.hashes[pods[i].UID]]++
	}
	for h, n := range counts {
		if best == "" || n > counts[best] || n == counts[best] && h < best {
			best = h
		}
	}
	return best
}

func count(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// templateOf is the template of the pods that a value owns; nil for values that have none.
func templateOf(v api.Value) *corev1.PodTemplateSpec {
	if c, ok := api.ControllerOf(v); ok {
		return c.Template
	}
	return nil
}

// selectorOf is how a value finds its pods; nil for values that have no selector.
func selectorOf(v api.Value) *metav1.LabelSelector {
	if c, ok := api.ControllerOf(v); ok && c.Selector != nil {
		return *c.Selector
	}
	return nil
}

// deployment is an applied deployment with the status that its pods give it.
func (l *live) deployment(o *api.Object) *api.Deployment {
	d := o.Value.(*api.Deployment).DeepCopy()
	d.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
	t := l.tallyOf(o.Address, d.Spec.MinReadySeconds)
	want := count(d.Spec.Replicas)
	st := &d.Status
	st.Replicas, st.UpdatedReplicas, st.ReadyReplicas, st.AvailableReplicas = t.total, t.updated, t.ready, t.available
	st.UnavailableReplicas = max(0, want-t.available)
	st.Conditions = l.conditionsOf(o.Address, d, t)
	return d
}

// statefulSet is an applied stateful set with the status that its pods give it.
func (l *live) statefulSet(o *api.Object) *appsv1.StatefulSet {
	v := o.Value.(*appsv1.StatefulSet).DeepCopy()
	v.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"}
	t := l.tallyOf(o.Address, v.Spec.MinReadySeconds)
	st := &v.Status
	st.Replicas, st.UpdatedReplicas, st.ReadyReplicas, st.AvailableReplicas = t.total, t.updated, t.ready, t.available
	return v
}

// daemonSet is an applied daemon set with the status that its pods give it. Which nodes it wants is known from the pods that
// the last apply gave it.
func (l *live) daemonSet(o *api.Object) *appsv1.DaemonSet {
	v := o.Value.(*appsv1.DaemonSet).DeepCopy()
	v.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"}
	t := l.tallyOf(o.Address, v.Spec.MinReadySeconds)
	st := &v.Status
	st.DesiredNumberScheduled, st.CurrentNumberScheduled, st.NumberReady = t.total, t.total, t.ready
	st.UpdatedNumberScheduled, st.NumberAvailable, st.NumberUnavailable = t.updated, t.available, t.total-t.available
	return v
}

// replicaSet is an applied replica set with the status that its pods give it.
func (l *live) replicaSet(o *api.Object) *appsv1.ReplicaSet {
	v := o.Value.(*appsv1.ReplicaSet).DeepCopy()
	v.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"}
	t := l.tallyOf(o.Address, v.Spec.MinReadySeconds)
	v.Status.Replicas, v.Status.ReadyReplicas, v.Status.AvailableReplicas = t.total, t.ready, t.available
	return v
}
