package planner

import (
	"slices"

	"berth.dev/berth/api"
)

// A removal that was cut short, or the making of a pod, can leave files, logs and cgroups of a pod without a sandbox. If the state knows the pod, it is
// missing and dealt with as such. If not, what is left goes.

const remainsReason = "only files of it were left on the node by a run that was stopped"

// collectRemains finds what is left on a host of pods that the state does not know there.
func (d *draft) collectRemains(h *host) {
	for i := range h.seen.Remains {
		r := &h.seen.Remains[i]
		known := slices.ContainsFunc(d.prior.Pods, func(p api.PodState) bool { return p.UID == r.UID && p.Node == h.name })
		if known || h.podsSeen[r.UID] || r.Lineage != d.prior.Lineage || d.targeted() && !d.chosen(r.Address.Owner()) {
			continue
		}
		h.rests = append(h.rests, &pod{address: r.Address, namespace: r.Namespace, uid: r.UID, host: h, missing: true, reason: remainsReason})
	}
}

// clearRemains removes that, unless the plan makes just this pod again. Nothing waits for it but the pods of jobs, whose names are not known yet.
func (d *draft) clearRemains() {
	made := map[string]bool{} // node and uid
	for _, w := range d.workloads {
		for _, list := range w.fresh {
			for _, p := range list {
				made[p.host.name+" "+p.uid] = true
			}
		}
	}
	for _, h := range d.hosts {
		h.rests = slices.DeleteFunc(h.rests, func(p *pod) bool { return made[h.name+" "+p.uid] })
		for _, p := range h.rests {
			owner := p.address.Owner()
			d.lost.removed[owner] = append(d.lost.removed[owner], d.removePod(p))
		}
	}
}
