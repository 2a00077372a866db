package planner

import (
	"cmp"
	"slices"
	"strings"

	"berth.dev/berth/api"
)

// Drift tells what on the hosts is not as it was last applied, sorted by node and address. The plan is the one that would put it
// right: made from what was applied ([Options.Applied]), with nothing asked for. There is drift exactly when that plan has steps.
func Drift(p *api.Plan, seen *api.Observation) []api.Drift {
	var out []api.Drift
	for _, c := range p.Pods {
		out = append(out, api.Drift{Node: c.Node, Address: c.Address, Problem: c.Reason, Repair: c.Action})
	}
	told := map[stepPlace]bool{}
	for i := range p.Steps {
		s := &p.Steps[i]
		here := stepPlace{s.Node, s.Address}
		if d := adrift(p, s, seen); d.Problem != "" && !told[here] {
			told[here] = true
			out = append(out, d)
		}
	}
	explained := map[api.Address]bool{}
	for _, d := range out {
		explained[d.Address.Owner()] = true
	}
	for _, c := range p.Changes {
		if explained[c.Address] {
			continue
		}
		d := api.Drift{Address: c.Address, Problem: cmp.Or(c.Reason, "it is not as it was applied"), Repair: c.Action}
		if c.Address.Kind == api.KindNode {
			d.Node = c.Address.Name
		}
		out = append(out, d)
		explained[c.Address] = true
	}
	for _, s := range p.Steps { // what none of these stands for: a host that has not heard of another one yet
		followsPods := s.Op == api.OpServiceSet || s.Op == api.OpDNSSet || s.Op == api.OpImageEnsure
		if s.Node != "" && !followsPods && !explained[s.Address.Owner()] {
			explained[s.Address.Owner()] = true
			out = append(out, api.Drift{Node: s.Node, Address: s.Address.Owner(), Problem: cmp.Or(s.Reason, string(s.Op)+" is due"), Repair: api.Update})
		}
	}
	slices.SortStableFunc(out, func(a, b api.Drift) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), a.Address.Compare(b.Address))
	})
	return out
}

type stepPlace struct {
	node string
	of   api.Address
}

// adrift is what a step tells of its host: rules that it lacks, has otherwise, or has without reason, and images that it has lost. Rules
// may only follow pods that have changed: while there are such, nobody can say.
func adrift(p *api.Plan, s *api.Step, seen *api.Observation) api.Drift {
	d := api.Drift{Node: s.Node, Address: s.Address, Repair: api.Update}
	switch s.Op {
	case api.OpServiceRemove:
		d.Problem, d.Repair = "rules of a service that was not applied", api.Delete
	case api.OpServiceSet:
		switch {
		case inForce(seen, s.Node, s.Service) == "":
			d.Problem, d.Repair = "rules are missing", api.Create
		case len(p.Pods) == 0:
			d.Problem = "rules are not those that were applied"
		}
	case api.OpDNSSet:
		if len(p.Pods) == 0 {
			d.Problem = "DNS records are not those that were applied"
		}
	case api.OpImageEnsure:
		if s.Reason == missingImage {
			d.Problem, d.Repair = "image "+s.Image.Ref+" "+missingImage, api.Create
		}
	}
	return d
}

func inForce(seen *api.Observation, node string, w *api.ServiceWork) string {
	if o := seen.Node(node); o != nil && w != nil && w.Service != nil {
		return o.Services[serviceKey(w.Service)]
	}
	return ""
}
