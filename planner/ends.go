package planner

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
)

// clearConflicts takes away the rules of services that go before others take over their address or node port. One that
// lives on under another address keeps its rules.
func (d *draft) clearConflicts() {
	for _, o := range d.deleted {
		old := priorService(o)
		if old == nil || !hasRules(old) {
			continue
		}
		for _, s := range d.services {
			if s.key == serviceKey(old) {
				for _, h := range d.hosts {
					h.cleared[s.key] = !h.leaves // it is set, not removed
				}
				continue
			}
			if !s.rules || !samePorts(old, s.value) {
				continue
			}
			for _, h := range d.hosts {
				s.before[h] = append(s.before[h], d.rulesGone(h, o, old)...)
			}
		}
	}
}

// rulesGone removes a deleted service's rules from one host, or finds the step that does.
func (d *draft) rulesGone(h *host, o *api.Object, v *corev1.Service) []graph.Step {
	d.ended[o.Address] = append(d.ended[o.Address], d.removeRules(h, o.Address, v, "another service takes its place", nil)...)
	var out []graph.Step
	for _, s := range d.ended[o.Address] {
		if d.graph.At(s).Node == h.name {
			out = append(out, s)
		}
	}
	return out
}

// endWorkloads removes the pods of workloads that go. Services that stay learn of it first, and those that go are
// gone before.
func (d *draft) endWorkloads() {
	order, links := d.backwards()
	d.leaving = links
	users := d.users()
	for _, o := range order {
		needs := d.endNeeds(o, users)
		switch w, s := d.work[o.Address], priorService(o); {
		case w != nil:
			d.ended[o.Address] = append(d.ended[o.Address], d.endWorkload(w, needs)...)
		case s != nil && hasRules(s):
			for _, h := range d.hosts {
				if !h.leaves || d.Destroy {
					d.ended[o.Address] = append(d.ended[o.Address], d.removeRules(h, o.Address, s, d.reasonToEnd(), needs)...)
				}
			}
		}
		d.ended[o.Address] = d.graph.Join(o.Address, "gone from the hosts", slices.Concat(needs, d.ended[o.Address]))
	}
	for _, w := range d.workloads {
		if w.object == nil && w.prior == nil {
			d.endWorkload(w, nil)
		}
	}
}

func (d *draft) reasonToEnd() string {
	if d.Destroy {
		return "destroy"
	}
	return "not in configuration"
}

// endNeeds is what must be done before a deleted object goes: its users are gone or no longer use it.
func (d *draft) endNeeds(o *api.Object, users map[api.Address][]api.Address) []graph.Step {
	var out []graph.Step
	i := d.leaving.index[o.Address]
	for j, other := range d.leaving.objects {
		if slices.Contains(d.leaving.edges[j], i) {
			out = append(out, d.ended[other.Address]...)
		}
	}
	for _, u := range users[o.Address] {
		out = append(out, d.done[u]...)
	}
	return out
}

func (d *draft) endWorkload(w *workload, needs []graph.Step) []graph.Step {
	return d.changeWorkload(w, needs)
}

// endObjects forgets deleted objects when nothing of them is left, and removes the data of volumes that say so.
// What an object has made for its pods goes before the object itself.
func (d *draft) endObjects() {
	owned := map[api.Address][]graph.Step{}
	unnamed := d.dropRecords()
	for _, o := range ownedFirst(d.deleted) {
		after := slices.Concat(d.ended[o.Address], owned[o.Address])
		if o.Address.Kind == api.KindService {
			after = append(after, unnamed...)
		}
		delta := api.Delta{DropObject: &o.Address, DropJobs: d.endedRuns(o.Address), DropHolder: d.unheld(o, nil)}
		if d.prior.GonePod(o.Address) != nil {
			delta.DropGone = &o.Address
		}
		if v := d.volumes[o.Address]; v != nil && v.state != nil {
			if v.removable() {
				after = append(after, d.removeVolume(v, after))
			} else {
				delta.DropVolume = &v.state.Address
			}
		} else if s := d.volumeState(o.Address); s != nil {
			delta.DropVolume = &s.Address // it lives on under another address
		}
		s := d.graph.Add(api.Step{Op: api.OpForget, Address: o.Address, Reason: firstOf(d.dropped[o.Address], d.reasonToEnd()), Delta: delta}, after...)
		d.ended[o.Address] = []graph.Step{s}
		owned[o.Owner] = append(owned[o.Owner], s)
	}
	d.strayVolumes()
	d.strayRuns()
	for _, a := range sortedAddresses(d.volumes) {
		v := d.volumes[a]
		if v.moves && reclaims(v.prior) && d.byHost[v.state.Node] != nil && d.byHost[v.state.Node].reach == up {
			old := *v
			old.host, old.path = d.byHost[v.state.Node], v.state.Path
			d.removeVolume(&old, nil)
		}
	}
}

// ownedFirst returns objects with those that have an owner in front, otherwise as they were given.
func ownedFirst(objects []*api.Object) []*api.Object {
	out := slices.Clone(objects)
	slices.SortStableFunc(out, func(a, b *api.Object) int {
		return cmp.Compare(min(len(b.Owner.Name), 1), min(len(a.Owner.Name), 1))
	})
	return out
}

// removeVolume takes a volume's directory away when no pod that claims it is left there.
func (d *draft) removeVolume(v *volume, after []graph.Step) graph.Step {
	after = slices.Clone(after)
	for _, s := range v.host.steps {
		step := d.graph.At(s)
		if step.Op == api.OpPodRemove && claims(step.Pod.Pod, v.prior) {
			after = append(after, s)
		}
	}
	delta := api.Delta{DropVolume: &v.state.Address}
	if v.moves {
		delta = api.Delta{} // the new place has been put under the same address
	}
	return d.onHost(v.host, api.Step{Op: api.OpVolumeRemove, Address: v.prior.Address, Volume: v.state, Delta: delta}, after...)
}

func claims(p *corev1.Pod, volume *api.Object) bool {
	return p.Namespace == volume.Namespace() && slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == volume.Name()
	})
}

// strayRules removes rules that carry our mark and belong to no service of the configuration or the state, first of
// all: nobody knows which pods they lead to.
func (d *draft) strayRules() {
	known := map[string]bool{}
	for _, s := range d.services {
		known[s.key] = s.rules
	}
	for _, o := range d.prior.Objects {
		if v := priorService(o); v != nil && hasRules(v) {
			known[serviceKey(v)] = true
		}
	}
	for _, h := range d.hosts {
		if !h.member() {
			continue
		}
		for _, key := range sortedKeys(h.seen.Services) {
			if !known[key] {
				d.strays = append(d.strays, d.removeKey(h, key, nil)...)
			}
		}
	}
	d.retireRules()
	d.strays = d.graph.Join(api.Address{}, "rules of unknown services are gone", d.strays)
}

// retireRules removes the rules of services that have none any more, because they became a name alone: pods behind them may go.
func (d *draft) retireRules() {
	for _, s := range d.services {
		old := priorService(s.prior)
		if s.frozen || s.rules || old == nil || !hasRules(old) {
			continue
		}
		for _, h := range d.hosts {
			steps := d.removeRules(h, s.object.Address, old, "rules are no longer wanted", nil)
			s.steps, d.strays = append(s.steps, steps...), append(d.strays, steps...)
		}
	}
}

func (d *draft) removeKey(h *host, key string, after []graph.Step) []graph.Step {
	namespace, name, _ := strings.Cut(key, "/")
	v := &corev1.Service{}
	v.Namespace, v.Name = namespace, name
	return d.removeRules(h, d.addressOfService(key), v, d.reasonToEnd(), after)
}

// addressOfService finds whose rules a key names; an unknown one is blamed on an address made of its name.
func (d *draft) addressOfService(key string) api.Address {
	for _, s := range d.services {
		if s.key == key {
			return s.object.Address
		}
	}
	for _, o := range d.prior.Objects {
		if v := priorService(o); v != nil && serviceKey(v) == key {
			return o.Address
		}
	}
	_, name, _ := strings.Cut(key, "/")
	return api.Address{Kind: api.KindService, Name: name}
}
