package functions

import (
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// templateDepth bounds templates that render templates.
const templateDepth = 64

// addTemplates adds templatefile and templatestring: they see all functions of table, themselves one level deeper.
func addTemplates(table map[string]function.Function, dir string, depth int) {
	inner := func() map[string]function.Function {
		t := maps.Clone(table)
		addTemplates(t, dir, depth+1)
		addCore(t)
		return t
	}
	table["templatefile"] = templateFunction("A file rendered as a template with the given variables.", "path", depth, inner,
		func(path string) (string, string, error) {
			b, err := ReadFile(dir, path)
			if err == nil && !utf8.Valid(b) {
				err = fmt.Errorf("the contents of %q are not valid UTF-8", path)
			}
			return string(b), path, err
		})
	table["templatestring"] = templateFunction("A string rendered as a template with the given variables.", "template", depth, inner,
		func(s string) (string, string, error) { return s, "<templatestring>", nil })
}

func templateFunction(description, first string, depth int, table func() map[string]function.Function, source func(string) (text, name string, err error)) function.Function {
	parse := func(arg cty.Value) (hclsyntax.Expression, error) {
		u, _ := arg.Unmark()
		text, name, err := source(u.AsString())
		if err != nil {
			return nil, function.NewArgError(0, err)
		}
		if depth >= templateDepth {
			return nil, fmt.Errorf("templates are nested more than %d deep: does %s render itself?", templateDepth, name)
		}
		expr, diags := hclsyntax.ParseTemplate([]byte(text), name, hcl2.InitialPos)
		if diags.HasErrors() {
			return nil, function.NewArgError(0, diags)
		}
		return expr, nil
	}
	render := func(args []cty.Value) (cty.Value, error) {
		expr, err := parse(args[0])
		if err != nil {
			return cty.DynamicVal, err
		}
		ctx, err := templateContext(expr, args[1])
		if err != nil {
			return cty.DynamicVal, err
		}
		ctx.Functions = table()
		v, diags := expr.Value(ctx)
		if diags.HasErrors() {
			return cty.DynamicVal, diags
		}
		_, marks := args[0].Unmark()
		return v.WithMarks(marks), nil
	}
	return function.New(&function.Spec{
		Description: description,
		Params: []function.Parameter{
			{Name: first, Type: cty.String, AllowMarked: true},
			{Name: "vars", Type: cty.DynamicPseudoType, AllowMarked: true, AllowUnknown: true},
		},
		Type: func(args []cty.Value) (cty.Type, error) {
			if !args[0].IsKnown() || !args[1].IsKnown() {
				return cty.DynamicPseudoType, nil
			}
			v, err := render(args)
			return v.Type(), err
		},
		Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
			if !args[1].IsKnown() {
				return cty.UnknownVal(t), nil
			}
			return render(args)
		},
	})
}

// templateContext makes the variables of a template from the elements of a map or object.
func templateContext(expr hcl2.Expression, vars cty.Value) (*hcl2.EvalContext, error) {
	u, marks := vars.Unmark()
	if t := u.Type(); u.IsNull() || (!t.IsMapType() && !t.IsObjectType()) {
		return nil, function.NewArgErrorf(1, "invalid vars value: must be a map")
	}
	ctx := &hcl2.EvalContext{Variables: map[string]cty.Value{}}
	for name, v := range u.AsValueMap() {
		if !hclsyntax.ValidIdentifier(name) {
			return nil, function.NewArgErrorf(1, "invalid template variable name %q: must start with a letter, followed by zero or more letters, digits, and underscores", name)
		}
		ctx.Variables[name] = v.WithMarks(marks)
	}
	for _, traversal := range expr.Variables() {
		root := traversal.RootName()
		if _, ok := ctx.Variables[root]; ok {
			continue
		}
		known := slices.Sorted(maps.Keys(ctx.Variables))
		return nil, function.NewArgError(1, fmt.Errorf("vars map does not contain key %q, referenced at %s (it has %q)", root, traversal[0].SourceRange(), known))
	}
	return ctx, nil
}
