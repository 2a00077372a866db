package hcl

import (
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"berth.dev/berth/hcl/functions"
)

// variable is a variable block.
type variable struct {
	name      string
	place     hcl2.Range
	typ       cty.Type
	defaults  *typeexpr.Defaults // of optional attributes
	literal   bool               // text from outside is the value itself, not an expression
	fallback  cty.Value          // NilVal when the variable is required
	sensitive bool
	nullable  bool
	rules     []rule
}

// rule is one validation block of a variable.
type rule struct {
	condition, message *hcl2.Attribute
	place              hcl2.Range
}

// variableRefusals are attributes that Terraform or OpenTofu have and we have not.
var variableRefusals = map[string]string{
	"ephemeral":  "Berth has no ephemeral values; sensitive = true keeps a value out of all output.",
	"deprecated": "Deprecated variables are not supported; say it in the description.",
	"const":      "Constant variables are not supported.",
}

func (m *Module) addVariable(b *hcl2.Block) hcl2.Diagnostics {
	v := &variable{name: b.Labels[0], place: b.DefRange, typ: cty.DynamicPseudoType, literal: true, nullable: true}
	if diags := checkLabel(v.name, b.LabelRanges[0]); diags != nil {
		return diags
	}
	if first, ok := m.variables[v.name]; ok {
		return hcl2.Diagnostics{duplicate("variable", v.name, b.DefRange, first.place)}
	}
	m.variables[v.name] = v
	s := &hcl2.BodySchema{
		Attributes: []hcl2.AttributeSchema{{Name: "type"}, {Name: "default"}, {Name: "description"}, {Name: "sensitive"}, {Name: "nullable"}},
		Blocks:     []hcl2.BlockHeaderSchema{{Type: "validation"}},
	}
	content, diags := contentWithout(b.Body, s, variableRefusals)
	for name, set := range map[string]*bool{"sensitive": &v.sensitive, "nullable": &v.nullable} {
		if attr, ok := content.Attributes[name]; ok {
			flag, more := valueOf(attr, cty.Bool)
			diags = append(diags, more...)
			if !flag.IsNull() {
				*set = flag.True()
			}
		}
	}
	if attr, ok := content.Attributes["description"]; ok {
		_, more := valueOf(attr, cty.String)
		diags = append(diags, more...)
	}
	if attr, ok := content.Attributes["type"]; ok {
		diags = append(diags, v.readType(attr.Expr)...)
	}
	if attr, ok := content.Attributes["default"]; ok {
		diags = append(diags, v.readDefault(attr)...)
	}
	for _, rule := range content.Blocks {
		diags = append(diags, v.readValidation(rule)...)
	}
	return diags
}

func (v *variable) readType(expr hcl2.Expression) hcl2.Diagnostics {
	switch hcl2.ExprAsKeyword(expr) {
	case "list":
		v.typ, v.literal = cty.List(cty.DynamicPseudoType), false
		return nil
	case "map":
		v.typ, v.literal = cty.Map(cty.DynamicPseudoType), false
		return nil
	}
	t, defaults, diags := typeexpr.TypeConstraintWithDefaults(expr)
	if diags.HasErrors() {
		v.literal = false
		return diags
	}
	v.typ, v.defaults, v.literal = t, defaults, t.IsPrimitiveType()
	return diags
}

func (v *variable) readDefault(attr *hcl2.Attribute) hcl2.Diagnostics {
	v.fallback = cty.DynamicVal // it has one, whatever becomes of it below
	given, diags := attr.Expr.Value(nil)
	if diags.HasErrors() {
		return diags
	}
	if given.IsNull() && !v.nullable {
		return append(diags, errorAt(attr.Expr.Range(), "Invalid default value for variable",
			"The variable %q is not nullable, so its default cannot be null. Leave the default out to make the variable required.", v.name))
	}
	value, err := v.convert(given)
	if err != nil {
		return append(diags, errorAt(attr.Expr.Range(), "Invalid default value for variable",
			"The default of variable %q does not fit the variable's type: %s.", v.name, err))
	}
	v.fallback = value
	return diags
}

// convert brings a value to the variable's type, with the defaults of optional attributes.
func (v *variable) convert(given cty.Value) (cty.Value, error) {
	if v.defaults != nil && !given.IsNull() {
		given = v.defaults.Apply(given)
	}
	return convert.Convert(given, v.typ)
}

func (v *variable) readValidation(b *hcl2.Block) hcl2.Diagnostics {
	content, diags := b.Body.Content(&hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{
		{Name: "condition", Required: true}, {Name: "error_message", Required: true},
	}})
	r := rule{content.Attributes["condition"], content.Attributes["error_message"], b.DefRange}
	if r.condition != nil && r.message != nil {
		v.rules = append(v.rules, r)
	}
	return diags
}

// traversals is what the validation rules refer to, apart from the variable itself.
func (v *variable) traversals() []hcl2.Traversal {
	var out []hcl2.Traversal
	for _, rule := range v.rules {
		for _, t := range append(rule.condition.Expr.Variables(), rule.message.Expr.Variables()...) {
			if name, ok := firstName(t); !ok || t.RootName() != "var" || name != v.name {
				out = append(out, t)
			}
		}
	}
	return out
}

// final makes the variable's value of what was given from outside, and checks it. place is where that was, or the variable's block.
func (v *variable) final(given cty.Value, place hcl2.Range, source string) (cty.Value, hcl2.Diagnostics) {
	if given == cty.NilVal || given.IsNull() && !v.nullable {
		if v.fallback == cty.NilVal {
			return cty.DynamicVal, hcl2.Diagnostics{errorAt(v.place, "No value for required variable",
				`The variable %q has no default, and no value was given. Give one by -var %s=…, in a file berth.bvars, or as environment variable BERTH_VAR_%s.`, v.name, v.name, v.name)}
		}
		return v.marked(v.fallback), nil
	}
	value, err := v.convert(given)
	if err != nil {
		return cty.DynamicVal, hcl2.Diagnostics{errorAt(place, "Invalid value for variable",
			"The value of var.%s from %s does not fit its type: %s.", v.name, source, err)}
	}
	return v.marked(value), nil
}

func (v *variable) marked(value cty.Value) cty.Value {
	if v.sensitive {
		return value.Mark(functions.Sensitive)
	}
	return value
}

// check evaluates the validation rules in a context that holds the variable and what the rules refer to.
func (v *variable) check(ctx *hcl2.EvalContext) hcl2.Diagnostics {
	var diags hcl2.Diagnostics
	for _, rule := range v.rules {
		result, more := typed(rule.condition, ctx, cty.Bool)
		diags = append(diags, more...)
		result, _ = result.Unmark()
		if more.HasErrors() || !result.IsKnown() {
			continue
		}
		if result.IsNull() {
			diags = append(diags, errorAt(rule.condition.Expr.Range(), "Invalid validation result",
				"The condition of a validation must be true or false, and it is null."))
			continue
		}
		if result.True() {
			continue
		}
		message, more := typed(rule.message, ctx, cty.String)
		diags = append(diags, more...)
		text := "The error message cannot be shown: it is null."
		switch {
		case more.HasErrors():
			continue
		case functions.IsSensitive(message):
			text = "The error message of the validation rule is not shown, because it uses sensitive values."
		case message.IsKnown() && !message.IsNull():
			text = message.AsString()
		}
		diags = append(diags, errorAt(v.place, "Invalid value for variable",
			"%s\n\nThis was checked by the validation rule at %s.", text, at(rule.place)))
	}
	return diags
}

// contentWithout is Content that refuses some attributes and blocks by name, with what to do instead.
func contentWithout(body hcl2.Body, s *hcl2.BodySchema, refused map[string]string) (*hcl2.BodyContent, hcl2.Diagnostics) {
	asked := &hcl2.BodySchema{}
	for name := range refused {
		asked.Attributes = append(asked.Attributes, hcl2.AttributeSchema{Name: name})
	}
	found, rest, _ := body.PartialContent(asked)
	var diags hcl2.Diagnostics
	for name, attr := range found.Attributes {
		diags = append(diags, errorAt(attr.NameRange, "Unsupported argument", "An argument named %q is not supported here. %s", name, refused[name]))
	}
	blocks := &hcl2.BodySchema{}
	for name := range refused {
		blocks.Blocks = append(blocks.Blocks, hcl2.BlockHeaderSchema{Type: name})
	}
	found, rest, _ = rest.PartialContent(blocks)
	for _, b := range found.Blocks {
		diags = append(diags, errorAt(b.DefRange, "Unsupported block type", "Blocks of type %q are not supported here. %s", b.Type, refused[b.Type]))
	}
	content, more := rest.Content(s)
	return content, append(diags, more...)
}
