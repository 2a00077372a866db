package api

import (
	"cmp"
	"reflect"
	"strings"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// Field is one row of the table of field rules over the types in kinds.go: whether we honour the field and
// what a change of it means. Schema, "unsupported" errors, diff and the documentation read it; a
// reflection test fails on a field without a row. The rows are in fieldrows.go.
type Field struct {
	Honoured bool
	Effect   FieldEffect
	Note     string // for the documentation and for the error when it is not honoured
}

// FieldOf returns the rule of a field by kind and schema path (see [SchemaPath]), such as
// ("deployment", "spec.template.spec.containers.image"). For a path below a field of scalar or map type the
// field's own rule is returned, and so it is for one below a field that is not honoured. It returns false for a
// path that the kind's type does not have.
func FieldOf(kind, path string) (Field, bool) {
	t, ok := fieldTrees()[kind]
	if !ok || path == "" {
		return Field{}, false
	}
	for rest := path; ; {
		segment, after, more := strings.Cut(rest, ".")
		next, ok := t.children[segment]
		if !ok {
			return Field{}, false
		}
		if t = next; !more || t.children == nil {
			return t.field, true
		}
		rest = after
	}
}

// FieldRule returns the rule of one field of a struct type by its JSON name, as it stands in the table: what a change of
// it means can be more where the struct lies in a pod (see [FieldOf]).
func FieldRule(owner reflect.Type, name string) (Field, bool) {
	f, ok := fieldRows[typeName(owner)+"."+name]
	return f, ok
}

// WalkFields calls visit for every field below a kind's type in the order of declaration, with its schema path and
// its rule. It does not descend below fields that are not honoured.
func WalkFields(kind string, visit func(path string, f Field)) {
	if t, ok := fieldTrees()[kind]; ok {
		t.walk("", visit)
	}
}

// fieldTree is a field with those below it. Scalars, maps and fields that are not honoured have none below.
type fieldTree struct {
	field    Field
	order    []string
	children map[string]*fieldTree
}

// fieldTrees holds the tree of every kind. It is the table in another shape: made once, never changed.
var fieldTrees = sync.OnceValue(func() map[string]*fieldTree {
	out := map[string]*fieldTree{}
	for _, k := range Kinds {
		root := &fieldTree{}
		var whole FieldEffect
		if k.Name == KindPod {
			whole = EffectReplace // nothing of a pod can be changed while it runs
		}
		root.grow(reflect.TypeOf(k.New()).Elem(), whole)
		out[k.Name] = root
	}
	return out
})

// wholes are structs a change of any part of which means what a change of them means, whatever else their parts' types are used for.
var wholes = map[reflect.Type]bool{reflect.TypeFor[batchv1.JobTemplateSpec](): true,
	reflect.TypeFor[corev1.PodTemplateSpec](): true, reflect.TypeFor[DeploymentStrategy](): true}

// grow adds the fields of a struct type. What a change of the whole means ("" for nothing special), a change of any part does.
func (t *fieldTree) grow(s reflect.Type, whole FieldEffect) {
	t.children = map[string]*fieldTree{}
	for _, f := range JSONFields(s) {
		child := &fieldTree{field: fieldRows[f.Key()]}
		child.field.Effect = cmp.Or(whole, child.field.Effect)
		t.order = append(t.order, f.Name)
		t.children[f.Name] = child
		if elem, ok := StructOf(f.Type); ok && child.field.Honoured {
			below := whole
			if e := child.field.Effect; e == EffectRoll || e == EffectReplace || wholes[elem] {
				below = e
			}
			child.grow(elem, below)
		}
	}
}

func (t *fieldTree) walk(prefix string, visit func(string, Field)) {
	for _, name := range t.order {
		c := t.children[name]
		visit(prefix+name, c.field)
		c.walk(prefix+name+".", visit)
	}
}
