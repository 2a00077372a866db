package planner

import (
	"slices"
	"strings"

	"berth.dev/berth/api"
)

// selectObjects says which objects should exist after the plan: those of the configuration, narrowed by the targets;
// what lies outside the targets stays as it was applied.
func (d *draft) selectObjects() {
	targets := d.addresses(d.Targets, "-target")
	targets = append(targets, d.drainTargets()...)
	chosen := d.choice(targets)
	d.chosen = chosen
	configured := map[api.Address]*api.Object{}
	for _, o := range d.Config.Objects {
		configured[o.Address] = o
	}
	for _, o := range d.Config.Objects {
		if !d.Destroy && chosen(o.Address) {
			d.keep(d.override(d.autoscaled(o)))
		}
	}
	d.wantClaims()
	for _, o := range d.prior.Objects {
		switch {
		case o.Owner != (api.Address{}) && (chosen(o.Address) || chosen(o.Owner)):
			if d.byAddress[o.Address] == nil {
				d.priorClaim(o)
			}
		case !chosen(o.Address):
			d.frozen[o.Address] = true
			d.keep(o)
		case d.byAddress[o.Address] == nil:
			d.deleted = append(d.deleted, o)
			d.protect(o, configured[o.Address])
		}
	}
	slices.SortFunc(d.desired, func(a, b *api.Object) int { return a.Address.Compare(b.Address) })
	slices.SortFunc(d.deleted, func(a, b *api.Object) int { return a.Address.Compare(b.Address) })
	for _, h := range d.hosts {
		if h.leaves && len(targets) > 0 && !contains(targets, h.address()) {
			h.kept, h.leaves = !d.listed(h), false
		}
	}
	for _, a := range d.addresses(d.Replace, "-replace") {
		d.remade[a] = true
	}
	d.uniqueNames()
}

func (d *draft) keep(o *api.Object) {
	d.desired = append(d.desired, o)
	d.byAddress[o.Address] = o
}

// addresses parses the addresses of an option; each must name something that is there.
func (d *draft) addresses(texts []string, option string) []api.Address {
	var out []api.Address
	for _, text := range texts {
		a, err := api.ParseAddress(text)
		if err != nil {
			d.diags.Errorf(api.Range{}, "Invalid address", "%s: %s.", option, err)
			continue
		}
		if !d.exists(a) {
			d.diags.Errorf(api.Range{}, "No such object", "%s: %s is neither in the configuration nor in the state. Check its spelling with `berth state list`.", option, a)
			continue
		}
		out = append(out, a)
	}
	if len(out) > 0 && option == "-target" && !d.Applied {
		d.diags.Warnf(api.Range{}, "Resource targeting is in effect",
			"The plan covers only %s and what that needs. Run plan again without -target to see whether anything else is to be done.", strings.Join(texts, ", "))
	}
	return out
}

func (d *draft) exists(a api.Address) bool {
	within := func(o *api.Object) bool { return a.Contains(o.Address) }
	return slices.ContainsFunc(d.Config.Objects, within) || slices.ContainsFunc(d.prior.Objects, within) ||
		a.Kind == api.KindNode && d.byHost[a.Name] != nil
}

func contains(list []api.Address, a api.Address) bool {
	return slices.ContainsFunc(list, func(t api.Address) bool { return t.Contains(a) })
}

// targeted reports whether the plan is about some objects alone.
func (d *draft) targeted() bool { return len(d.Targets) > 0 || d.Drain != nil }

// choice returns whether an object is planned: all without targets, else those that a target contains with what
// they need; when destroying, with what needs them.
func (d *draft) choice(targets []api.Address) func(api.Address) bool {
	if !d.targeted() {
		return func(api.Address) bool { return true }
	}
	needs := map[api.Address][]api.Address{}
	link := func(from, to api.Address) {
		if d.Destroy {
			from, to = to, from
		}
		needs[from] = append(needs[from], to)
	}
	var queue []api.Address
	for _, list := range [][]*api.Object{d.Config.Objects, d.prior.Objects} {
		for _, o := range list {
			if contains(targets, o.Address) {
				queue = append(queue, o.Address)
			}
			for _, dep := range o.DependsOn {
				link(o.Address, dep)
			}
		}
	}
	in := map[api.Address]bool{}
	for len(queue) > 0 {
		a := queue[0]
		queue = queue[1:]
		if !in[a] {
			in[a] = true
			queue = append(queue, needs[a]...)
		}
	}
	return func(a api.Address) bool { return in[a] || contains(targets, a) }
}

// protect refuses to destroy what must not be, whether the configuration or the last apply said so.
func (d *draft) protect(prior, configured *api.Object) {
	o := configured
	if o == nil {
		o = prior
	}
	if o.PreventDestroy || prior != nil && prior.PreventDestroy {
		d.errorAt(o, "lifecycle.prevent_destroy", "Object must not be destroyed",
			"%s has prevent_destroy set, and this plan would destroy it. Keep it in the configuration, narrow the plan with -target, or set prevent_destroy = false and apply that first.", o.Address)
	}
}

// uniqueNames refuses two objects of a kind with one name, which hosts could not tell apart.
func (d *draft) uniqueNames() {
	for _, o := range d.desired {
		name := nameOf(o)
		first := d.named[name]
		if first == nil {
			d.named[name] = o
			continue
		}
		where := ""
		if o.Namespace() != "" {
			where = " in namespace " + o.Namespace()
		}
		d.errorAt(o, "metadata.name", "Two objects with one name", "%s and %s are both named %q%s. Rename one of them.", first.Address, o.Address, o.Name(), where)
	}
}

// listed reports whether the inventory has a host.
func (d *draft) listed(h *host) bool {
	return slices.ContainsFunc(d.Config.Nodes, func(n *api.Node) bool { return n.Name == h.name })
}
