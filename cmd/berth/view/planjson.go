package view

import (
	"encoding/json"
	"slices"
	"strings"

	"berth.dev/berth/api"
)

// planActions are the action lists of Terraform's plan JSON (terraform.md B.6).
var planActions = map[api.Action][]string{
	api.NoOp: {"no-op"}, api.Create: {"create"}, api.Update: {"update"}, api.Delete: {"delete"}, api.Replace: {"delete", "create"},
}

// PlanJSON is the form of `show --json PLANFILE`: Terraform's resource_changes and output_changes, which review
// tools read, and beside them what only Berth has: pods with nodes, and the steps. Sensitive values are
// replaced by true in *_sensitive and left out.
func PlanJSON(p *api.Plan, version string) ([]byte, error) {
	var changes []map[string]any
	for _, c := range p.Changes {
		before, after := redacted(c.Before), redacted(c.After)
		changes = append(changes, map[string]any{
			"address": c.Address.String(), "mode": "managed", "type": c.Address.Kind, "name": c.Address.Name, "provider_name": "berth.dev/berth",
			"change": map[string]any{"actions": planActions[c.Action], "before": before, "after": after, "diffs": c.Diffs},
			"reason": c.Reason, "disruption": c.Disruption, "rollout": c.Rollout,
		})
	}
	outputs := map[string]any{}
	for _, c := range p.Outputs {
		outputs[c.Name] = map[string]any{"actions": planActions[c.Action], "before": outputValue(c.Before), "after": outputValue(c.After)}
	}
	var steps []map[string]any
	for _, st := range p.Steps {
		steps = append(steps, map[string]any{"id": st.ID, "op": st.Op, "address": st.Address.String(), "node": st.Node, "after": st.After, "reason": st.Reason})
	}
	add, change, remove := p.Summary()
	return json.MarshalIndent(map[string]any{
		"format_version": "1.2", "berth_version": version, "applyable": !p.Empty(), "complete": len(p.Unreachable) == 0, "errored": false,
		"resource_changes": changes, "output_changes": outputs, "pods": p.Pods, "steps": steps, "unreachable": p.Unreachable, "exposure": exposureJSON(p.Exposure),
		"overrides": overridesJSON(p.Overrides), "autoscaled": scaledJSON(p.Scaled), "paused": p.Paused,
		"summary":     map[string]int{"add": add, "change": change, "destroy": remove},
		"prior_state": map[string]any{"lineage": p.Lineage, "serial": p.Serial},
	}, "", "  ")
}

func outputValue(o *api.Output) any {
	if o == nil || o.Sensitive {
		return nil
	}
	return o.Value
}

// redacted returns the object's value without what must not be shown.
func redacted(o *api.Object) any {
	if o == nil {
		return nil
	}
	raw, err := json.Marshal(o.Value)
	if err != nil {
		return nil
	}
	var v map[string]any
	if json.Unmarshal(raw, &v) != nil {
		return nil
	}
	Cover(v, o)
	return v
}

// Redacted returns an object's value fit to be shown: secrets and sensitive attributes are covered.
func Redacted(o *api.Object) any { return redacted(o) }

// StateJSON is the form of `show --json` without a plan.
func StateJSON(s *api.State, version string) any {
	var resources []map[string]any
	for _, o := range s.Objects {
		r := map[string]any{
			"address": o.Address.String(), "mode": "managed", "type": o.Address.Kind, "name": o.Address.Name, "index": o.Address.Key,
			"values": redacted(o), "depends_on": o.DependsOn,
		}
		if api.PodSpecOf(o.Value) != nil {
			r["on_config_change"], r["at_most_one"] = o.OnConfigChange.String(), o.AtMostOne
		}
		resources = append(resources, r)
	}
	pods := slices.Clone(s.Pods)
	for i := range pods {
		pods[i].Spec = nil // may hold what the object marks as sensitive
	}
	return map[string]any{
		"format_version": "1.0", "berth_version": version, "lineage": s.Lineage, "serial": s.Serial,
		"values": map[string]any{"outputs": OutputsJSON(s.Outputs, false), "root_module": map[string]any{"resources": resources}},
		"nodes":  s.Nodes, "pods": pods, "history": HistoryJSON(s),
		"overrides": stateOverrides(s), "revisions": stateRevisions(s), "rollouts": s.Rollouts, "autoscalers": s.Autoscalers,
	}
}

// stateOverrides are the overrides in force, without values that must not be shown.
func stateOverrides(s *api.State) []map[string]any {
	var list []api.OverrideChange
	for _, o := range s.Overrides {
		c := api.OverrideChange{Override: o, Sensitive: HidesOverride(s, o)}
		if o.Path == o.Ends {
			c.Configured = o.Base
		}
		list = append(list, c)
	}
	return overridesJSON(list)
}

// HidesOverride reports whether an override's value may hold something that must not be shown.
func HidesOverride(s *api.State, o api.Override) bool {
	applied := s.Object(o.Address)
	return applied == nil || slices.ContainsFunc(applied.Sensitive, func(p string) bool { return strings.HasPrefix(p, o.Path) || strings.HasPrefix(o.Path, p) })
}

// stateRevisions are the revisions, without their templates.
func stateRevisions(s *api.State) []map[string]any {
	out := []map[string]any{}
	for _, r := range s.Revisions {
		out = append(out, map[string]any{"address": r.Address.String(), "number": r.Number, "hash": r.Hash, "cause": r.Cause, "at": r.At, "complete": r.Complete, "pins": r.Pins})
	}
	return out
}
