package planner

import (
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// Kept is one pod as it was applied, with everything that whoever keeps it needs.
type Kept struct {
	// Step would make it run where it is. It is nobody's plan.
	Step api.Step
	// Objects are the config maps, secrets and services that it refers to.
	Objects map[api.Address]*api.Object
	// Over says that its job has counted its end.
	Over bool
}

// Standing returns the pods of a state, by uid: those whose owner was applied and whose specification is known, with its sensitive
// values. It follows from the state alone.
func Standing(s *api.State) (map[string]*Kept, api.Diagnostics) {
	if s.Cluster.PodCIDR == "" { // nothing was ever applied
		return map[string]*Kept{}, nil
	}
	d := begin(Input{Config: Applied(s), Prior: s, Observed: asApplied(s, func(string) bool { return true }), Options: Options{Applied: true}}, nil)
	d.want()
	if d.diags.HasErrors() {
		return nil, d.sorted()
	}
	services := map[string][]*api.Object{}
	for _, v := range d.services {
		if v.rules {
			services[v.object.Namespace()] = append(services[v.object.Namespace()], v.object)
		}
	}
	out := make(map[string]*Kept, len(s.Pods))
	for _, w := range d.workloads {
		if w.object == nil {
			continue
		}
		for _, p := range w.pods {
			known := s.Pod(p.address)
			if !p.known || !p.whole() || known == nil || known.UID != p.uid {
				continue
			}
			k := &Kept{Over: p.counted != "", Objects: map[api.Address]*api.Object{}}
			k.Step = api.Step{Op: api.OpPodEnsure, Address: p.address, Node: p.host.name, Pod: d.standingWork(w, p)}
			for _, a := range k.Step.Pod.Objects {
				k.Objects[a] = d.byAddress[a]
			}
			if api.WantsServiceLinks(p.spec) {
				for _, o := range services[p.namespace] {
					k.Objects[o.Address] = o
				}
			}
			out[p.uid] = k
		}
	}
	return out, nil
}

// standingWork is the work of a pod as it was made: by its own specification, whatever its owner's says by now.
func (d *draft) standingWork(w *workload, p *pod) *api.PodWork {
	annotations := p.annotations
	if w.madeFor(p) {
		annotations = w.want.Pod(w.want.Slot(p.slot)).Annotations
	}
	o := &corev1.Pod{Spec: *p.spec}
	o.APIVersion, o.Kind = "v1", "Pod"
	o.Name, o.Namespace, o.UID = p.address.Pod, p.namespace, uidOf(p)
	o.Labels, o.Annotations = p.labels, annotations
	o.Spec.NodeName = p.host.name
	work := &api.PodWork{Pod: o, Hash: p.hash, Objects: d.contentsOf(p.namespace, referencesOf(p.spec)), Claims: d.claims(w, p), ToEnd: w.isJob()}
	if w.want != nil {
		work.DeadlineSeconds, work.MinReadySeconds = w.want.DeadlineSeconds, w.want.MinReadySeconds
	}
	work.Devices = p.host.devicesFor(p.spec)
	if readsLimits(p.spec) {
		work.Allocatable = p.host.allocatableList()
	}
	return work
}
