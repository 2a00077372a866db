package planner

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
)

// Endpoints plans nothing but the rules of the services that mean some pods, and the records of headless ones, on the nodes that are up: after it was seen, and recorded in the
// state, that these pods are ready, are not, or have another address. All nodes are set at once. It follows from the state alone, so
// that no host has to be asked before traffic leaves a pod that cannot take it.
func Endpoints(s *api.State, uids []string, up func(node string) bool) (*api.Plan, api.Diagnostics) {
	d := begin(Input{Config: Applied(s), Prior: s, Observed: asApplied(s, up), Options: Options{Applied: true}}, nil)
	d.want()
	if d.diags.HasErrors() {
		return nil, d.sorted()
	}
	for _, w := range d.workloads {
		w.services = d.servicesFor(w)
	}
	d.propagate()
	for _, v := range d.services {
		if v.listed() && !v.frozen && slices.ContainsFunc(uids, func(uid string) bool { return v.means(s, uid) }) {
			d.setRules(v, "its pods are ready or not", nil)
		}
	}
	d.changes = map[api.Address]*api.Change{}
	d.plan.Outputs = nil
	plan, diags := d.order()
	if diags.HasErrors() {
		return nil, diags
	}
	plan.Pods, plan.Facts, plan.Unreachable, plan.Warnings = nil, nil, nil, nil
	return plan, nil
}

// means reports whether the service selects a pod of the state, ready or not.
func (v *service) means(s *api.State, uid string) bool {
	i := slices.IndexFunc(s.Pods, func(p api.PodState) bool { return p.UID == uid })
	return i >= 0 && s.Pods[i].Namespace == v.object.Namespace() && (v.selector.Matches(labels.Set(s.Pods[i].Labels)) || v.former.Matches(labels.Set(s.Pods[i].Labels)))
}
