package planner

import (
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/admission"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/rollout"
	"berth.dev/berth/planner/schedule"
)

// Quotas bound what a namespace holds at any time, so a rolling update has to have room for the pods that it makes before the old
// ones go. Each workload is counted as it is placed. One that finds no room in its quotas comes last, when it is known what the others
// give back, and waits for these; if that does not help, it makes fewer pods at a time.

// holdings is what the pods of one namespace take of its quotas, twice: at most while the workloads that are placed so far change over,
// and after they have.
type holdings struct {
	most, after *admission.Ledger
	steps       []graph.Step // of the workloads so far
}

// refusal is why a workload cannot have its pods: no node takes one, or a quota forbids it.
type refusal struct {
	fit   *schedule.FitError
	why   string // of the quota, in Kubernetes' words
	quota *corev1.ResourceQuota
	surge bool // only the pods that a rolling update makes before others go find no room
}

// openQuotas counts the pods that there are in namespaces with quotas.
func (d *draft) openQuotas() {
	d.held = map[string]*holdings{}
	for _, namespace := range d.namespacesWithQuota() {
		quotas := desiredValues[*corev1.ResourceQuota](d, namespace)
		d.held[namespace] = &holdings{most: admission.NewLedger(quotas), after: admission.NewLedger(quotas)}
	}
	for _, w := range d.workloads {
		for _, p := range w.pods {
			if h := d.held[p.namespace]; h != nil && p.counts() {
				h.most.Hold(podItem(p))
				h.after.Hold(podItem(p))
			}
		}
	}
}

// counts reports whether a pod that exists takes something of its quotas.
func (p *pod) counts() bool { return !p.over && p.spec != nil }

// account is a workload's way through its quotas.
type account struct {
	held   *holdings
	ledger *admission.Ledger
	last   bool
}

// accountFor begins with everything else that is there: at most, or for those that come last what is left of it.
func (d *draft) accountFor(w *workload) *account {
	if w.object == nil || d.held[w.object.Namespace()] == nil {
		return nil
	}
	h := d.held[w.object.Namespace()]
	a := &account{held: h, ledger: h.most.Clone(), last: w.comesLast}
	if w.comesLast {
		a.ledger = h.after.Clone()
	}
	return a
}

// admit counts a new pod, or says why it must not come now.
func (a *account) admit(p *pod) *refusal {
	if a == nil {
		return nil
	}
	if why, quota := a.ledger.Admit(podItem(p)); why != "" {
		return &refusal{why: why, quota: quota}
	}
	return nil
}

// release counts the pods that go in a wave no more.
func (a *account) release(w *workload, wave rollout.Wave) {
	if a == nil {
		return
	}
	for _, item := range removedItems(w, wave) {
		a.ledger.Release(item)
	}
}

// close has those who come next find what the workload takes at most while it changes over, and what it has given back then.
func (a *account) close(w *workload) {
	if a == nil {
		return
	}
	var come, went []admission.Item
	beside := 0 // how many more than before there are at most
	for k, wave := range w.waves {
		for i, p := range w.fresh[k] {
			if i == wave.Free {
				went = append(went, removedItems(w, wave)...)
			}
			come = append(come, podItem(p))
			beside = max(beside, len(come)-len(went))
		}
		if len(w.fresh[k]) <= wave.Free {
			went = append(went, removedItems(w, wave)...)
		}
	}
	for i, item := range come {
		a.held.after.Hold(item)
		if i < len(went) {
			a.held.most.Release(went[i])
			item = admission.Larger(item, went[i])
		}
		a.held.most.Hold(item)
	}
	for _, item := range went {
		a.held.after.Release(item)
	}
	for i := range beside - max(0, len(come)-len(went)) {
		a.held.most.Hold(come[i])
	}
}

func removedItems(w *workload, wave rollout.Wave) []admission.Item {
	var out []admission.Item
	for _, i := range wave.Remove {
		if p := w.pods[i]; p.counts() {
			out = append(out, podItem(p))
		}
	}
	return out
}

// lessAtOnce has a workload for which a quota leaves no room make fewer pods beside those that it replaces: as many as there is room
// for. What it returns is why that does not help.
func (d *draft) lessAtOnce(w *workload, r *refusal) *refusal {
	order, ok := w.want.Order.(rollout.Surging)
	if !ok {
		return r
	}
	quota := r.quota
	fits, tooMany := -1, order.AtOnce()
	for low := order.Fewest(); low < tooMany; { // the most that fits lies in low..tooMany-1
		n := (low + tooMany) / 2
		w.want.Order = order.Bounded(n)
		d.changeOver(w)
		switch again := d.placePods(w); {
		case again == nil:
			fits, low = n, n+1
		case again.quota == nil:
			return again
		default:
			r, tooMany = again, n
		}
	}
	if fits < 0 {
		r.surge = order.AtOnce() > 0 && w.want.Replicas <= len(w.pods)
		return r
	}
	w.want.Order = order.Bounded(fits)
	d.changeOver(w)
	if again := d.placePods(w); again != nil {
		return again
	}
	w.limited = "surge " + plural(fits, "pod") + " instead of " + plural(order.AtOnce(), "pod") + ": " + quotaAddress(d, quota) + " leaves no room for more"
	return nil
}

func quotaAddress(d *draft, q *corev1.ResourceQuota) string {
	if o := d.named[kindName(api.KindResourceQuota, q.Namespace, q.Name)]; o != nil {
		return o.Address.String()
	}
	return "quota " + q.Name
}

// afterQuotas is what a workload waits for that has room in its quotas only when the others have changed over.
func (d *draft) afterQuotas(w *workload) []graph.Step {
	if !w.comesLast || w.object == nil || d.held[w.object.Namespace()] == nil {
		return nil
	}
	return d.held[w.object.Namespace()].steps
}

// passQuotas has those that come last wait for these steps.
func (d *draft) passQuotas(w *workload, own []graph.Step) {
	for _, p := range w.pods {
		if h := d.held[p.namespace]; h != nil && p.removed {
			h.steps = d.graph.Join(w.address, "room in quotas", append(h.steps, own...))
			return
		}
	}
}
