package functions

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	"github.com/zclconf/go-cty/cty/gocty"
)

// length counts elements of collections and characters (grapheme clusters) of strings.
var length = function.New(&function.Spec{
	Description: "The number of elements of a collection, or of characters of a string.",
	Params:      []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true, AllowUnknown: true, AllowMarked: true}},
	Type: func(args []cty.Value) (cty.Type, error) {
		t := args[0].Type()
		if t == cty.String || t == cty.DynamicPseudoType || t.IsCollectionType() || t.IsTupleType() || t.IsObjectType() {
			return cty.Number, nil
		}
		return cty.Number, errors.New("argument must be a string, a collection type, or a structural type")
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		v, marks := args[0].Unmark()
		t := v.Type()
		switch {
		case t == cty.DynamicPseudoType:
			return cty.UnknownVal(cty.Number).WithMarks(marks), nil
		case t.IsTupleType():
			return cty.NumberIntVal(int64(len(t.TupleElementTypes()))).WithMarks(marks), nil
		case t.IsObjectType():
			return cty.NumberIntVal(int64(len(t.AttributeTypes()))).WithMarks(marks), nil
		case t == cty.String:
			n, err := stdlib.Strlen(v)
			return n.WithMarks(marks), err
		case !v.IsKnown():
			return cty.UnknownVal(cty.Number).WithMarks(marks), nil
		}
		return v.Length().WithMarks(marks), nil
	},
})

// coalesce returns its first argument that is neither null nor an empty string.
var coalesce = function.New(&function.Spec{
	Description: "The first argument that is neither null nor an empty string.",
	VarParam:    &function.Parameter{Name: "vals", Type: cty.DynamicPseudoType, AllowUnknown: true, AllowDynamicType: true, AllowNull: true},
	Type: func(args []cty.Value) (cty.Type, error) {
		types := make([]cty.Type, len(args))
		for i, a := range args {
			types[i] = a.Type()
		}
		t, _ := convert.UnifyUnsafe(types)
		if t == cty.NilType {
			return t, errors.New("all arguments must have the same type")
		}
		return t, nil
	},
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		for _, a := range args {
			a, err := convert.Convert(a, t)
			if err != nil {
				return cty.NilVal, err
			}
			switch {
			case !a.IsKnown():
				return cty.UnknownVal(t), nil
			case a.IsNull(), t == cty.String && a.RawEquals(cty.StringVal("")):
				continue
			}
			return a, nil
		}
		return cty.NilVal, errors.New("no non-null, non-empty-string arguments")
	},
})

// index finds the position of a value in a list.
var index = function.New(&function.Spec{
	Description: "The index of the first element of a list that equals a value.",
	Params: []function.Parameter{
		{Name: "list", Type: cty.DynamicPseudoType},
		{Name: "value", Type: cty.DynamicPseudoType},
	},
	Type: function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		list := args[0]
		if !list.Type().IsListType() && !list.Type().IsTupleType() {
			return cty.NilVal, errors.New("argument must be a list or tuple")
		}
		if !list.IsKnown() {
			return cty.UnknownVal(cty.Number), nil
		}
		if list.LengthInt() == 0 {
			return cty.NilVal, errors.New("cannot search an empty list")
		}
		for i, v := range list.Elements() {
			eq := args[1].Equals(v)
			if !eq.IsKnown() {
				return cty.UnknownVal(cty.Number), nil
			}
			if eq.True() {
				return i, nil
			}
		}
		return cty.NilVal, errors.New("item not found")
	},
})

// lookup gets one element of a map or object by key, with an optional default.
var lookup = function.New(&function.Spec{
	Description: "The element of a map with a given key, or the default when there is none.",
	Params: []function.Parameter{
		{Name: "inputMap", Type: cty.DynamicPseudoType, AllowMarked: true},
		{Name: "key", Type: cty.String, AllowMarked: true},
	},
	VarParam: &function.Parameter{Name: "default", Type: cty.DynamicPseudoType, AllowUnknown: true, AllowDynamicType: true, AllowNull: true, AllowMarked: true},
	Type:     lookupType,
	Impl:     lookupValue,
})

func lookupType(args []cty.Value) (cty.Type, error) {
	if len(args) > 3 {
		return cty.NilType, fmt.Errorf("lookup() takes two or three arguments, got %d", len(args))
	}
	t := args[0].Type()
	switch {
	case t.IsObjectType():
		if !args[1].IsKnown() {
			return cty.DynamicPseudoType, nil
		}
		key, _ := args[1].Unmark()
		if t.HasAttribute(key.AsString()) {
			return t.AttributeType(key.AsString()), nil
		}
		if len(args) == 3 {
			return args[2].Type(), nil
		}
		return cty.DynamicPseudoType, function.NewArgErrorf(0, "the given object has no attribute %q", key.AsString())
	case t.IsMapType():
		if len(args) == 3 {
			if _, err := convert.Convert(args[2], t.ElementType()); err != nil {
				return cty.NilType, function.NewArgErrorf(2, "the default value must have the same type as the map elements")
			}
		}
		return t.ElementType(), nil
	}
	return cty.NilType, function.NewArgErrorf(0, "lookup() requires a map as the first argument")
}

func lookupValue(args []cty.Value, t cty.Type) (cty.Value, error) {
	m, mapMarks := args[0].Unmark()
	k, keyMarks := args[1].Unmark()
	if !m.IsKnown() || !k.IsKnown() {
		return cty.UnknownVal(t).WithMarks(mapMarks, keyMarks), nil
	}
	key := k.AsString()
	if m.Type().IsObjectType() {
		if m.Type().HasAttribute(key) {
			return m.GetAttr(key).WithMarks(mapMarks, keyMarks), nil
		}
	} else if m.HasIndex(k).True() {
		return m.Index(k).WithMarks(mapMarks, keyMarks), nil
	}
	if len(args) == 3 {
		v, err := convert.Convert(args[2], t)
		if err != nil {
			return cty.NilVal, function.NewArgError(2, err)
		}
		return v.WithMarks(mapMarks, keyMarks), nil
	}
	return cty.NilVal, fmt.Errorf("the given key does not identify an element in this collection value: the map has no element %q and no default was given", key)
}

// matchKeys picks the elements of one list whose counterparts in a second list are in a third.
var matchKeys = function.New(&function.Spec{
	Description: "The elements of a list whose counterparts in a second list are in a third.",
	Params: []function.Parameter{
		{Name: "values", Type: cty.List(cty.DynamicPseudoType)},
		{Name: "keys", Type: cty.List(cty.DynamicPseudoType)},
		{Name: "searchset", Type: cty.List(cty.DynamicPseudoType)},
	},
	Type: func(args []cty.Value) (cty.Type, error) {
		if t, _ := convert.UnifyUnsafe([]cty.Type{args[1].Type(), args[2].Type()}); t == cty.NilType {
			return cty.NilType, errors.New("keys and searchset must be of the same type")
		}
		return args[0].Type(), nil
	},
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		if !args[0].IsWhollyKnown() || !args[1].IsWhollyKnown() || !args[2].IsWhollyKnown() {
			return cty.UnknownVal(t), nil
		}
		if args[0].LengthInt() != args[1].LengthInt() {
			return cty.NilVal, errors.New("length of keys and values should be equal")
		}
		elem, _ := convert.UnifyUnsafe([]cty.Type{args[1].Type().ElementType(), args[2].Type().ElementType()})
		wanted, err := convert.Convert(args[2], cty.List(elem))
		if err != nil {
			return cty.NilVal, err
		}
		keys, err := convert.Convert(args[1], cty.List(elem))
		if err != nil {
			return cty.NilVal, err
		}
		values, search := args[0].AsValueSlice(), wanted.AsValueSlice()
		var out []cty.Value
		for i, key := range keys.AsValueSlice() {
			if slices.ContainsFunc(search, func(w cty.Value) bool { return w.RawEquals(key) }) {
				out = append(out, values[i])
			}
		}
		if len(out) == 0 {
			return cty.ListValEmpty(t.ElementType()), nil
		}
		return cty.ListVal(out), nil
	},
})

// one unwraps a collection of at most one element; of none, null.
var one = function.New(&function.Spec{
	Description: "The only element of a list, set or tuple; null of an empty one.",
	Params:      []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
	Type: func(args []cty.Value) (cty.Type, error) {
		t := args[0].Type()
		switch {
		case t.IsListType(), t.IsSetType():
			return t.ElementType(), nil
		case t.IsTupleType():
			switch e := t.TupleElementTypes(); len(e) {
			case 0:
				return cty.DynamicPseudoType, nil
			case 1:
				return e[0], nil
			}
		}
		return cty.NilType, function.NewArgErrorf(0, "must be a list, set, or tuple value with either zero or one elements")
	},
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		v := args[0]
		if !v.IsKnown() {
			return cty.UnknownVal(t), nil
		}
		switch v.LengthInt() {
		case 0:
			return cty.NullVal(t), nil
		case 1:
			for _, e := range v.Elements() {
				return e, nil
			}
		}
		return cty.NilVal, function.NewArgErrorf(0, "must be a list, set, or tuple value with either zero or one elements")
	},
})

// sum adds the numbers of a list, set or tuple.
var sum = function.New(&function.Spec{
	Description: "The sum of the numbers of a list or set.",
	Params:      []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
	Type:        function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		v := args[0]
		if t := v.Type(); !t.IsListType() && !t.IsSetType() && !t.IsTupleType() {
			return cty.NilVal, function.NewArgErrorf(0, "argument must be list, set, or tuple. Received %s", v.Type().FriendlyName())
		}
		if !v.IsWhollyKnown() {
			return cty.UnknownVal(cty.Number), nil
		}
		if v.LengthInt() == 0 {
			return cty.NilVal, function.NewArgErrorf(0, "cannot sum an empty list")
		}
		total := cty.Zero
		for _, e := range v.Elements() {
			n, err := convert.Convert(e, cty.Number)
			if err != nil || n.IsNull() {
				return cty.NilVal, function.NewArgErrorf(0, "argument must be list, set, or tuple of number values")
			}
			if opposite(total, n) {
				return cty.NilVal, errors.New("can't compute sum of opposing infinities")
			}
			total = total.Add(n)
		}
		return total, nil
	},
})

func opposite(a, b cty.Value) bool {
	x, y := a.AsBigFloat(), b.AsBigFloat()
	return x.IsInf() && y.IsInf() && x.Sign() != y.Sign()
}

// transpose swaps the keys and the values of a map of lists of strings.
var transpose = function.New(&function.Spec{
	Description: "A map of lists of strings with keys and values swapped.",
	Params:      []function.Parameter{{Name: "values", Type: cty.Map(cty.List(cty.String))}},
	Type:        function.StaticReturnType(cty.Map(cty.List(cty.String))),
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		if !args[0].IsWhollyKnown() {
			return cty.UnknownVal(t), nil
		}
		swapped := map[string][]cty.Value{}
		for key, list := range args[0].Elements() {
			if list.IsNull() {
				return cty.MapValEmpty(cty.List(cty.String)), errors.New("input must not contain null lists")
			}
			for _, v := range list.Elements() {
				if v.IsNull() {
					return cty.NilVal, errors.New("input must not contain null strings")
				}
				swapped[v.AsString()] = append(swapped[v.AsString()], key)
			}
		}
		if len(swapped) == 0 {
			return cty.MapValEmpty(cty.List(cty.String)), nil
		}
		out := map[string]cty.Value{}
		for k, v := range swapped {
			slices.SortFunc(v, func(a, b cty.Value) int { return strings.Compare(a.AsString(), b.AsString()) })
			out[k] = cty.ListVal(v)
		}
		return cty.MapVal(out), nil
	},
})

var allTrue = quantifier("Whether all elements of a list are true.", false)
var anyTrue = quantifier("Whether an element of a list is true.", true)

// quantifier makes a function that returns decisive as soon as an element equals it.
func quantifier(description string, decisive bool) function.Function {
	return function.New(&function.Spec{
		Description: description,
		Params:      []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
		Type:        function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			unknown := false
			for _, v := range args[0].Elements() {
				switch {
				case !v.IsKnown():
					unknown = true
				case v.IsNull() && !decisive:
					return cty.False, nil
				case !v.IsNull() && v.True() == decisive:
					return cty.BoolVal(decisive), nil
				}
			}
			if unknown {
				return cty.UnknownVal(cty.Bool), nil
			}
			return cty.BoolVal(!decisive), nil
		},
	})
}

// rangeLimit bounds range: more would be a mistake of the configuration rather than a wish. Terraform stops at 1,024.
const rangeLimit = 1_000_000

// rangeNumbers is cty's range with a higher limit.
var rangeNumbers = function.New(&function.Spec{
	Description: "A list of numbers: range(limit), range(start, limit) or range(start, limit, step).",
	VarParam:    &function.Parameter{Name: "params", Type: cty.Number},
	Type:        function.StaticReturnType(cty.List(cty.Number)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		start, limit, step, err := rangeArgs(args)
		if err != nil {
			return cty.NilVal, err
		}
		inside := cty.Value.LessThan
		if step.LessThan(cty.Zero).True() {
			inside = cty.Value.GreaterThan
		}
		var out []cty.Value
		for v := start; inside(v, limit).True(); v = v.Add(step) {
			if len(out) >= rangeLimit {
				return cty.NilVal, fmt.Errorf("more than %d values were generated; either decrease the difference between start and end or use a smaller step", rangeLimit)
			}
			out = append(out, v)
		}
		if len(out) == 0 {
			return cty.ListValEmpty(cty.Number), nil
		}
		return cty.ListVal(out), nil
	},
})

func rangeArgs(args []cty.Value) (start, limit, step cty.Value, err error) {
	start, step = cty.Zero, cty.NumberIntVal(1)
	switch len(args) {
	case 1:
		limit = args[0]
	case 2, 3:
		start, limit = args[0], args[1]
	default:
		return start, limit, step, errors.New("must have one, two, or three arguments")
	}
	if len(args) == 3 {
		step = args[2]
	} else if limit.LessThan(start).True() {
		step = cty.NumberIntVal(-1)
	}
	for i, v := range args {
		if v.AsBigFloat().IsInf() {
			return start, limit, step, function.NewArgErrorf(i, "must not be infinite")
		}
	}
	down := step.LessThan(cty.Zero).True()
	switch {
	case step.RawEquals(cty.Zero):
		return start, limit, step, function.NewArgErrorf(2, "step must not be zero")
	case down && limit.GreaterThan(start).True():
		return start, limit, step, function.NewArgErrorf(1, "end must be less than start when step is negative")
	case !down && limit.LessThan(start).True():
		return start, limit, step, function.NewArgErrorf(1, "end must be greater than start when step is positive")
	}
	return start, limit, step, nil
}

// intArg reads a whole number that fits an int.
func intArg(v cty.Value, position int) (int, error) {
	var n int
	if err := gocty.FromCtyValue(v, &n); err != nil {
		return 0, function.NewArgError(position, err)
	}
	return n, nil
}
