package planner

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"berth.dev/berth/api"
)

// Applied returns a configuration that is what was last applied. A plan from it with [Options.Applied] does nothing but
// mend what is not so any more, and what the options ask for.
func Applied(s *api.State) *api.Config {
	c := &api.Config{Cluster: s.Cluster, Objects: s.Objects, Outputs: s.Outputs}
	for _, n := range s.Nodes {
		if n.Node != nil {
			c.Nodes = append(c.Nodes, n.Node)
		}
	}
	return c
}

// override returns a desired object with the overrides that are in force for it, and notes what becomes of each.
func (d *draft) override(o *api.Object) *api.Object {
	configured := o
	if d.Applied {
		var err error
		if configured, err = o.Configured(d.prior.OverridesOf(o.Address)); err != nil {
			d.errorAt(o, "", "Override cannot be taken back", "%s.", err)
			return o
		}
	}
	kept, path, err := d.inForce(o.Address, configured)
	if err != nil {
		d.errorAt(o, path, "Attribute cannot be overridden", "%s.", err)
		return o
	}
	out, err := configured.Overridden(kept)
	if err != nil {
		d.errorAt(o, "", "Override does not fit", "%s. Take it back with the command that made it, or edit what it overrides.", err)
		return o
	}
	return out
}

// overrideNode is override for a node of the inventory.
func (d *draft) overrideNode(n *api.Node) *api.Node {
	a := api.Address{Kind: api.KindNode, Name: n.Name}
	wrong := func(summary string, err error) *api.Node {
		d.diags = append(d.diags, api.Diagnostic{Severity: api.SeverityError, Summary: summary, Detail: err.Error() + ".", Node: n.Name, Range: &n.Range})
		return n
	}
	configured := n
	if d.Applied {
		var err error
		if configured, err = n.Configured(d.prior.OverridesOf(a)); err != nil {
			return wrong("Override cannot be taken back", err)
		}
	}
	kept, _, err := d.inForce(a, configured)
	if err != nil {
		return wrong("Attribute cannot be overridden", err)
	}
	out, err := configured.Overridden(kept)
	if err != nil {
		return wrong("Override does not fit", err)
	}
	return out
}

// overridable is what overrides are of: an object, or a node of the inventory.
type overridable interface {
	At(path string) (api.RawJSON, error)
}

// inForce returns the overrides of something that stand after the plan, in their order. An error is about a new one, at a path.
func (d *draft) inForce(a api.Address, configured overridable) (kept []api.Override, path string, err error) {
	for _, v := range d.prior.OverridesOf(a) {
		why := d.ends(configured, v)
		d.noteOverride(configured, v, api.NoOp, why)
		if why == "" {
			kept = append(kept, v)
		}
	}
	for _, v := range d.Overrides {
		if v.Address != a {
			continue
		}
		if v.Base, err = configured.At(v.Ends); err != nil {
			return nil, v.Path, err
		}
		d.noteOverride(configured, v, api.Create, "")
		kept = append(kept, v)
	}
	slices.SortFunc(kept, func(a, b api.Override) int { return a.Key().Compare(b.Key()) })
	return kept, "", nil
}

// ends says why an override that was in force is no longer, "" when it stays.
func (d *draft) ends(configured overridable, v api.Override) string {
	replaced := func(n api.Override) bool { return n.Key() == v.Key() }
	if slices.ContainsFunc(d.Overrides, replaced) {
		return replacedOverride
	}
	if slices.Contains(d.Reset, v.Key()) {
		return "taken back"
	}
	if d.Applied {
		return ""
	}
	if now, err := configured.At(v.Ends); err != nil || !sameJSON(now, v.Base) {
		return "edited in the configuration"
	}
	return ""
}

// replacedOverride is the end of an override that another one of the same attribute follows: not worth a line of its own.
const replacedOverride = "replaced"

func (d *draft) noteOverride(configured overridable, v api.Override, a api.Action, why string) {
	if why == replacedOverride {
		return
	}
	c := api.OverrideChange{Override: v, Action: a, Why: why}
	if o, ok := configured.(*api.Object); ok {
		c.Sensitive = sensitiveAt(o, v.Path)
	}
	if why != "" {
		c.Action = api.Delete
	}
	c.Configured, _ = configured.At(v.Path) // an error was told by whoever asked before
	d.plan.Overrides = append(d.plan.Overrides, c)
	slices.SortFunc(d.plan.Overrides, func(a, b api.OverrideChange) int { return a.Key().Compare(b.Key()) })
}

// sensitiveAt reports whether the attribute at a path, one above it or one below it is sensitive.
func sensitiveAt(o *api.Object, path string) bool {
	return slices.ContainsFunc(o.Sensitive, func(s string) bool { return strings.HasPrefix(s, path) || strings.HasPrefix(path, s) })
}

// overrideDelta is what recording an object as applied does to its overrides.
func (d *draft) overrideDelta(a api.Address, delta *api.Delta) {
	for _, c := range d.plan.Overrides {
		switch {
		case c.Address != a:
		case c.Action == api.Create:
			delta.PutOverrides = append(delta.PutOverrides, c.Override)
		case c.Action == api.Delete:
			delta.DropOverrides = append(delta.DropOverrides, c.Key())
		}
	}
}

// overrideChanges gives every object of which an override comes or ends a change, though nothing else of it may change.
func (d *draft) overrideChanges() {
	for _, c := range d.plan.Overrides {
		switch {
		case c.Action == api.Create:
			because(d.change(c.Address), "override by "+c.Reason)
		case c.Action == api.Delete:
			because(d.change(c.Address), "the override by "+c.Reason+" ends: "+c.Why)
		}
	}
}

// sameJSON compares two JSON texts by what they say; no text is not the same as null.
func sameJSON(a, b api.RawJSON) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
