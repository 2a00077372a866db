package planner

import (
	"slices"
	"strconv"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

// place says in what waves each workload changes over and gives every new pod a node. Pods stay where they are as
// long as they fit.
//
// Workloads come in the order of their steps. The room of pods that go earlier in that order is free for those that
// come later; these then wait for the ones whose room they take. What fits only into the room of pods that go later
// comes last, with everything that depends on it.
func (d *draft) place() {
	for _, w := range d.workloads {
		w.services = d.servicesFor(w)
	}
	lines := d.inOrder()
	d.lines = lines
	d.room = d.newRoom()
	d.openQuotas()
	var last []*api.Object
	postponed := map[api.Address]bool{}
	for _, o := range lines.order(d.rank) {
		late := slices.ContainsFunc(lines.needs(o), func(a api.Address) bool { return postponed[a] })
		if w := d.work[o.Address]; w != nil && !w.frozen {
			d.evictions(w)
			if w.isJob() {
				d.changeJob(w)
			} else {
				d.changeOver(w)
			}
			d.checkEvicted(w)
			late = late || d.placePods(w) != nil
		}
		if late {
			postponed[o.Address] = true
			last = append(last, o)
			continue
		}
		d.line = append(d.line, o)
	}
	for _, w := range d.workloads {
		if w.object == nil && !w.frozen {
			d.removeAll(w)
		}
	}
	d.placeLast(last)
	d.sayStuck()
	d.warnOfBudgets()
	d.checkLeft()
}

// rank is the priority of the pods that an object makes: the room that is left goes to the highest first.
func (d *draft) rank(o *api.Object) int32 {
	if w := d.work[o.Address]; w != nil {
		return w.priority()
	}
	return 0
}

// placeLast places what did not fit, or depends on what did not, now that all others have gone who will.
func (d *draft) placeLast(last []*api.Object) {
	d.last = last
	for _, o := range last {
		w := d.work[o.Address]
		if w == nil || w.frozen {
			continue
		}
		w.comesLast = true
		r := d.placePods(w)
		if r != nil && r.fit != nil {
			r = d.preempt(w, r)
		}
		if r != nil && r.quota != nil {
			r = d.lessAtOnce(w, r)
		}
		switch {
		case r == nil:
		case r.quota != nil:
			d.forbidden(w, r)
		case d.pend(w, r.fit):
		case !d.waitsForRoom(w):
			fit := r.fit
			d.errorAt(o, api.PodSpecPath(o.Address.Kind), "No node fits", "%s: %s\n%s\nAdd nodes, free room on them, or change what the pods ask for.",
				w.address, fit.Error(), indent(fit.Lines()))
		}
	}
}

// removeAll plans the end of a workload that is no longer wanted.
func (d *draft) removeAll(w *workload) {
	var all []int
	for i, p := range w.pods {
		if !p.fixed {
			all = append(all, i)
		}
	}
	if len(all) > 0 {
		w.waves = []rollout.Wave{{Remove: all}}
		w.fresh = make([][]*pod, 1)
		d.room.release(w, w.waves[0])
		for _, i := range all {
			if h := d.held[w.pods[i].namespace]; h != nil && w.pods[i].counts() {
				h.after.Release(podItem(w.pods[i]))
			}
		}
	}
}

// evictions marks pods that must leave their nodes.
func (d *draft) evictions(w *workload) {
	for _, p := range w.pods {
		if w.current(p) && !p.host.leaves {
			d.bind(w, p.spec, p.host) // a volume that the state does not know is where a pod that claims it runs
		}
	}
	moved := ""
	for _, v := range d.volumesOf(w) {
		if v.moves {
			moved = v.object.Address.String() + " moves to node " + v.host.name
		}
	}
	for _, p := range w.pods {
		switch {
		case p.fixed:
		case p.host.leaves:
			p.evict = "node " + p.host.name + " leaves the cluster"
		case p.drained:
			p.evict = "node " + p.host.name + " is drained"
		case p.overuse != "":
			p.evict = p.overuse
		case d.remade[w.address]:
			p.evict = "asked for by -replace"
		case d.replaced(w.object):
			p.evict = "forces replacement"
		case moved != "":
			p.evict = moved
		default:
			s := p.scheduled()
			s.Pins = d.pins(w, p.spec)
			if err := d.room.after.Fits(s, p.host.name); err != nil && w.current(p) {
				p.evict = err.Error()
			}
		}
	}
}

// changeOver asks the workload's controller for the waves.
func (d *draft) changeOver(w *workload) {
	d.endOnce(w)
	if d.replaced(w.object) && !d.remade[w.address] || d.movesVolume(w) {
		w.want.Order = w.want.Order.Anew()
		w.allAtOnce()
	}
	d.easeOut(w)
	pods := make([]rollout.Pod, len(w.pods))
	for i, p := range w.pods {
		pods[i] = rollout.Pod{
			Slot: p.slot, Current: w.current(p) && p.evict == "", Hash: p.hash, Available: p.available(), Fixed: p.fixed, Leaving: p.host.leaves,
			Known: p.known, Ordinal: rollout.Ordinal(p.address.Pod), UID: p.uid, Node: p.host.name, Created: p.created, Ending: d.endingOf(p),
		}
	}
	if why := w.want.Order.Blocked(w.want, pods); why != "" {
		d.warnAt(w.object, "", "Workload waits for a host", "%s %s. Nothing of it changes until that host is back or leaves the inventory.", w.address, why)
	}
	w.waves = d.withoutTended(w, w.want.Order.Waves(w.want, pods))
	for k, wave := range w.waves {
		for _, i := range wave.Mend {
			p := w.pods[i]
			p.mend, p.reason, p.wave = true, troubleIn(w, p), k+1
			w.complete(p)
		}
	}
}

// withoutTended leaves out of the waves what somebody else sees to: pods that run or not where they are.
func (d *draft) withoutTended(w *workload, waves []rollout.Wave) []rollout.Wave {
	if len(d.Tended) == 0 {
		return waves
	}
	for k := range waves {
		waves[k].Mend = slices.DeleteFunc(slices.Clone(waves[k].Mend), func(i int) bool { return d.Tended[w.pods[i].uid] && w.pods[i].known })
	}
	return rollout.Finish(waves)
}

func (d *draft) movesVolume(w *workload) bool {
	for _, v := range d.volumesOf(w) {
		if v.moves {
			return true
		}
	}
	return false
}

// placePods gives a workload's new pods their nodes. The room that was kept for them stays theirs when it does not do yet.
func (d *draft) placePods(w *workload) *refusal {
	defer d.room.lend(d.endedBefore(w))()
	kept := d.room.claim(w)
	place := d.placeWorkload
	if w.isJob() {
		place = d.placeJob
	}
	r := place(w)
	if r != nil {
		d.room.keep(w.address, kept)
	}
	return r
}

// placeWorkload gives a workload's new pods their nodes, wave by wave. On an error everything is as before.
func (d *draft) placeWorkload(w *workload) *refusal {
	taken, n, quotas := w.taken(d), 0, d.accountFor(w)
	w.fresh = make([][]*pod, len(w.waves))
	undo := d.room.mark()
	var bound []*volume
	for k, wave := range w.waves {
		for i, slot := range wave.Create {
			if i == wave.Free {
				d.room.release(w, wave)
				quotas.release(w, wave)
			}
			var p *pod
			p, n = d.newPod(w, slot, n, taken)
			r := quotas.admit(p)
			if r == nil {
				r = d.placeClaiming(w, p)
			}
			if r != nil {
				undo()
				for _, v := range bound {
					v.host = nil
				}
				return r
			}
			p.wave = k + 1
			w.fresh[k] = append(w.fresh[k], p)
			bound = append(bound, d.bind(w, p.spec, p.host)...)
		}
		if len(wave.Create) <= wave.Free {
			d.room.release(w, wave)
			quotas.release(w, wave)
		}
	}
	quotas.close(w)
	for _, list := range w.fresh {
		for _, p := range list {
			w.complete(p)
			d.checkPod(w, p)
		}
	}
	return nil
}

func indent(lines []string) string {
	const most = 10
	if more := len(lines) - most; more > 1 {
		lines = append(lines[:most:most], "and "+strconv.Itoa(more)+" more")
	}
	return "  " + strings.Join(lines, "\n  ")
}

// replaced reports whether a change of the object forces a replacement.
func (d *draft) replaced(o *api.Object) bool {
	c := d.changes[o.Address]
	return c != nil && c.Action == api.Replace
}
