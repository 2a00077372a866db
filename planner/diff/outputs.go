package diff

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"berth.dev/berth/api"
)

// Outputs returns the output values that came, went or changed, sorted by name. Sensitive values are in the result, since
// the state has to take them over; whoever shows it leaves them out.
func Outputs(before, after []*api.Output) []api.OutputChange {
	old, now := byName(before), byName(after)
	var out []api.OutputChange
	for name, o := range old {
		switch n := now[name]; {
		case n == nil:
			out = append(out, api.OutputChange{Name: name, Action: api.Delete, Before: o})
		case !equalOutput(o, n):
			out = append(out, api.OutputChange{Name: name, Action: api.Update, Before: o, After: n})
		}
	}
	for name, n := range now {
		if old[name] == nil {
			out = append(out, api.OutputChange{Name: name, Action: api.Create, After: n})
		}
	}
	slices.SortFunc(out, func(a, b api.OutputChange) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func byName(list []*api.Output) map[string]*api.Output {
	m := make(map[string]*api.Output, len(list))
	for _, o := range list {
		m[o.Name] = o
	}
	return m
}

func equalOutput(a, b *api.Output) bool {
	return compactEqual(a.Value, b.Value) && compactEqual(a.Type, b.Type) && a.Sensitive == b.Sensitive && a.Description == b.Description
}

// compactEqual compares JSON text without regard to white space.
func compactEqual(a, b api.RawJSON) bool {
	var x, y bytes.Buffer
	if len(a) == 0 || len(b) == 0 || json.Compact(&x, a) != nil || json.Compact(&y, b) != nil {
		return bytes.Equal(a, b)
	}
	return bytes.Equal(x.Bytes(), y.Bytes())
}
