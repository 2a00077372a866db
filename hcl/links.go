package hcl

import (
	"slices"
	"strconv"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"berth.dev/berth/api"
)

// findKeys notes which references of a block name one instance by an expression.
func (x *vertex) findKeys(body hcl2.Body) {
	keys := keyExpressions(body)
	for _, ref := range x.refs {
		if len(ref.rest) == 0 {
			ref.key = keys[ref.place]
		}
	}
}

// linksOf returns the addresses of the objects that a vertex refers to, directly or through values, in the context of one
// instance: sorted, each once. Where a reference names one instance, that one alone.
func (e *evaluation) linksOf(x *vertex, ctx *hcl2.EvalContext) []api.Address {
	var out []api.Address
	for _, ref := range x.refs {
		b := e.blocks[ref.target]
		if b == nil {
			if v := e.graph.vertices[ref.target]; v != nil {
				out = append(out, v.links...)
			}
			continue
		}
		if key, ok := ref.instanceKey(ctx); ok && b.repeat != single {
			out = append(out, b.address(key))
			continue
		}
		out = append(out, b.addresses()...)
	}
	slices.SortFunc(out, api.Address.Compare)
	return slices.Compact(out)
}

// instanceKey is the key of the one instance that a reference names, as addresses write it.
func (r *reference) instanceKey(ctx *hcl2.EvalContext) (string, bool) {
	var key cty.Value
	switch {
	case len(r.rest) > 0:
		step, ok := r.rest[0].(hcl2.TraverseIndex)
		if !ok {
			return "", false
		}
		key = step.Key
	case r.key != nil:
		v, diags := r.key.Value(ctx)
		if diags.HasErrors() {
			return "", false
		}
		key, _ = v.Unmark()
	default:
		return "", false
	}
	if !key.IsKnown() || key.IsNull() {
		return "", false
	}
	switch key.Type() {
	case cty.String:
		return "[" + strconv.Quote(key.AsString()) + "]", true
	case cty.Number:
		return "[" + key.AsBigFloat().Text('f', -1) + "]", true
	}
	return "", false
}
