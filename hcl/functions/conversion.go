package functions

import (
	"strconv"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// makeTo makes the function that converts to one type. Unlike cty's own it keeps marks where they are, so that
// one sensitive element does not make its whole collection sensitive.
func makeTo(want cty.Type) function.Function {
	return function.New(&function.Spec{
		Description: "The value converted to " + want.FriendlyNameForConstraint() + ".",
		Params:      []function.Parameter{{Name: "v", Type: cty.DynamicPseudoType, AllowNull: true, AllowMarked: true, AllowDynamicType: true}},
		Type: func(args []cty.Value) (cty.Type, error) {
			got := args[0].Type()
			if got.Equals(want) {
				return want, nil
			}
			if convert.GetConversionUnsafe(got, want) == nil {
				return cty.NilType, function.NewArgErrorf(0, "cannot convert %s to %s", got.FriendlyName(), want.FriendlyNameForConstraint())
			}
			return want, nil
		},
		Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
			v, err := convert.Convert(args[0], t)
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(0, "cannot convert %s to %s", describe(args[0]), want.FriendlyNameForConstraint()+conversionHint(want))
			}
			return v, nil
		},
	})
}

// describe names a value for an error: a string is quoted unless it is sensitive.
func describe(v cty.Value) string {
	switch {
	case v.HasMark(Sensitive):
		return "this sensitive " + v.Type().FriendlyName()
	case v.Type() == cty.String && v.IsKnown() && !v.IsNull():
		u, _ := v.Unmark()
		return strconv.Quote(u.AsString())
	}
	return v.Type().FriendlyName()
}

func conversionHint(want cty.Type) string {
	switch want {
	case cty.Bool:
		return `; only the strings "true" or "false" are allowed`
	case cty.Number:
		return "; given string must be a decimal representation of a number"
	}
	return ""
}
