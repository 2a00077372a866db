package planner

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/admission"
	"berth.dev/berth/planner/graph"
)

// Disruption budgets bind what empties a node on purpose: a drain and, as far as that can be, preemption. They bind neither rollouts
// nor what somebody removes, nor a node that is lost (semantics.md 3.8).

// budget is a disruption budget with what it comes to as the plan begins.
type budget struct {
	object *api.Object
	value  *policyv1.PodDisruptionBudget
	now    admission.Budget
	serve  map[*workload]int // healthy pods of each workload
	gate   []graph.Step      // after which the pods that were evicted so far have their successors
}

// countBudgets finds the disruption budgets and what each allows. It comes before anything is decided about pods.
func (d *draft) countBudgets() {
	for _, o := range d.desired {
		value, ok := o.Value.(*policyv1.PodDisruptionBudget)
		if !ok {
			continue
		}
		b := &budget{object: o, value: value, serve: map[*workload]int{}}
		var pods []admission.BudgetPod
		for _, w := range d.workloads {
			for _, p := range w.pods {
				if p.namespace != o.Namespace() {
					continue
				}
				as := w.budgetPod(p)
				pods = append(pods, as)
				if as.Ready && as.Phase == corev1.PodRunning && admission.Selects(value, p.labels) {
					b.serve[w]++
				}
			}
		}
		var err error
		if b.now, err = admission.BudgetOf(value, pods); err != nil {
			d.errorAt(o, "spec", "Invalid disruption budget", "%s: %s.", o.Address, err)
			continue
		}
		d.budgets = append(d.budgets, b)
	}
}

// budgetPod is a pod as disruption budgets see it. One on a host that does not answer is not healthy.
func (w *workload) budgetPod(p *pod) admission.BudgetPod {
	out := admission.BudgetPod{Name: p.address.Pod, Labels: p.labels, Phase: p.phase(), Ready: p.available() && !p.fixed}
	if p.over {
		out.Phase = corev1.PodSucceeded
	}
	if w.want != nil && !w.want.Once {
		out.Owner, out.Replicas = w.address.String(), w.want.Replicas
	}
	return out
}

// budgetsFor are the budgets that select a pod.
func (d *draft) budgetsFor(p *pod) []*budget {
	var out []*budget
	for _, b := range d.budgets {
		if b.object.Namespace() == p.namespace && admission.Selects(b.value, p.labels) {
			out = append(out, b)
		}
	}
	return out
}

// floor is how many pods of a workload must serve at any time, as far as budgets say: what each needs, less what serves of other
// workloads.
func (d *draft) floor(w *workload, pods []*pod) int {
	least := 0
	for _, p := range pods {
		for _, b := range d.budgetsFor(p) {
			others := 0
			for other, n := range b.serve {
				if other != w {
					others += n
				}
			}
			least = max(least, b.now.Desired-others)
		}
	}
	return least
}

// mayEvict says why a pod may not be evicted just now, in Kubernetes' words, "" when it may.
func (w *workload) mayEvict(p *pod, budgets []*budget) string {
	var now []admission.Budget
	for _, b := range budgets {
		now = append(now, b.now)
	}
	return admission.MayEvict(w.budgetPod(p), now)
}
