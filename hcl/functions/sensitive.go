package functions

import (
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// Sensitive marks a value that must never be shown.
const Sensitive = sensitiveMark("sensitive")

type sensitiveMark string

// IsSensitive reports whether v or anything in it must never be shown.
func IsSensitive(v cty.Value) bool { return v.HasMarkDeep(Sensitive) }

var sensitive = function.New(&function.Spec{
	Description: "The value, marked so that it is never shown.",
	Params:      []function.Parameter{anyValue},
	Type:        typeOfFirst,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		return args[0].Mark(Sensitive), nil
	},
})

var nonSensitive = function.New(&function.Spec{
	Description: "The value, without the mark that it must not be shown.",
	Params:      []function.Parameter{anyValue},
	Type:        typeOfFirst,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		v, marks := args[0].Unmark()
		delete(marks, Sensitive)
		return v.WithMarks(marks), nil
	},
})

var isSensitive = function.New(&function.Spec{
	Description: "Whether the value is marked as sensitive.",
	Params:      []function.Parameter{anyValue},
	Type:        function.StaticReturnType(cty.Bool),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		return cty.BoolVal(args[0].HasMark(Sensitive)), nil
	},
})

// ephemeralAsNull is here for configurations written for Terraform: Berth has no ephemeral values.
var ephemeralAsNull = function.New(&function.Spec{
	Description: "The value itself: there are no ephemeral values.",
	Params:      []function.Parameter{anyValue},
	Type:        typeOfFirst,
	Impl:        func(args []cty.Value, _ cty.Type) (cty.Value, error) { return args[0], nil },
})

var anyValue = function.Parameter{
	Name: "value", Type: cty.DynamicPseudoType, AllowUnknown: true, AllowNull: true, AllowMarked: true, AllowDynamicType: true,
}

func typeOfFirst(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil }
