package planner

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/admission"
	"berth.dev/berth/planner/rollout"
)

// desiredValues returns the desired objects of one type in a namespace, "" for those without one, sorted by address.
func desiredValues[T api.Value](d *draft, namespace string) []T {
	var out []T
	for _, o := range d.desired {
		if v, ok := o.Value.(T); ok && o.Namespace() == namespace {
			out = append(out, v)
		}
	}
	return out
}

// admitTemplates gives the pods of a workload what its namespace and the cluster give them: the values of limit ranges for what
// they do not ask for, and their priority. Neither is part of the template's hash: pods that run are left alone.
func (d *draft) admitTemplates(w *workload) {
	ranges := desiredValues[*corev1.LimitRange](d, w.object.Namespace())
	classes := desiredValues[*schedulingv1.PriorityClass](d, "")
	templates := []*rollout.Template{w.want.Template}
	for i := range w.want.Slots {
		if t := w.want.Slots[i].Template; t != nil && !slices.Contains(templates, t) {
			templates = append(templates, t)
		}
	}
	for i, t := range templates {
		filled := admission.FillIn(&t.Spec, ranges)
		if i == 0 {
			w.filled = filled
		}
		value, policy, class := api.PriorityOf(&t.Spec, classes)
		if class != "" {
			t.Spec.PriorityClassName, t.Spec.Priority, t.Spec.PreemptionPolicy = class, &value, &policy
		}
	}
}

// priority is that of a workload's pods.
func (w *workload) priority() int32 {
	if w.want == nil || w.want.Template.Spec.Priority == nil {
		return 0
	}
	return *w.want.Template.Spec.Priority
}

// admit refuses what the plan would make and the limit ranges and quotas of its namespace forbid (semantics.md 7.3 and 7.4). What is
// there already is never refused.
func (d *draft) admit() {
	for _, w := range d.workloads {
		if p := w.firstFresh(); p != nil {
			if why := admission.CheckLimits(p.spec, desiredValues[*corev1.LimitRange](d, p.namespace)); len(why) > 0 {
				d.errorAt(w.object, api.PodSpecPath(w.address.Kind)+".containers", "Forbidden by limit range", "pods %q is forbidden: %s.%s",
					p.address.Pod, admission.Join(why), d.declaredAt(api.KindLimitRange, p.namespace))
			}
		}
	}
	for _, o := range d.desired {
		if v, ok := o.Value.(*api.Volume); ok && d.prior.Object(o.Address) == nil && !v.Spec.Capacity.IsZero() {
			if why := admission.CheckStorage(v.Spec.Capacity, desiredValues[*corev1.LimitRange](d, o.Namespace())); len(why) > 0 {
				d.errorAt(o, "spec.capacity", "Forbidden by limit range", "persistentvolumeclaims %q is forbidden: %s.%s",
					o.Name(), admission.Join(why), d.declaredAt(api.KindLimitRange, o.Namespace()))
			}
		}
	}
	for _, namespace := range d.namespacesWithQuota() {
		d.admitNamespace(namespace)
	}
}

// firstFresh is the first pod that a workload gets, or nil.
func (w *workload) firstFresh() *pod {
	for _, list := range w.fresh {
		if len(list) > 0 {
			return list[0]
		}
	}
	return nil
}

// declaredAt says where the objects of a kind in a namespace are declared, for the end of an error.
func (d *draft) declaredAt(kind, namespace string) string {
	var places []string
	for _, o := range d.desired {
		if o.Address.Kind == kind && o.Namespace() == namespace && !o.Range.IsZero() {
			places = append(places, o.Address.String()+" at "+o.Range.String())
		}
	}
	if len(places) == 0 {
		return ""
	}
	return " What may be asked for there is declared by " + strings.Join(places, " and ") + "."
}

func (d *draft) namespacesWithQuota() []string {
	var out []string
	for _, o := range d.desired {
		if o.Address.Kind == api.KindResourceQuota {
			out = append(out, o.Namespace())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// admitNamespace counts what stays in a namespace, then admits what comes, in the order of addresses.
func (d *draft) admitNamespace(namespace string) {
	ledger := admission.NewLedger(desiredValues[*corev1.ResourceQuota](d, namespace))
	for _, w := range d.workloads {
		for _, p := range w.pods {
			if p.namespace == namespace && !p.removed && !p.over && p.spec != nil {
				ledger.Hold(podItem(p))
			}
		}
	}
	var come []*api.Object
	for _, o := range d.desired {
		if o.Namespace() != namespace || o.Address.Kind == api.KindPod {
			continue // a bare pod is its pod
		}
		if d.prior.Object(o.Address) == nil {
			come = append(come, o)
			continue
		}
		ledger.Hold(admission.ItemOf(o))
	}
	for _, o := range come {
		if why, quota := ledger.Admit(admission.ItemOf(o)); why != "" {
			d.overQuota(o, "", why, quota)
		}
	}
	for _, w := range d.workloads {
		d.admitPods(w, namespace, ledger)
	}
}

// admitPods admits the new pods of a workload. One refusal says it for all of them.
func (d *draft) admitPods(w *workload, namespace string, ledger *admission.Ledger) {
	for _, list := range w.fresh {
		for _, p := range list {
			if p.namespace != namespace {
				continue
			}
			if why, quota := ledger.Admit(podItem(p)); why != "" {
				d.forbidden(w, &refusal{why: why, quota: quota})
				return
			}
		}
	}
}

// forbidden refuses the pods of a workload.
func (d *draft) forbidden(w *workload, r *refusal) {
	path := "spec.replicas"
	if strings.Contains(r.why, "must specify") {
		path = api.PodSpecPath(w.address.Kind) + ".containers"
	}
	why := r.why
	if r.surge {
		why += ". The rolling update makes new pods before the old ones go: leave room for one more, or let one be missing with max_unavailable"
	}
	d.overQuota(w.object, path, why, r.quota)
}

func (d *draft) overQuota(o *api.Object, path, why string, quota *corev1.ResourceQuota) {
	where := ""
	if q := d.named[kindName(api.KindResourceQuota, quota.Namespace, quota.Name)]; q != nil && !q.Range.IsZero() {
		where = " The quota is " + q.Address.String() + " at " + q.Range.String() + "."
	}
	todo := "Ask for less, or raise the quota."
	if strings.Contains(why, "must specify") {
		todo = "Say what the containers need, or let a limit_range say it for them."
	}
	d.errorAt(o, path, "Forbidden by quota", "%s.%s %s", why, where, todo)
}

func podItem(p *pod) admission.Item {
	return admission.PodItem(p.address.Pod, &corev1.Pod{Spec: *p.spec})
}
