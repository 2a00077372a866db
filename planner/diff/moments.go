package diff

import (
	"fmt"
	"slices"
	"strings"

	"berth.dev/berth/api"
)

// Between is in what two moments of a state differ.
type Between struct {
	Changes []api.Change       // by address; without disruption, which depends on hosts
	Outputs []api.OutputChange // by name
	Pins    []PinChange        // by reference
}

// IsZero reports whether they do not.
func (b Between) IsZero() bool { return len(b.Changes)+len(b.Outputs)+len(b.Pins) == 0 }

// PinChange is a reference to an image that means another digest.
type PinChange struct {
	Ref    string `json:"ref"`
	Before string `json:"before,omitempty"` // "" when it was not used
	After  string `json:"after,omitempty"`
}

// Moments compares two moments. Of sensitive values only hashes may be there on one side: the other one is hashed too.
func Moments(lineage string, before, after *api.Moment) (Between, error) {
	var out Between
	addresses := map[api.Address]bool{}
	for _, m := range []*api.Moment{before, after} {
		for _, o := range m.Objects {
			addresses[o.Address] = true
		}
	}
	for a := range addresses {
		c, err := between(lineage, before.Object(a), after.Object(a))
		if err != nil {
			return Between{}, fmt.Errorf("compare %s: %w", a, err)
		}
		if c.Action != api.NoOp {
			c.Address = a
			out.Changes = append(out.Changes, c)
		}
	}
	slices.SortFunc(out.Changes, func(x, y api.Change) int { return x.Address.Compare(y.Address) })
	out.Outputs = Outputs(hashedOutputs(lineage, before.Outputs), hashedOutputs(lineage, after.Outputs))
	out.Pins = pins(before.Pins, after.Pins)
	return out, nil
}

// between compares what was at one address.
func between(lineage string, before, after *api.ObjectBefore) (api.Change, error) {
	c := api.Change{Action: api.Update}
	var hidden []string
	for _, side := range []struct {
		of *api.ObjectBefore
		to **api.Object
	}{{before, &c.Before}, {after, &c.After}} {
		if side.of == nil {
			continue
		}
		*side.to = side.of.Object
		for path := range side.of.Hashes {
			hidden = append(hidden, path)
		}
	}
	slices.Sort(hidden)
	switch {
	case c.Before == nil:
		c.Action = api.Create
	case c.After == nil:
		c.Action = api.Delete
	}
	diffs, err := Objects(c.Before, c.After)
	if err != nil {
		return c, err
	}
	for _, path := range slices.Compact(hidden) {
		diffs = slices.DeleteFunc(diffs, func(d api.AttributeDiff) bool {
			return d.Path == path || strings.HasPrefix(d.Path, path+".") || strings.HasPrefix(d.Path, path+"[")
		})
		was, is := hashAt(lineage, before, path), hashAt(lineage, after, path)
		if was == is {
			continue
		}
		d := api.AttributeDiff{Path: path, Sensitive: true}
		if was != "" {
			d.Before = api.RawJSON("null")
		}
		if is != "" {
			d.After = api.RawJSON("null")
		}
		diffs = append(diffs, d)
	}
	slices.SortFunc(diffs, func(a, b api.AttributeDiff) int { return strings.Compare(a.Path, b.Path) })
	if c.Diffs = diffs; c.Action == api.Update && len(diffs) == 0 {
		c.Action = api.NoOp
	}
	return c, nil
}

func hashAt(lineage string, o *api.ObjectBefore, path string) string {
	if o == nil {
		return ""
	}
	if h, ok := o.Hashes[path]; ok {
		return h
	}
	v, err := o.Object.At(path)
	if err != nil || v == nil {
		return ""
	}
	return api.HashSensitive(lineage, v)
}

// hashedOutputs puts hashes in the place of all sensitive values.
func hashedOutputs(lineage string, b api.OutputsBefore) []*api.Output {
	var out []*api.Output
	for _, o := range b.List {
		if o.Sensitive {
			h := b.Hashes[o.Name]
			if h == "" {
				h = api.HashSensitive(lineage, o.Value)
			}
			hashed := *o
			hashed.Value = api.RawJSON(fmt.Sprintf("%q", h))
			o = &hashed
		}
		out = append(out, o)
	}
	return out
}

func pins(before, after []api.ImagePin) []PinChange {
	m := map[string]PinChange{}
	for _, p := range before {
		m[p.Ref] = PinChange{Ref: p.Ref, Before: p.Pinned}
	}
	for _, p := range after {
		m[p.Ref] = PinChange{Ref: p.Ref, Before: m[p.Ref].Before, After: p.Pinned}
	}
	var out []PinChange
	for _, c := range m {
		if c.Before != c.After && c.Before != "" && c.After != "" { // others come and go with their objects
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b PinChange) int { return strings.Compare(a.Ref, b.Ref) })
	return out
}
