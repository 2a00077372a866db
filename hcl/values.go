package hcl

import (
	"cmp"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/functions"
)

// valueOf evaluates an expression where nothing can be referred to.
func valueOf(attr *hcl2.Attribute, want cty.Type) (cty.Value, hcl2.Diagnostics) {
	v, diags := typed(attr, nil, want)
	if !diags.HasErrors() && !v.IsWhollyKnown() {
		return cty.NullVal(want), append(diags, errorAt(attr.Expr.Range(), "Invalid value", "The value of %s must be known without evaluating anything: write it as it is.", attr.Name))
	}
	return v, diags
}

// typed evaluates an attribute and converts it. The value is null of the wanted type when there are errors.
func typed(attr *hcl2.Attribute, ctx *hcl2.EvalContext, want cty.Type) (cty.Value, hcl2.Diagnostics) {
	v, diags := attr.Expr.Value(ctx)
	if diags.HasErrors() {
		return cty.NullVal(want), diags
	}
	out, err := convert.Convert(v, want)
	if err != nil {
		return cty.NullVal(want), append(diags, errorAt(attr.Expr.Range(), "Incorrect attribute value type",
			"Inappropriate value for attribute %q: %s.", attr.Name, err))
	}
	return out, diags
}

// plain is typed for attributes that are never secret and must be known: it takes off marks, refusing sensitive ones.
// An unknown value stands for an error that is reported elsewhere; it becomes null.
func plain(attr *hcl2.Attribute, ctx *hcl2.EvalContext, want cty.Type) (cty.Value, hcl2.Diagnostics) {
	v, diags := typed(attr, ctx, want)
	if functions.IsSensitive(v) {
		return cty.NullVal(want), append(diags, errorAt(attr.Expr.Range(), "Sensitive value not allowed",
			"The value of %s is shown in plans and logs, so it cannot be sensitive. Use nonsensitive() if it may be shown.", attr.Name))
	}
	if !v.IsWhollyKnown() {
		return cty.NullVal(want), diags
	}
	return v, diags
}

// stringOf evaluates an attribute to a string, "" for null.
func stringOf(attr *hcl2.Attribute, ctx *hcl2.EvalContext) (string, hcl2.Diagnostics) {
	v, diags := plain(attr, ctx, cty.String)
	if v.IsNull() {
		return "", diags
	}
	return v.AsString(), diags
}

// boolOf evaluates an attribute to a bool, false for null.
func boolOf(attr *hcl2.Attribute, ctx *hcl2.EvalContext) (bool, hcl2.Diagnostics) {
	v, diags := plain(attr, ctx, cty.Bool)
	return !v.IsNull() && v.True(), diags
}

// hclRange is a place of ours as HCL has it.
func hclRange(r api.Range) hcl2.Range {
	pos := func(p api.Pos) hcl2.Pos { return hcl2.Pos{Line: p.Line, Column: p.Column, Byte: p.Byte} }
	return hcl2.Range{Filename: r.Filename, Start: pos(r.Start), End: pos(r.End)}
}

func comparePlaces(a, b hcl2.Range) int {
	return cmp.Or(strings.Compare(a.Filename, b.Filename), cmp.Compare(a.Start.Byte, b.Start.Byte))
}
