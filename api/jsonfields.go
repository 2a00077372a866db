package api

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// JSONField is a field of a struct as JSON shows it: those of embedded structs without a name of their own
// count as the struct's.
type JSONField struct {
	Owner reflect.Type // the struct that declares it
	Name  string       // in JSON
	Type  reflect.Type
	Index []int // for reflect.Value.FieldByIndex
}

// Key is the field's key in the table of field rules: "PodSpec.nodeSelector"; "api.Volume.spec" for types of our own.
func (f JSONField) Key() string { return typeName(f.Owner) + "." + f.Name }

// JSONFields lists the fields of a struct type in the order of declaration. As in JSON, a field hides one of its name in an
// embedded struct.
func JSONFields(t reflect.Type) []JSONField {
	var out []JSONField
	own := map[string]bool{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		own[name] = true
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case f.Anonymous && name == "":
			for _, inner := range JSONFields(f.Type) {
				if own[inner.Name] {
					continue
				}
				inner.Index = slices.Concat(f.Index, inner.Index)
				out = append(out, inner)
			}
		default:
			out = append(out, JSONField{t, name, f.Type, f.Index})
		}
	}
	return out
}

// StructOf returns the struct behind a type, through pointers and lists, when JSON shows it as an object with
// fields of its own. It returns false for scalars, maps, and structs that JSON shows as scalars.
func StructOf(t reflect.Type) (reflect.Type, bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[resource.Quantity](), reflect.TypeFor[intstr.IntOrString](), reflect.TypeFor[metav1.Time](),
		reflect.TypeFor[metav1.MicroTime](), reflect.TypeFor[metav1.Duration](), reflect.TypeFor[time.Time]():
		return nil, false
	}
	return t, t.Kind() == reflect.Struct
}

func typeName(t reflect.Type) string {
	if t.PkgPath() == reflect.TypeFor[Volume]().PkgPath() {
		return "api." + t.Name() // Volume is also a type of k8s.io/api
	}
	return t.Name()
}
