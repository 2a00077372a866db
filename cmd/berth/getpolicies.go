package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/admission"
)

func listBudgets(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindDisruptionBudget) {
		v := o.Value.(*policyv1.PodDisruptionBudget).DeepCopy()
		allowed := "<unknown>"
		if b, err := admission.BudgetOf(v, l.budgetPods(v.Namespace)); err == nil {
			st := &v.Status
			st.DisruptionsAllowed, st.CurrentHealthy, st.DesiredHealthy, st.ExpectedPods = int32(b.DisruptionsAllowed), int32(b.Healthy), int32(b.Desired), int32(b.Expected)
			allowed = strconv.Itoa(b.DisruptionsAllowed)
		}
		out = append(out, entry{address: o.Address, meta: createdAt(o, v), object: covered(o, v), cells: []string{
			v.Name, or(intOrPercent(v.Spec.MinAvailable), "N/A"), or(intOrPercent(v.Spec.MaxUnavailable), "N/A"), allowed, l.ageOf(o),
		}})
	}
	return out
}

// budgetPods are a namespace's pods as disruption budgets count them.
func (l *live) budgetPods(namespace string) []admission.BudgetPod {
	var out []admission.BudgetPod
	for _, p := range l.pods() {
		if p.Namespace != namespace {
			continue
		}
		b := admission.BudgetPod{Name: p.Name, Labels: p.Labels, Phase: p.Status.Phase, Ready: podReady(&p), Deleting: p.DeletionTimestamp != nil}
		if a, err := api.ParseAddress(p.Annotations[api.AnnAddress]); err == nil && a.Kind != api.KindPod {
			b.Owner = a.String()
			if o := l.state.Object(a); o != nil {
				if c, ok := api.ControllerOf(o.Value); ok && c.Replicas != nil {
					b.Replicas = int(*c.Replicas)
				} else {
					b.Replicas = len(l.podsOf(a))
				}
			}
		}
		out = append(out, b)
	}
	return out
}

// quotaUse is what a namespace holds of what a quota bounds.
func (l *live) quotaUse(q *corev1.ResourceQuota) corev1.ResourceList {
	ledger := admission.NewLedger([]*corev1.ResourceQuota{q})
	for _, p := range l.pods() {
		if p.Namespace == q.Namespace && p.Status.Phase != corev1.PodSucceeded && (p.Status.Phase != corev1.PodFailed || p.Status.Reason == reasonMissing) {
			ledger.Hold(admission.PodItem(p.Name, &p))
		}
	}
	for _, o := range l.state.Objects {
		if o.Namespace() == q.Namespace && o.Address.Kind != api.KindPod {
			ledger.Hold(admission.ItemOf(o))
		}
	}
	return ledger.Used(q.Name)
}

func listQuotas(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindResourceQuota) {
		v := o.Value.(*corev1.ResourceQuota).DeepCopy()
		v.Status.Hard, v.Status.Used = v.Spec.Hard, l.quotaUse(v)
		var requests, limits []string
		for _, name := range slices.Sorted(maps.Keys(v.Spec.Hard)) {
			used, hard := v.Status.Used[name], v.Spec.Hard[name]
			text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
			if strings.HasPrefix(string(name), "limits.") {
				limits = append(limits, text)
			} else {
				requests = append(requests, text)
			}
		}
		out = append(out, entry{address: o.Address, meta: createdAt(o, v), object: covered(o, v), cells: []string{v.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), l.ageOf(o)}})
	}
	return out
}

func listLimitRanges(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindLimitRange) {
		v := o.Value.(*corev1.LimitRange)
		created := "<unknown>"
		if o.CreatedAt != nil {
			created = o.CreatedAt.UTC().Format(time.RFC3339)
		}
		out = append(out, entry{address: o.Address, meta: v, object: covered(o, v), cells: []string{v.Name, created}})
	}
	return out
}

func listPriorityClasses(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindPriorityClass) {
		v := o.Value.(*schedulingv1.PriorityClass)
		policy := corev1.PreemptLowerPriority
		if v.PreemptionPolicy != nil {
			policy = *v.PreemptionPolicy
		}
		out = append(out, entry{address: o.Address, meta: v, object: covered(o, v), cells: []string{v.Name, number(v.Value), strconv.FormatBool(v.GlobalDefault), l.ageOf(o), string(policy)}})
	}
	return out
}
