package schema

import (
	"maps"
	"reflect"
	"slices"

	"github.com/hashicorp/hcl/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

// compiler derives blocks from struct types, each type once.
type compiler struct{ blocks map[reflect.Type]*block }

func newCompiler() *compiler { return &compiler{map[reflect.Type]*block{}} }

// part is a struct of an object whose fields are written in the object's own block.
type part struct {
	typ    reflect.Type
	index  []int
	path   string              // "spec.template.spec."
	rename func(string) string // of a name that is taken already; nil: the field is left out
	only   []string            // JSON names; nil for all
	prefix string              // before every name
}

// object compiles the type of a kind: metadata, spec and the pod template's are flattened away.
func (c *compiler) object(kind api.Kind) *block {
	t, b := reflect.TypeOf(kind.New()).Elem(), newBlock()
	if !kind.Namespaced {
		b.refused["namespace"] = kind.Plural + " belong to no namespace"
	}
	c.flatten(b, t)
	b.flat = []string{"metadata", "spec", "template"}
	b.finish()
	return b
}

// template reports whether a nested struct is an object itself, as the templates of claims are: it is written like one.
func template(t reflect.Type) bool {
	return slices.ContainsFunc(api.JSONFields(t), func(f api.JSONField) bool { return f.Type == reflect.TypeFor[metav1.ObjectMeta]() })
}

// flatten puts the fields of an object into a block.
func (c *compiler) flatten(b *block, t reflect.Type) {
	for _, p := range parts(t) {
		for _, f := range api.JSONFields(p.typ) {
			if _, flat := flattened(f); flat || p.only != nil && !slices.Contains(p.only, f.Name) {
				continue
			}
			f.Index = slices.Concat(p.index, f.Index)
			name := p.prefix + hclName(f)
			if b.knows(name) {
				if p.rename == nil {
					continue
				}
				name = p.rename(name)
			}
			c.add(b, f, name, p.path+f.Name)
		}
	}
}

// parts lists the structs of an object that share its block, those whose names win first.
func parts(t reflect.Type) []part {
	root := part{typ: t}
	own, meta, pod := []part{root}, []part(nil), []part(nil)
	for i := 0; i < len(own); i++ {
		p := own[i]
		for _, f := range api.JSONFields(p.typ) {
			elem, flat := flattened(f)
			if !flat {
				continue
			}
			inner := part{typ: elem, index: slices.Concat(p.index, f.Index), path: p.path + f.Name + "."}
			switch elem {
			case reflect.TypeFor[metav1.ObjectMeta]():
				meta = append(meta, inner)
			case reflect.TypeFor[corev1.PodTemplateSpec]():
				pod = append(pod, podParts(inner)...)
			default:
				own = append(own, inner)
			}
		}
	}
	return slices.Concat(own, meta, pod)
}

func podParts(template part) []part {
	var out []part
	for _, f := range api.JSONFields(template.typ) {
		p := part{typ: f.Type, index: slices.Concat(template.index, f.Index), path: template.path + f.Name + "."}
		if f.Name == "metadata" {
			p.prefix, p.only = "pod_", []string{"labels", "annotations"}
		} else {
			p.rename = func(name string) string { return "pod_" + name }
		}
		out = append(out, p)
	}
	return out
}

// flattened reports whether an object's field is a struct whose fields are written in the object's block, and which.
func flattened(f api.JSONField) (reflect.Type, bool) {
	t, ok := api.StructOf(f.Type)
	if !ok || f.Type.Kind() != reflect.Struct {
		return nil, false
	}
	switch {
	case t == reflect.TypeFor[metav1.ObjectMeta](), t == reflect.TypeFor[corev1.PodTemplateSpec](), t == reflect.TypeFor[batchv1.JobTemplateSpec](), f.Name == "spec":
		return t, true
	}
	return nil, false
}

// nested compiles the struct type of a nested block.
func (c *compiler) nested(t reflect.Type) *block {
	if b, ok := c.blocks[t]; ok {
		return b
	}
	b := newBlock()
	c.blocks[t] = b
	if template(t) {
		b.refused["namespace"] = "it is that of the object that makes them"
		c.flatten(b, t)
		b.flat = []string{"metadata", "spec"}
	} else {
		for _, f := range api.JSONFields(t) {
			c.add(b, f, hclName(f), f.Name)
		}
	}
	if b.label = b.attrs["name"]; b.label != nil && b.label.typ.Kind() != reflect.String {
		b.label = nil
	}
	b.finish()
	return b
}

// add puts a field into a block: as something to write when we honour it, else as something to refuse.
func (c *compiler) add(b *block, f api.JSONField, name, path string) {
	spell(b, f.Name, name)
	rule, _ := api.FieldRule(f.Owner, f.Name)
	if !rule.Honoured {
		b.refused[name] = rule.Note
		return
	}
	out := &field{name: name, path: path, index: f.Index, typ: f.Type, form: formOf(f.Type)}
	b.fields = append(b.fields, out)
	if out.form == attribute {
		out.set = converterFor(f)
		if enum, ok := api.EnumOf(f); ok && !enum.Open {
			out.values = enum.Values
		}
		b.attrs[name] = out
		c.extras(b, f, out)
		return
	}
	elem, _ := api.StructOf(f.Type)
	out.block = c.nested(elem)
	out.unique = out.block.label != nil && !repeatable[elem]
	b.blocks[name] = out
	if elem == reflect.TypeFor[corev1.EnvVar]() {
		short := &field{name: name, path: path, index: f.Index, typ: f.Type, short: true}
		b.fields = append(b.fields, short)
		b.attrs[name] = short
	}
}

// extras adds what HCL has beside the fields of the type: content of secrets that is no text.
func (c *compiler) extras(b *block, f api.JSONField, like *field) {
	if f.Key() != "Secret.data" {
		return
	}
	binary := *like
	binary.name, binary.set = "binary_data", mapOf(f.Type, base64Bytes)
	b.fields = append(b.fields, &binary)
	b.attrs[binary.name] = &binary
}

// repeatable are the named elements that may stand more than once under one name: it is not what tells them apart.
var repeatable = map[reflect.Type]bool{
	reflect.TypeFor[corev1.VolumeMount](): true, // their paths do
	reflect.TypeFor[corev1.HTTPHeader]():  true,
	reflect.TypeFor[api.ImageCopy]():      true, // each is a layer
}

func formOf(t reflect.Type) form {
	if _, ok := api.StructOf(t); !ok {
		return attribute
	}
	if t.Kind() == reflect.Slice {
		return repeated
	}
	return single
}

func hclName(f api.JSONField) string {
	if formOf(f.Type) == repeated {
		return api.SingularName(f.Name)
	}
	return api.SnakeName(f.Name)
}

// spell remembers Kubernetes' spelling of a name, and the plural.
func spell(b *block, json, name string) {
	for _, other := range []string{json, api.SnakeName(json)} {
		if other != name {
			b.spelled[other] = name
		}
	}
}

func newBlock() *block {
	return &block{attrs: map[string]*field{}, blocks: map[string]*field{}, refused: map[string]string{}, spelled: map[string]string{}}
}

// takes reports whether a name can be written in the block; knows, whether Kubernetes has it there.
func (b *block) takes(name string) bool { return b.attrs[name] != nil || b.blocks[name] != nil }

func (b *block) knows(name string) bool {
	_, refused := b.refused[name]
	return refused || b.takes(name)
}

// finish makes the schemas that bodies are read with.
func (b *block) finish() {
	b.body = &hcl.BodySchema{}
	for _, name := range slices.Sorted(maps.Keys(b.attrs)) {
		b.body.Attributes = append(b.body.Attributes, hcl.AttributeSchema{Name: name})
	}
	for _, name := range slices.Sorted(maps.Keys(b.blocks)) {
		header := hcl.BlockHeaderSchema{Type: name}
		if f := b.blocks[name]; f.form == repeated && f.block.label != nil {
			if b.bare == nil {
				b.bare = &hcl.BodySchema{}
			}
			b.bare.Blocks = append(b.bare.Blocks, header)
			header.LabelNames = []string{"name"}
		}
		b.body.Blocks = append(b.body.Blocks, header)
	}
	for name := range b.spelled { // a name of its own wins over another one's spelling
		if b.knows(name) {
			delete(b.spelled, name)
		}
	}
}
