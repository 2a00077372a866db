package planner

import (
	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

// older finds the template that a pod of an object was made from or, where there is no such pod, the one with the lowest
// ordinal was; nil when the history has it no more.
func (d *draft) older(owner api.Address, name string) *rollout.Older {
	hash, lowest := "", -1
	for _, p := range d.pods[owner] {
		n := rollout.Ordinal(p.address.Pod)
		switch {
		case p.address.Pod == name && (p.known || hash == "" || lowest >= 0):
			hash, lowest = p.hash, -2
		case lowest != -2 && n >= 0 && (lowest < 0 || n < lowest):
			hash, lowest = p.hash, n
		}
	}
	for _, r := range d.prior.RevisionsOf(owner) {
		if r.Hash == hash && hash != "" {
			return &rollout.Older{Template: &r.Template, Hash: r.Hash, Pin: pinWith(r.Pins)}
		}
	}
	return nil
}

// pinWith returns what references meant when a revision was made.
func pinWith(pins []api.ImagePin) func(string) string {
	return func(ref string) string {
		for _, p := range pins {
			if p.Ref == ref {
				return p.Pinned
			}
		}
		return ref
	}
}

// ofTemplate reports whether a pod is made from the template that its object has now.
func (w *workload) ofTemplate(p *pod) bool { return p.hash == w.want.Template.Hash }

// contentsFor are the config maps and secrets that a pod refers to, by the template that it is made from.
func (d *draft) contentsFor(w *workload, p *pod) []api.Address {
	if w.ofTemplate(p) {
		return d.contents(w)
	}
	return d.contentsOf(p.namespace, referencesOf(p.spec))
}
