package planner

import (
	"slices"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

// autoscaled returns a desired object with the replicas that its autoscaler has chosen, within the autoscaler's bounds: those that the
// watchdog has recorded, else those that were applied. What the configuration says counts when the object is new.
func (d *draft) autoscaled(o *api.Object) *api.Object {
	address, h := d.autoscalerOf(o)
	if h == nil {
		return o
	}
	controller, ok := api.ControllerOf(o.Value)
	if !ok {
		return o
	}
	n := int32(1)
	if controller.Replicas != nil {
		n = *controller.Replicas
	}
	if prior := d.prior.Object(o.Address); prior != nil {
		if configured, err := prior.Configured(d.prior.OverridesOf(o.Address)); err == nil { // what a person has set counts as an override
			prior = configured
		}
		if was, ok := rollout.Replicas(prior); ok {
			n = int32(was)
		}
		if chosen, ok := d.prior.Chosen(address, o.Address); ok && n > 0 {
			n = chosen
		}
	}
	least, most := h.Spec.Bounds()
	if n > 0 { // a workload without pods is not scaled
		n = min(max(n, least), most)
	}
	return o.WithReplicas(n)
}

// autoscalerOf returns the autoscaler that the configuration has for an object, or nil.
func (d *draft) autoscalerOf(o *api.Object) (api.Address, *api.Autoscaler) {
	if d.autoscalers == nil {
		d.autoscalers = []*api.Object{}
		for _, other := range d.Config.Objects {
			if _, ok := other.Value.(*api.Autoscaler); ok {
				d.autoscalers = append(d.autoscalers, other)
			}
		}
	}
	for _, other := range d.autoscalers {
		if h := other.Value.(*api.Autoscaler); h.Scales(o) {
			return other.Address, h
		}
	}
	return api.Address{}, nil
}

// tellScaled notes the workloads whose number of pods an autoscaler chooses.
func (d *draft) tellScaled() {
	for _, o := range d.desired {
		address, h := d.autoscalerOf(o)
		n, ok := rollout.Replicas(o)
		if h == nil || !ok || d.byAddress[address] == nil {
			continue
		}
		least, most := h.Spec.Bounds()
		d.plan.Scaled = append(d.plan.Scaled, api.Scaled{Address: o.Address, Autoscaler: address, Replicas: int32(n), Least: least, Most: most}) //nolint:gosec // made from an int32
	}
	slices.SortFunc(d.plan.Scaled, func(a, b api.Scaled) int { return a.Address.Compare(b.Address) })
}
