package planner

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"berth.dev/berth/api"
)

// facts are what the plan relied on of the hosts that it looked at.
func (d *draft) facts() []api.Fact {
	var out []api.Fact
	for _, h := range d.hosts {
		if h.reach == up {
			out = append(out, factsOf(h.seen)...)
		}
		switch {
		case h.dead != "":
			out = append(out, api.Fact{Node: h.name, Name: "dead", Value: h.dead})
		case h.reach != up && h.lost != nil:
			out = append(out, api.Fact{Node: h.name, Name: "lost", Value: h.lost.String()})
		}
	}
	return out
}

func factsOf(o *api.NodeObservation) []api.Fact {
	facts := []api.Fact{
		{Node: o.Name, Name: "boot_id", Value: o.BootID},
		{Node: o.Name, Name: "lineage", Value: o.Lineage},
		{Node: o.Name, Name: "pods", Value: podsFact(o.Pods)},
	}
	if o.PublicKey != "" {
		facts = append(facts, api.Fact{Node: o.Name, Name: "key", Value: o.PublicKey})
	}
	return facts
}

// podsFact names which pods a host has and which of them run.
func podsFact(pods []api.ObservedPod) string {
	lines := make([]string, len(pods))
	for i := range pods {
		lines[i] = fmt.Sprint(pods[i].UID, " ", pods[i].Hash, " ", pods[i].SandboxID, " ", pods[i].Running(), pods[i].Evict)
	}
	slices.SortFunc(lines, cmp.Compare[string])
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:8])
}

// Stale returns an error for everything that a saved plan relied on and that is no longer so; none when it can be
// applied as it is.
func Stale(p *api.Plan, state *api.State, observed *api.Observation) api.Diagnostics {
	var ds api.Diagnostics
	if state == nil {
		state = &api.State{}
	}
	if first := p.Lineage == "" && p.Serial == 0 && state.Serial == 0; state.Lineage != p.Lineage && !first {
		ds.Errorf(api.Range{}, "Saved plan is stale", "The plan was made from the state with lineage %s, and this state has lineage %s. Make a new plan.", quoteEmpty(p.Lineage), quoteEmpty(state.Lineage))
		return ds
	}
	if state.Serial != p.Serial {
		ds.Errorf(api.Range{}, "Saved plan is stale", "The state has changed since the plan was made: its serial was %d and is now %d. Make a new plan.", p.Serial, state.Serial)
	}
	now := map[string]string{}
	seen := map[string]bool{}
	if observed != nil {
		for _, o := range observed.Nodes {
			if o.Unreachable != "" {
				continue
			}
			seen[o.Name] = true
			for _, f := range factsOf(o) {
				now[f.Node+"\x00"+f.Name] = f.Value
			}
		}
	}
	for _, f := range p.Facts {
		if !seen[f.Node] {
			if f.Name == "boot_id" {
				ds = append(ds, staleOn(f.Node, "it cannot be reached any more"))
			}
			continue
		}
		if v := now[f.Node+"\x00"+f.Name]; v != f.Value {
			ds = append(ds, staleOn(f.Node, factText(f.Name)))
		}
	}
	return ds
}

func staleOn(node, what string) api.Diagnostic {
	return api.Diagnostic{
		Severity: api.SeverityError, Summary: "Saved plan is stale", Node: node,
		Detail: "Since the plan was made, something changed on node " + node + ": " + what + ". Make a new plan.",
	}
}

// factText says in words what it means that a fact is another one now.
func factText(name string) string {
	switch name {
	case "boot_id":
		return "the host was rebooted"
	case "lineage":
		return "the host joined or left a cluster"
	case "lost":
		return "the host counted as lost, and answers"
	case "dead":
		return "the host counted as dead, and answers"
	case "key":
		return "its WireGuard key is another one, or gone"
	case "pods":
		return "pods on it came, went or stopped"
	}
	return name + " changed"
}
