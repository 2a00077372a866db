package schema

import (
	"encoding/base64"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
)

// Encode returns a value as expressions that refer to its object see it: an object with the names of HCL. Attributes that are not set
// are null; a block that may stand once is an object or null; repeated blocks are an object by label when every one has a label of
// its own, else a tuple. What lies at one of the sensitive paths is marked with mark.
func (s *Schema) Encode(v api.Value, sensitive []string, mark any) cty.Value {
	e := encoder{sensitive: map[string]bool{}, mark: mark}
	for _, p := range sensitive {
		e.sensitive[p] = true
	}
	return e.block(s.root, reflect.ValueOf(v).Elem(), place{})
}

type encoder struct {
	sensitive map[string]bool
	mark      any
}

func (e *encoder) cover(v cty.Value, at place) cty.Value {
	if e.sensitive[at.exact] {
		return v.Mark(e.mark)
	}
	return v
}

func (e *encoder) block(b *block, v reflect.Value, at place) cty.Value {
	out := make(map[string]cty.Value, len(b.fields))
	for _, f := range b.fields {
		if f.short {
			continue
		}
		src, p := v.FieldByIndex(f.index), at.field(f.path)
		switch f.form {
		case attribute:
			out[f.name] = e.cover(e.attribute(f, src, p), p)
		case single:
			out[f.name] = e.cover(e.single(f, src, p), p)
		case repeated:
			out[f.name] = e.cover(e.repeated(f, src, p), p)
		}
	}
	return cty.ObjectVal(out)
}

func (e *encoder) single(f *field, v reflect.Value, at place) cty.Value {
	if v.IsZero() {
		return cty.NullVal(cty.DynamicPseudoType)
	}
	return e.block(f.block, reflect.Indirect(v), at)
}

func (e *encoder) repeated(f *field, v reflect.Value, at place) cty.Value {
	names := make([]string, v.Len())
	if label := f.block.label; label != nil {
		for i := range names {
			names[i] = v.Index(i).FieldByIndex(label.index).String()
		}
	}
	keys := elementKeys(names)
	values := make([]cty.Value, v.Len())
	for i := range values {
		p := at.element(keys[i])
		values[i] = e.cover(e.block(f.block, v.Index(i), p), p)
	}
	if len(values) == 0 || !slices.Equal(keys, names) {
		return cty.TupleVal(values)
	}
	byName := make(map[string]cty.Value, len(values))
	for i, k := range keys {
		byName[k] = values[i]
	}
	return cty.ObjectVal(byName)
}

// attribute encodes what an attribute holds. Maps and lists are encoded element by element, since each can be sensitive.
func (e *encoder) attribute(f *field, v reflect.Value, at place) cty.Value {
	t := ctyType(f.typ)
	if isUnset(v) {
		return cty.NullVal(t)
	}
	v = reflect.Indirect(v)
	switch {
	case t.IsMapType():
		return e.mapping(f, v, at)
	case t.IsListType():
		values := make([]cty.Value, v.Len())
		for i := range values {
			values[i] = e.cover(scalar(v.Index(i)), at.element(strconv.Itoa(i)))
		}
		if len(values) == 0 {
			return cty.ListValEmpty(t.ElementType())
		}
		return cty.ListVal(values)
	}
	return scalar(v)
}

// mapping encodes a map. Content that is no text is left out where text is expected, and all of it is in base64 beside it.
func (e *encoder) mapping(f *field, v reflect.Value, at place) cty.Value {
	out := map[string]cty.Value{}
	for it := v.MapRange(); it.Next(); {
		k, elem := it.Key().String(), it.Value()
		if elem.Type() == reflect.TypeFor[[]byte]() && f.name == "data" {
			if utf8.Valid(elem.Bytes()) {
				out[k] = cty.StringVal(string(elem.Bytes()))
			}
			continue
		}
		out[k] = e.cover(scalar(elem), at.element(strconv.Quote(k)))
	}
	if len(out) == 0 {
		return cty.MapValEmpty(cty.String)
	}
	return cty.MapVal(out)
}

// isUnset reports whether nothing was written: numbers, strings and flags that may be left out hold their zero then.
func isUnset(v reflect.Value) bool {
	if v.Kind() == reflect.Bool {
		return false // false and not set mean the same
	}
	return v.IsZero()
}

func ctyType(t reflect.Type) cty.Type {
	switch t {
	case reflect.TypeFor[resource.Quantity](), reflect.TypeFor[intstr.IntOrString](), reflect.TypeFor[metav1.Time](),
		reflect.TypeFor[metav1.Duration](), reflect.TypeFor[[]byte]():
		return cty.String
	}
	switch t.Kind() {
	case reflect.Pointer:
		return ctyType(t.Elem())
	case reflect.Bool:
		return cty.Bool
	case reflect.Int, reflect.Int32, reflect.Int64:
		return cty.Number
	case reflect.Slice:
		return cty.List(ctyType(t.Elem()))
	case reflect.Map:
		return cty.Map(ctyType(t.Elem()))
	}
	return cty.String
}

func scalar(v reflect.Value) cty.Value {
	switch x := v.Interface().(type) {
	case resource.Quantity:
		return cty.StringVal(x.String())
	case intstr.IntOrString:
		if x.Type == intstr.Int {
			return cty.NumberIntVal(int64(x.IntVal))
		}
		return cty.StringVal(x.StrVal)
	case metav1.Time:
		return cty.StringVal(x.UTC().Format("2006-01-02T15:04:05Z"))
	case metav1.Duration:
		return cty.StringVal(x.Duration.String())
	case []byte:
		return cty.StringVal(base64.StdEncoding.EncodeToString(x))
	}
	switch v.Kind() {
	case reflect.Bool:
		return cty.BoolVal(v.Bool())
	case reflect.Int, reflect.Int32, reflect.Int64:
		return cty.NumberIntVal(v.Int())
	}
	return cty.StringVal(v.String())
}
