package planner

import (
	"berth.dev/berth/api"
)

// Bare pods are made once. One that somebody has removed from its host, that lost its node or had to leave it, is gone, as in
// Kubernetes, where no controller looks after it; a container that ended or a host that was rebooted is no such end. What is
// made anew because its object changes, or because somebody asks for it, is another pod.

// endOnce decides whether the pod of a workload that makes its pods once has come to its end.
func (d *draft) endOnce(w *workload) {
	if !w.want.Once || d.remade[w.address] || d.replaced(w.object) || d.movesVolume(w) {
		return
	}
	for _, p := range w.pods {
		if !p.fixed && p.evict == "" && w.madeFor(p) {
			return // it is there; what the state knows besides is one of before: it is older than the hosts
		}
	}
	reason := ""
	if g := d.prior.GonePod(w.address); g != nil && g.Hash == w.want.Template.Hash {
		reason = g.Reason
	}
	for _, p := range w.gone {
		if p.ready && w.madeFor(p) {
			p.ended = firstOf(p.trouble, "node "+p.host.name+" leaves the cluster")
		}
	}
	for _, p := range w.lost {
		if w.madeFor(p) {
			p.ended = p.host.deathOf()
		}
	}
	for _, p := range w.preempted {
		p.ended = p.evict
	}
	for _, p := range w.pods {
		if !p.fixed && w.madeFor(p) {
			p.ended = p.evict
		}
	}
	for _, list := range [][]*pod{w.gone, w.lost, w.preempted, w.pods} {
		for _, p := range list {
			reason = firstOf(reason, p.ended)
		}
	}
	if reason == "" {
		return
	}
	w.want.Replicas = 0
	d.warnAt(w.object, "", "Pod is gone", "%s is gone (%s), and a bare pod is not made again by itself. To have it again, run `berth apply --replace=%s`; a deployment with one replica would be kept.", w.address, reason, w.address)
}

// goneFor is what the state remembers of a pod that has come to its end.
func (p *pod) goneFor() *api.GonePod {
	if p.ended == "" {
		return nil
	}
	return &api.GonePod{Address: p.address.Owner(), Hash: p.hash, Reason: p.ended}
}

// madeAgain returns the address of a bare pod that was gone and is there again after this plan, nil for every other object.
func (d *draft) madeAgain(a api.Address) *api.Address {
	w := d.work[a]
	if d.prior.GonePod(a) == nil || w == nil || w.frozen || w.want.Replicas == 0 {
		return nil
	}
	return &a
}
