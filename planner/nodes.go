package planner

import (
	"slices"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
	"berth.dev/berth/planner/schedule"
)

// eligible returns the nodes on which an object that wants a pod on each of them has one: those that take one, and those that
// have one which may stay. A host that cannot be worked on keeps what it has and gets nothing new.
func (d *draft) eligible(o *api.Object, t *rollout.Template) []string {
	if d.nodes == nil {
		d.nodes = schedule.New(d.schedulable(), nil, schedule.Options{})
	}
	has := map[string]bool{}
	for _, p := range d.pods[o.Address] {
		has[p.host.name] = has[p.host.name] || !p.missing || p.hash == t.Hash
	}
	var out []string
	for _, h := range d.hosts {
		if h.leaves || h.kept || h.dead != "" {
			continue
		}
		takes, keeps := d.nodes.Eligible(&t.Spec, h.name)
		if takes && (h.reach == up || has[h.name]) || keeps && has[h.name] {
			out = append(out, h.name)
		}
	}
	slices.Sort(out)
	return out
}
