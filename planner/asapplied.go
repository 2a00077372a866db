package planner

import (
	"slices"
	"strings"

	"berth.dev/berth/api"
)

// asApplied is what hosts would show if everything were as the state says: for decisions that follow from the state alone. Nodes that are not
// up show nothing.
func asApplied(s *api.State, up func(node string) bool) *api.Observation {
	out := &api.Observation{}
	byNode := map[string]*api.NodeObservation{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		o := &api.NodeObservation{Name: n.Name, Facts: n.Facts, BootID: n.BootID, Lineage: s.Lineage}
		if !up(n.Name) {
			o = &api.NodeObservation{Name: n.Name, Unreachable: "it is not watched"}
		}
		out.Nodes, byNode[n.Name] = append(out.Nodes, o), o
	}
	for i := range s.Pods {
		p := &s.Pods[i]
		if o := byNode[p.Node]; o != nil && o.Unreachable == "" {
			o.Pods = append(o.Pods, shownPod(s, p))
		}
	}
	for _, o := range out.Nodes {
		slices.SortFunc(o.Pods, func(a, b api.ObservedPod) int { return strings.Compare(a.UID, b.UID) })
	}
	return out
}

func shownPod(s *api.State, p *api.PodState) api.ObservedPod {
	o := api.ObservedPod{
		Address: p.Address, Namespace: p.Namespace, Name: p.Address.Pod, UID: p.UID, Hash: p.Hash, Lineage: s.Lineage,
		SandboxID: p.SandboxID, IP: p.IP, SecondIP: p.SecondIP, SandboxReady: true, Labels: p.Labels, Spec: p.Spec,
	}
	if p.Spec != nil {
		for _, c := range p.Spec.Containers {
			o.Containers = append(o.Containers, api.ObservedContainer{Name: c.Name, State: api.ContainerRunning})
		}
	}
	return o
}
