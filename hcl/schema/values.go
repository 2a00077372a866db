package schema

import (
	"encoding/base64"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
)

// converter puts a value, known, not null and without marks, into a field of a struct.
type converter func(v cty.Value, dst reflect.Value) error

// Errors of converters. The detail continues the attribute's name: `replicas: a number is required`.
type (
	typeError    struct{ detail string } // not the type that the attribute has
	valueError   struct{ detail string } // the type is right, the value is not
	refusedError struct{ detail string } // Kubernetes has the value, we do not honour it
)

func (e typeError) Error() string    { return e.detail }
func (e valueError) Error() string   { return e.detail }
func (e refusedError) Error() string { return e.detail }

// converterFor picks the converter of an attribute by its type, its values and, for secrets, its name.
func converterFor(f api.JSONField) converter {
	if f.Key() == "Secret.data" {
		return mapOf(f.Type, plainBytes)
	}
	enum, limited := api.EnumOf(f)
	if !limited {
		return converterOf(f.Type, nil)
	}
	return converterOf(f.Type, &enum)
}

func converterOf(t reflect.Type, enum *api.Enum) converter {
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		return quantity
	case reflect.TypeFor[intstr.IntOrString]():
		return intOrString
	case reflect.TypeFor[metav1.Time]():
		return timestamp
	case reflect.TypeFor[metav1.Duration]():
		return duration
	case reflect.TypeFor[[]byte]():
		return base64Bytes
	}
	switch t.Kind() {
	case reflect.Pointer:
		return pointerTo(t.Elem(), converterOf(t.Elem(), enum))
	case reflect.String:
		return text(enum)
	case reflect.Bool:
		return boolean
	case reflect.Int, reflect.Int32, reflect.Int64:
		return integer
	case reflect.Slice:
		return listOf(t, converterOf(t.Elem(), enum))
	case reflect.Map:
		return mapOf(t, converterOf(t.Elem(), nil))
	}
	panic("schema: no attribute can hold a " + t.String()) // a field row honours a type that we cannot write: a defect of ours
}

func pointerTo(t reflect.Type, inner converter) converter {
	return func(v cty.Value, dst reflect.Value) error {
		p := reflect.New(t)
		if err := inner(v, p.Elem()); err != nil {
			return err
		}
		dst.Set(p)
		return nil
	}
}

func text(enum *api.Enum) converter {
	return func(v cty.Value, dst reflect.Value) error {
		s, err := stringOf(v)
		if err != nil {
			return err
		}
		if err := checkEnum(enum, s); err != nil {
			return err
		}
		dst.SetString(s)
		return nil
	}
}

func stringOf(v cty.Value) (string, error) {
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		return "", typeError{err.Error()}
	}
	return s.AsString(), nil
}

func checkEnum(enum *api.Enum, s string) error {
	if enum == nil {
		return nil
	}
	if why, ok := enum.Refused[s]; ok {
		return refusedError{fmt.Sprintf("%q is not supported: %s.", s, why)}
	}
	if enum.Open {
		return nil
	}
	var values []string
	for _, v := range enum.Values {
		if v == s {
			return nil
		}
		values = append(values, strconv.Quote(v))
	}
	detail := fmt.Sprintf("Unsupported value: %q: supported values: %s.", s, strings.Join(values, ", "))
	if near := nearestFold(s, enum.Values); near != "" {
		detail += fmt.Sprintf(" Did you mean %q?", near)
	}
	return valueError{detail}
}

func boolean(v cty.Value, dst reflect.Value) error {
	b, err := convert.Convert(v, cty.Bool)
	if err != nil {
		return typeError{err.Error()}
	}
	dst.SetBool(b.True())
	return nil
}

func integer(v cty.Value, dst reflect.Value) error {
	n, err := convert.Convert(v, cty.Number)
	if err != nil {
		return typeError{err.Error()}
	}
	i, acc := n.AsBigFloat().Int64()
	if acc != big.Exact {
		return typeError{"a whole number is required"}
	}
	if dst.OverflowInt(i) {
		return valueError{fmt.Sprintf("%d is too large.", i)}
	}
	dst.SetInt(i)
	return nil
}

// quantity takes text and numbers. The canonical form is kept, so that equal amounts are equal bytes.
func quantity(v cty.Value, dst reflect.Value) error {
	s, err := stringOf(v)
	if err != nil {
		return err
	}
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return valueError{fmt.Sprintf("%q is not a quantity such as \"250m\" or \"64Mi\": %s.", s, err)}
	}
	q.RoundUp(resource.Milli)
	dst.Set(reflect.ValueOf(q))
	return nil
}

// intOrString takes numbers, also as text: no name is a number.
func intOrString(v cty.Value, dst reflect.Value) error {
	if v.Type() != cty.Number && v.Type() != cty.String {
		return typeError{"a number or a string is required"}
	}
	s, err := stringOf(v)
	if err != nil {
		return err
	}
	parsed := intstr.Parse(s)
	if v.Type() == cty.Number && parsed.Type == intstr.String {
		return typeError{"a whole number or a string is required"}
	}
	dst.Set(reflect.ValueOf(parsed))
	return nil
}

func timestamp(v cty.Value, dst reflect.Value) error {
	s, err := stringOf(v)
	if err != nil {
		return err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return valueError{fmt.Sprintf("%q is not a time such as \"2006-01-02T15:04:05Z\".", s)}
	}
	dst.Set(reflect.ValueOf(metav1.NewTime(t)))
	return nil
}

func duration(v cty.Value, dst reflect.Value) error {
	s, err := stringOf(v)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return valueError{fmt.Sprintf("%q is not a duration such as \"90s\" or \"1h30m\".", s)}
	}
	dst.Set(reflect.ValueOf(metav1.Duration{Duration: d}))
	return nil
}

func plainBytes(v cty.Value, dst reflect.Value) error {
	s, err := stringOf(v)
	if err != nil {
		return err
	}
	dst.SetBytes([]byte(s))
	return nil
}

func base64Bytes(v cty.Value, dst reflect.Value) error {
	s, err := stringOf(v)
	if err != nil {
		return err
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return valueError{"the value is not base64: use base64encode or filebase64."}
	}
	dst.SetBytes(b)
	return nil
}

func listOf(t reflect.Type, inner converter) converter {
	return func(v cty.Value, dst reflect.Value) error {
		if ty := v.Type(); !ty.IsTupleType() && !ty.IsListType() && !ty.IsSetType() {
			return typeError{"a list is required"}
		}
		out := reflect.MakeSlice(t, v.LengthInt(), v.LengthInt())
		i := 0
		for it := v.ElementIterator(); it.Next(); i++ {
			_, e := it.Element()
			if e.IsNull() {
				return typeError{fmt.Sprintf("element %d must not be null", i)}
			}
			if err := inner(e, out.Index(i)); err != nil {
				return within(fmt.Sprintf("element %d", i), err)
			}
		}
		dst.Set(out)
		return nil
	}
}

// mapOf makes maps with string keys. Elements that are null are left out.
func mapOf(t reflect.Type, inner converter) converter {
	key := t.Key()
	return func(v cty.Value, dst reflect.Value) error {
		if ty := v.Type(); !ty.IsObjectType() && !ty.IsMapType() {
			return typeError{"a map is required"}
		}
		out := dst
		if dst.IsNil() { // string_data and the like come on top
			out = reflect.MakeMapWithSize(t, v.LengthInt())
		}
		for it := v.ElementIterator(); it.Next(); {
			k, e := it.Element()
			if e.IsNull() {
				continue
			}
			elem := reflect.New(t.Elem()).Elem()
			if err := inner(e, elem); err != nil {
				return within(fmt.Sprintf("element %q", k.AsString()), err)
			}
			out.SetMapIndex(reflect.ValueOf(k.AsString()).Convert(key), elem)
		}
		dst.Set(out)
		return nil
	}
}

// within says in which element a value is wrong.
func within(where string, err error) error {
	switch e := err.(type) {
	case typeError:
		return typeError{where + ": " + e.detail}
	case valueError:
		return valueError{where + ": " + e.detail}
	case refusedError:
		return refusedError{where + ": " + e.detail}
	}
	return err
}
