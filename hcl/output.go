package hcl

import (
	"fmt"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/functions"
)

// output is an output block.
type output struct {
	name        string
	place       hcl2.Range
	value       *hcl2.Attribute
	description string
	sensitive   bool
}

var outputRefusals = map[string]string{
	"depends_on":    "Outputs are written when everything else is done; leave it out.",
	"ephemeral":     "Berth has no ephemeral values.",
	"deprecated":    "Deprecated outputs are not supported; say it in the description.",
	"precondition":  "Preconditions are not supported yet. " + later,
	"postcondition": "Postconditions are not supported yet. " + later,
}

func (m *Module) addOutput(b *hcl2.Block) hcl2.Diagnostics {
	o := &output{name: b.Labels[0], place: b.DefRange}
	if diags := checkLabel(o.name, b.LabelRanges[0]); diags != nil {
		return diags
	}
	if first, ok := m.outputs[o.name]; ok {
		return hcl2.Diagnostics{duplicate("output", o.name, b.DefRange, first.place)}
	}
	content, diags := contentWithout(b.Body, &hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{
		{Name: "value", Required: true}, {Name: "description"}, {Name: "sensitive"},
	}}, outputRefusals)
	if attr, ok := content.Attributes["description"]; ok {
		text, more := stringOf(attr, nil)
		diags = append(diags, more...)
		o.description = text
	}
	if attr, ok := content.Attributes["sensitive"]; ok {
		flag, more := boolOf(attr, nil)
		diags = append(diags, more...)
		o.sensitive = flag
	}
	o.value = content.Attributes["value"]
	if o.value != nil {
		m.outputs[o.name] = o
	}
	return diags
}

func (o *output) traversals() []hcl2.Traversal { return o.value.Expr.Variables() }

// evaluate makes the output's value; nil when there is none because of an error.
func (o *output) evaluate(ctx *hcl2.EvalContext) (*api.Output, hcl2.Diagnostics) {
	v, diags := o.value.Expr.Value(ctx)
	if diags.HasErrors() || !v.IsWhollyKnown() {
		return nil, diags
	}
	if functions.IsSensitive(v) && !o.sensitive {
		return nil, append(diags, errorAt(o.value.Expr.Range(), "Output refers to sensitive values",
			"The value of the output %q uses sensitive values, so the output must say that it is sensitive too: sensitive = true. "+
				"If the value may be shown, wrap it in nonsensitive().", o.name))
	}
	v, _ = v.UnmarkDeep()
	out := &api.Output{Name: o.name, Sensitive: o.sensitive, Description: o.description}
	var err error
	if out.Value, err = marshal(v); err == nil {
		out.Type, err = ctyjson.MarshalType(v.Type())
	}
	if err != nil {
		return nil, append(diags, errorAt(o.value.Expr.Range(), "Invalid output value", "The value of the output %q cannot be kept: %s.", o.name, err))
	}
	return out, diags
}

// marshal writes a value as JSON. Infinite numbers have no JSON.
func marshal(v cty.Value) ([]byte, error) {
	err := cty.Walk(v, func(_ cty.Path, e cty.Value) (bool, error) {
		if e.Type() == cty.Number && !e.IsNull() && e.AsBigFloat().IsInf() {
			return false, fmt.Errorf("it holds an infinite number")
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if v.IsNull() {
		return []byte("null"), nil
	}
	return ctyjson.Marshal(v, v.Type())
}
