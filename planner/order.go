package planner

import (
	"errors"
	"slices"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
)

// order brings the steps in a line and puts the plan together.
func (d *draft) order() (*api.Plan, api.Diagnostics) {
	d.recordOutputs()
	steps, err := d.graph.Sort()
	if err != nil {
		var cycle *graph.CycleError
		if errors.As(err, &cycle) {
			d.diags.Errorf(api.Range{}, "Steps wait for each other", "%s. Remove one of the dependencies between these objects.", err)
		}
		return nil, d.sorted()
	}
	p := d.plan
	p.Steps = steps
	for _, a := range sortedAddresses(d.changes) {
		p.Changes = append(p.Changes, *d.changes[a])
	}
	d.podChanges()
	d.expose()
	d.reachable()
	p.Pins = d.allPins()
	for _, o := range d.desired {
		if d.needed[o.Address] {
			p.Objects = append(p.Objects, o)
		}
	}
	p.Facts = d.facts()
	p.Warnings = d.sorted()
	return p, p.Warnings
}

// recordOutputs remembers the output values when everything else is done.
func (d *draft) recordOutputs() {
	if len(d.plan.Outputs) == 0 {
		return
	}
	outputs := []*api.Output{} // not nil: no outputs is a value, too
	if !d.Destroy {
		outputs = append(outputs, d.Config.Outputs...)
	}
	var after []graph.Step
	for _, o := range d.desired {
		after = append(after, d.done[o.Address]...)
	}
	after = d.graph.Join(api.Address{}, "everything is as wanted", after)
	d.graph.Add(api.Step{Op: api.OpRecord, Reason: "output values", Delta: api.Delta{Outputs: &outputs}}, after...)
}

// podChanges lists what happens to pods and counts those to which nothing does.
func (d *draft) podChanges() {
	for _, h := range d.hosts {
		for _, p := range slices.Concat(h.left, h.rests) {
			d.podChange(p, api.Delete)
		}
	}
	for _, w := range d.workloads {
		for _, p := range w.pods {
			switch {
			case p.removed:
				d.podChange(p, api.Delete)
			case p.mend || p.refresh:
				d.podChange(p, api.Update)
			default:
				d.plan.Kept++
			}
		}
		for _, p := range slices.Concat(w.gone, w.lost, w.preempted) {
			d.podChange(p, api.Delete)
		}
		for _, list := range w.fresh {
			for _, p := range list {
				d.podChange(p, api.Create)
			}
		}
	}
	slices.SortStableFunc(d.plan.Pods, func(a, b api.PodChange) int { return a.Address.Compare(b.Address) })
}

func (d *draft) podChange(p *pod, a api.Action) {
	d.plan.Pods = append(d.plan.Pods, api.PodChange{
		Address: p.address, Action: a, Node: p.host.name, Reason: p.reason, Placement: p.placement, Wave: p.wave, Files: p.refresh,
	})
}

// reachable lists the nodes that steps name, with how to reach them.
func (d *draft) reachable() {
	for _, h := range d.hosts {
		if len(h.steps) > 0 || h.jobs {
			d.plan.Nodes = append(d.plan.Nodes, h.node)
		}
	}
}

func (d *draft) allPins() []api.ImagePin {
	var out []api.ImagePin
	for _, w := range d.workloads {
		if w.object != nil && !w.frozen {
			out = append(out, d.pinsOf(w)...)
		}
	}
	slices.SortFunc(out, func(a, b api.ImagePin) int { return strings.Compare(a.Ref, b.Ref) })
	return slices.Compact(out)
}
