package planner

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/rollout"
	"berth.dev/berth/planner/schedule"
)

// A pod that fits nowhere takes the room of pods with a lower priority (semantics.md 2.9). These leave their services and stop
// first of all; their controllers then make others where there is room, and what fits nowhere stays pending until a later plan finds
// room. As both follow from who goes, a plan in which that was found out is made once more with what was found out.

// preemption is what one workload takes from others.
type preemption struct {
	by        api.Address
	victims   map[string]bool // by their keys in the scheduler
	nominated []schedule.Pod  // its new pods, with the nodes where they find room
}

// preemptor returns who takes the room of a pod, "" for nobody.
func (d *draft) preemptor(p *pod) string {
	for _, q := range d.preemptions {
		if q.victims[p.scheduled().Key] {
			return q.by.String()
		}
	}
	return ""
}

// keep keeps room that was found for an object's pods from everybody else, until they are placed.
func (r *room) keep(a api.Address, pods []schedule.Pod) {
	r.nominated[a] = append(r.nominated[a], pods...)
	for _, s := range pods {
		r.after.Add(s, s.Node)
	}
}

// claim gives a workload the room that was kept for it.
func (r *room) claim(w *workload) []schedule.Pod {
	pods := r.nominated[w.address]
	for _, s := range pods {
		r.after.Remove(s)
	}
	delete(r.nominated, w.address)
	return pods
}

// preempt looks for room for a workload that fits nowhere at the cost of others, and places its pods there. What it returns is why that
// is not possible.
func (d *draft) preempt(w *workload, r *refusal) *refusal {
	q := preemption{by: w.address, victims: map[string]bool{}}
	var taken []schedule.Pod
	for r != nil && r.fit != nil {
		s := d.room.misfit
		if why := mayNotPreempt(s.Spec); why != "" {
			r.fit.Preemption = why
			break
		}
		candidates, pods, allowed := d.victims(q)
		found, why := d.room.after.Preempt(s, priorityOf(s.Spec), candidates, allowed)
		if found == nil {
			r.fit.Preemption = why
			break
		}
		for _, v := range found.Victims {
			q.victims[v.Key] = true
			taken = append(taken, pods[v.Key].scheduled())
			d.room.after.Remove(taken[len(taken)-1])
		}
		r = d.placePods(w)
	}
	if r != nil {
		for _, s := range taken {
			d.room.after.Add(s, s.Node)
		}
		return r
	}
	for _, p := range w.placed() {
		s := p.scheduled()
		s.Key = fmt.Sprintf("nominated %s %d", w.address, len(q.nominated))
		q.nominated = append(q.nominated, s)
	}
	d.preemptions = append(d.preemptions, q)
	d.again = true
	return nil
}

// placed are a workload's new pods; of a job those that it makes first.
func (w *workload) placed() []*pod {
	var out []*pod
	for _, list := range w.fresh {
		out = append(out, list...)
	}
	return out
}

func mayNotPreempt(spec *corev1.PodSpec) string {
	if spec.PreemptionPolicy != nil && *spec.PreemptionPolicy == corev1.PreemptNever {
		return "not eligible due to preemptionPolicy=Never."
	}
	return ""
}

func priorityOf(spec *corev1.PodSpec) int32 {
	if spec == nil || spec.Priority == nil {
		return 0
	}
	return *spec.Priority
}

// victims are the pods that may go for others: those that run, that the plan is about and that do not go anyway. With them comes how many
// pods each disruption budget lets go beside those that go already.
func (d *draft) victims(q preemption) (out []schedule.Victim, pods map[string]*pod, allowed []int) {
	pods = map[string]*pod{}
	for _, b := range d.budgets {
		allowed = append(allowed, b.now.DisruptionsAllowed)
	}
	for _, w := range d.workloads {
		if w.frozen || w.object == nil {
			continue
		}
		for _, p := range slices.Concat(w.pods, w.preempted) {
			key := p.scheduled().Key
			v := schedule.Victim{Key: key, Priority: priorityOf(p.spec), Started: p.created}
			for i, b := range d.budgets {
				if slices.Contains(d.budgetsFor(p), b) {
					v.Budgets = append(v.Budgets, i)
				}
			}
			if q.victims[key] || d.preemptor(p) != "" {
				for _, i := range v.Budgets {
					allowed[i] = max(0, allowed[i]-1)
				}
				continue
			}
			if p.fixed || p.removed || p.over || p.missing {
				continue
			}
			pods[key] = p
			out = append(out, v)
		}
	}
	return out, pods, allowed
}

// warnOfBudgets names the disruption budgets that preemption does not keep.
func (d *draft) warnOfBudgets() {
	gone := map[*budget]int{}
	for _, w := range d.workloads {
		for _, p := range w.preempted {
			for _, b := range d.budgetsFor(p) {
				if gone[b]++; gone[b] == b.now.DisruptionsAllowed+1 {
					d.warnAt(b.object, "", "Disruption budget is not kept", "%s needs %d healthy pods and has %d, and pods of a higher priority take the room of some of them: no others would do.",
						b.object.Address, b.now.Desired, b.now.Healthy)
				}
			}
		}
	}
}

// pend has a workload do with fewer pods where the room of the others is held by pods of a higher priority. It must have been applied
// before with as many: what is new and fits nowhere is refused.
func (d *draft) pend(w *workload, fit *schedule.FitError) bool {
	if w.isJob() || w.prior == nil || w.sided || w.stage != nil || w.held {
		return false
	}
	first := fit.Error()
	wanted, pending := w.want.Replicas, 0
	for fit != nil {
		s := d.room.misfit
		if !d.room.after.HeldBack(s, priorityOf(s.Spec)) || w.want.Replicas <= len(w.staying()) || w.grows(wanted) {
			return false
		}
		d.doWithout(w, d.room.misfitSlot)
		pending++
		d.changeOver(w)
		r := d.placePods(w)
		if r != nil && r.quota != nil {
			return false
		}
		if fit = nil; r != nil {
			fit = r.fit
		}
	}
	w.pending = fmt.Sprintf("%d of %d pods stay pending", pending, wanted)
	d.warnAt(w.object, "", "Pods stay pending", "%s: %d of %d pods are not made, because pods of a higher priority hold the room. %s A later plan makes them when there is room.", w.address, pending, wanted, first)
	return true
}

// grows reports whether a workload wants more pods than what was last applied did.
func (w *workload) grows(wanted int) bool {
	before, known := rollout.Replicas(w.prior)
	return known && wanted > before
}

// staying are the pods that nothing but a rollout takes away.
func (w *workload) staying() []*pod {
	var out []*pod
	for _, p := range w.pods {
		if p.evict == "" && !p.missing {
			out = append(out, p)
		}
	}
	return out
}

// doWithout has a workload want one pod less: that of a slot, where each has its own.
func (d *draft) doWithout(w *workload, slot int) {
	w.want.Replicas--
	if len(w.want.Slots) <= 1 && !w.want.Fixed() && (len(w.want.Slots) == 0 || w.want.Slots[0].Node == "") {
		return
	}
	w.want.Slots = slices.Delete(slices.Clone(w.want.Slots), slot, slot+1)
	for _, p := range w.pods {
		switch {
		case p.slot == slot:
			p.slot = -1
		case p.slot > slot:
			p.slot--
		}
	}
}

// removePreempted takes the pods away whose room others take, out of the services first.
func (d *draft) removePreempted() {
	for _, w := range d.workloads {
		if len(w.preempted) == 0 {
			continue
		}
		t := &changeOver{draft: d, workload: w}
		var sets []graph.Step
		for _, s := range w.services {
			if t.moveMembers(s, nil, w.preempted) {
				sets = append(sets, t.setRules(s, "pods of "+w.address.String()+" are preempted", nil)...)
			}
		}
		sets = append(sets, t.settle(w.preempted, nil)...)
		sets = t.graph.Join(w.address, "services know", slices.Concat(sets, t.strays))
		for _, p := range w.preempted {
			w.cleared = append(w.cleared, t.removePod(p, sets...))
		}
	}
}
