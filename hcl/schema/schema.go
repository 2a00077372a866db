// Package schema turns Go types of objects into HCL and back: it derives from the types of k8s.io/api, and from our own,
// which attributes and blocks a block of each kind has, decodes bodies into values, and checks the values by Kubernetes' rules.
//
// The rules, applied by one builder so that every field, its place and its errors come from the types and the table in
// api/fields.go:
//
//   - JSON names become snake_case. Scalars, maps and lists of scalars are attributes; structs are blocks; a list of structs is a
//     repeated block in the singular: containers → container.
//   - The elements of a list that have a name take it as the block's label, or as a name attribute. env = { NAME = "value" } is
//     shorthand for variables with plain values; they come first, sorted.
//   - metadata, spec and template are flattened away. labels and annotations go on the object and its pods, pod_labels and
//     pod_annotations on the pods alone; where a controller and its pods have a field of one name, that of the pods gets pod_ before
//     it. A field of spec hides one of metadata (the labels of an image are the image's).
//   - The name defaults to the block's label, the namespace to "default", a controller's selector to its labels. A controller
//     without labels selects its pods by the label berth.dev/name, which they then get.
//   - data of a secret is plain text and so is string_data, which is merged over it; binary_data is base64.
//
// A field of Kubernetes that we do not honour is refused by name, with the reason from the table. It evaluates expressions in the
// context that it is given, and knows nothing of variables, modules or meta-arguments.
//
// Start with [Schema.Decode] in decode.go; compile.go makes the schemas.
package schema

import (
	"reflect"
	"sync"

	"github.com/hashicorp/hcl/v2"

	"berth.dev/berth/api"
)

// Schema says how objects of one kind are written. It is safe for concurrent use.
type Schema struct {
	kind api.Kind
	root *block
}

// For returns the schema of a kind of api.Kinds, nil for any other name.
func For(kind string) *Schema { return schemas()[kind] }

// schemas holds the schema of every kind: derived once from types that never change.
var schemas = sync.OnceValue(func() map[string]*Schema {
	c := newCompiler()
	out := map[string]*Schema{}
	for _, k := range api.Kinds {
		out[k.Name] = &Schema{k, c.object(k)}
	}
	return out
})

// block is a struct type as a block of HCL: its attributes, nested blocks, and what is said of everything else.
type block struct {
	fields  []*field
	attrs   map[string]*field
	blocks  map[string]*field
	label   *field            // the name that can stand as the block's label, or nil
	refused map[string]string // fields that we do not honour, and why
	spelled map[string]string // other spellings of names: Kubernetes' own, plurals
	flat    []string          // structs whose fields are written in the block itself

	body *hcl.BodySchema // all of it, with a label for every block that can have one
	bare *hcl.BodySchema // those blocks alone, without; nil when there are none
}

// form is how a field is written.
type form int

const (
	attribute form = iota
	single         // a block that may stand once
	repeated       // a block per element
)

// field is a field of a struct as HCL writes it.
type field struct {
	name  string // in HCL
	path  string // below the path of the block: "spec.replicas"
	index []int
	typ   reflect.Type
	form  form

	block  *block    // of single and repeated
	unique bool      // of repeated: names must differ
	short  bool      // env = { … }: names and plain values of the repeated field of the same path
	set    converter // of attributes
	values []string  // of attributes: what they can be; nil for anything
}
