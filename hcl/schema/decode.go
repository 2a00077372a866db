package schema

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// Options says what a body itself does not.
type Options struct {
	// Name is the object's name when the body does not set one: the block's label.
	Name string
	// NameRange is the place of that label, for errors about the name.
	NameRange hcl.Range
}

// Decode makes a value of a body. Meta-arguments must have been taken out of it (PartialContent's remainder), and dynamic blocks
// are expanded by the caller (dynblock.Expand). It returns the places of attributes and blocks and the paths of sensitive
// ones as [api.Object] wants them. A value with any mark is sensitive, and so is all content of a secret.
//
// The value holds what the body sets and what follows from it (see the rules above), no defaults of Kubernetes. It is not
// checked beyond its types: that is for [Validate]. With errors among the diagnostics it is incomplete.
func (s *Schema) Decode(body hcl.Body, ectx *hcl.EvalContext, opts Options) (api.Value, map[string]api.Range, []string, hcl.Diagnostics) {
	v := s.kind.New()
	d := &decoder{ectx: ectx, ranges: make(map[string]api.Range, 64)}
	d.body(s.root, body, reflect.ValueOf(v).Elem(), place{})
	complete(s.kind, v, opts, d.ranges)
	sensitive := sensitivePaths(s.kind, d.sensitive)
	return v, d.ranges, sensitive, sorted(d.diags)
}

// decoder carries one Decode.
type decoder struct {
	ectx      *hcl.EvalContext
	ranges    map[string]api.Range
	sensitive []string
	diags     hcl.Diagnostics
}

// place is where a value lies in its object: as a path with keys of list elements, and as one without.
type place struct{ exact, schema string }

func (p place) field(path string) place {
	if p.exact == "" {
		return place{path, path}
	}
	exact := p.exact + "." + path
	if p.exact == p.schema {
		return place{exact, exact}
	}
	return place{exact, p.schema + "." + path}
}

func (p place) element(key string) place { return place{p.exact + "[" + key + "]", p.schema} }

func (d *decoder) errorf(r hcl.Range, summary, format string, args ...any) {
	d.diags = append(d.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: r.Ptr(),
	})
}

// saw records where a path is written. The first of several elements stands for the path without keys.
func (d *decoder) saw(p place, r hcl.Range) {
	d.ranges[p.exact] = Range(r)
	if _, ok := d.ranges[p.schema]; !ok {
		d.ranges[p.schema] = Range(r)
	}
}

// Range converts a place of HCL's.
func Range(r hcl.Range) api.Range {
	pos := func(p hcl.Pos) api.Pos { return api.Pos{Line: p.Line, Column: p.Column, Byte: p.Byte} }
	return api.Range{Filename: r.Filename, Start: pos(r.Start), End: pos(r.End)}
}

// body fills a struct from a block's body.
func (d *decoder) body(b *block, body hcl.Body, v reflect.Value, at place) {
	content := d.content(b, body)
	nested := make(map[string][]*hcl.Block, len(content.Blocks))
	for _, blk := range content.Blocks {
		nested[blk.Type] = append(nested[blk.Type], blk)
	}
	for _, f := range b.fields {
		dst := v.FieldByIndex(f.index)
		p := at.field(f.path)
		switch f.form {
		case attribute:
			if attr, ok := content.Attributes[f.name]; ok {
				d.attribute(f, attr, dst, p)
			}
		case single:
			d.single(f, nested[f.name], dst, p)
		case repeated:
			d.repeated(f, nested[f.name], content.Attributes[f.name], dst, p)
		}
	}
}

func (d *decoder) single(f *field, blocks []*hcl.Block, dst reflect.Value, at place) {
	if len(blocks) == 0 {
		return
	}
	for _, blk := range blocks[1:] {
		d.errorf(blk.DefRange, "Duplicate block", "Only one %s block can stand here. The first one is at %s.", f.name, Range(blocks[0].DefRange))
	}
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		dst = dst.Elem()
	}
	d.saw(at, blocks[0].DefRange)
	d.body(f.block, blocks[0].Body, dst, at)
}

// repeated makes a list of the shorthand attribute, if the field has one, and its blocks.
func (d *decoder) repeated(f *field, blocks []*hcl.Block, short *hcl.Attribute, dst reflect.Value, at place) {
	if len(blocks) == 0 && short == nil {
		return
	}
	var vars []corev1.EnvVar
	if short != nil {
		vars = d.shorthand(short, at)
	}
	first := len(vars)
	list := reflect.MakeSlice(dst.Type(), first+len(blocks), first+len(blocks))
	names := make([]string, first, first+len(blocks))
	for i, v := range vars {
		list.Index(i).Set(reflect.ValueOf(v))
		names[i] = v.Name
	}
	for _, blk := range blocks {
		names = append(names, d.nameOf(f.block, blk))
	}
	if f.unique {
		d.checkUnique(f, names, blocks, short)
	}
	keys := elementKeys(names)
	for i, blk := range blocks {
		p := at.element(keys[first+i])
		d.saw(p, blk.DefRange)
		elem := list.Index(first + i)
		d.body(f.block, blk.Body, elem, p)
		if len(blk.Labels) > 0 {
			d.label(f.block.label, blk, elem, p)
		}
	}
	dst.Set(list)
}

// nameOf returns the name of an element before the element is decoded: its place is told by it.
func (d *decoder) nameOf(b *block, blk *hcl.Block) string {
	if len(blk.Labels) > 0 {
		return blk.Labels[0]
	}
	if b.label == nil {
		return ""
	}
	content, _, _ := blk.Body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: b.label.name}}})
	attr, ok := content.Attributes[b.label.name]
	if !ok {
		return ""
	}
	v, diags := attr.Expr.Value(d.ectx)
	if v, _ = v.Unmark(); diags.HasErrors() || v.IsNull() || !v.IsKnown() {
		return "" // the element's own decoding reports it
	}
	s, err := stringOf(v)
	if err != nil {
		return ""
	}
	return s
}

// label sets an element's name from the block's label.
func (d *decoder) label(f *field, blk *hcl.Block, elem reflect.Value, at place) {
	p := at.field(f.path)
	if r, ok := d.ranges[p.exact]; ok {
		d.errorf(blk.LabelRanges[0], "Duplicate name", "The block has the label %q and, at %s, a name too. Keep one of them.", blk.Labels[0], r)
		return
	}
	d.saw(p, blk.LabelRanges[0])
	elem.FieldByIndex(f.index).SetString(blk.Labels[0])
}

func (d *decoder) checkUnique(f *field, names []string, blocks []*hcl.Block, short *hcl.Attribute) {
	seen := map[string]hcl.Range{}
	for i, name := range names {
		var r hcl.Range
		if i < len(names)-len(blocks) {
			r = short.Range
		} else {
			r = blocks[i-len(names)+len(blocks)].DefRange
		}
		prev, dup := seen[name]
		if dup && name != "" {
			d.errorf(r, "Duplicate name", "There is already %s %q at %s. Give every one a name of its own.", article(f.name), name, Range(prev))
			continue
		}
		seen[name] = r
	}
}

// elementKeys tells the elements of a list apart: by name when all have one of their own, else by index.
func elementKeys(names []string) []string {
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		if n == "" || seen[n] {
			keys := make([]string, len(names))
			for i := range keys {
				keys[i] = strconv.Itoa(i)
			}
			return keys
		}
		seen[n] = true
	}
	return names
}

// shorthand makes variables of env = { NAME = "value" }, sorted by name.
func (d *decoder) shorthand(attr *hcl.Attribute, at place) []corev1.EnvVar {
	v, paths, ok := d.value(attr)
	if !ok {
		return nil
	}
	d.saw(at, attr.Range)
	values := reflect.New(reflect.TypeFor[map[string]string]()).Elem()
	if err := mapOf(values.Type(), text(nil))(v, values); err != nil {
		d.wrong(attr, err, len(paths) > 0)
		return nil
	}
	for _, p := range paths {
		if len(p.Path) == 0 {
			d.sensitive = append(d.sensitive, at.exact)
			continue
		}
		d.sensitive = append(d.sensitive, at.element(keyOf(p.Path[0])).field("value").exact)
	}
	ranges := d.elementRanges(attr)
	var out []corev1.EnvVar
	m := values.Interface().(map[string]string)
	for _, name := range sortedKeys(m) {
		p := at.element(name)
		r, ok := ranges[name]
		if !ok {
			r = attr.Range
		}
		d.saw(p, r)
		out = append(out, corev1.EnvVar{Name: name, Value: m[name]})
	}
	return out
}

// attribute sets a field from an attribute.
func (d *decoder) attribute(f *field, attr *hcl.Attribute, dst reflect.Value, at place) {
	if f.short {
		return // the repeated field of the same path takes it
	}
	v, marked, ok := d.value(attr)
	if !ok {
		return
	}
	if err := f.set(v, dst); err != nil {
		d.wrong(attr, err, len(marked) > 0)
		return
	}
	d.saw(at, attr.Range)
	if f.typ.Kind() == reflect.Map {
		for key, r := range d.elementRanges(attr) {
			d.ranges[at.exact+"["+strconv.Quote(key)+"]"] = Range(r)
		}
	}
	for _, p := range marked {
		d.sensitive = append(d.sensitive, at.exact+suffix(p.Path))
	}
}

// value evaluates an attribute. It returns false when there is nothing to set: null, or an error, which it reports.
func (d *decoder) value(attr *hcl.Attribute) (cty.Value, []cty.PathValueMarks, bool) {
	v, diags := attr.Expr.Value(d.ectx)
	d.diags = append(d.diags, diags...)
	if diags.HasErrors() {
		return cty.NilVal, nil, false
	}
	var marked []cty.PathValueMarks
	if v.ContainsMarked() {
		v, marked = v.UnmarkDeepWithPaths()
	}
	if !v.IsWhollyKnown() {
		d.errorf(attr.Expr.Range(), "Unknown value", "The value of %s is not known when the plan is made. "+
			"Refer to something that is: what only a host decides cannot be part of a configuration.", attr.Name)
		return cty.NilVal, nil, false
	}
	return v, marked, !v.IsNull()
}

// wrong reports a value that the attribute cannot take, without showing one that is sensitive.
func (d *decoder) wrong(attr *hcl.Attribute, err error, sensitive bool) {
	r := attr.Expr.Range()
	var value valueError
	var refused refusedError
	switch {
	case sensitive && !errors.As(err, new(typeError)):
		d.errorf(r, "Invalid value", "%s cannot have this value, which is sensitive and not shown.", attr.Name)
	case errors.As(err, &value):
		d.errorf(r, "Invalid value", "%s: %s", attr.Name, value.detail)
	case errors.As(err, &refused):
		d.errorf(r, "Unsupported value", "%s: %s", attr.Name, refused.detail)
	default:
		d.errorf(r, "Incorrect attribute value type", "Inappropriate value for attribute %q: %s.", attr.Name, err)
	}
}

// elementRanges returns where each element of a map is written, when the attribute is a literal one.
func (d *decoder) elementRanges(attr *hcl.Attribute) map[string]hcl.Range {
	pairs, diags := hcl.ExprMap(attr.Expr)
	if diags.HasErrors() {
		return nil
	}
	out := make(map[string]hcl.Range, len(pairs))
	for _, kv := range pairs {
		k, diags := kv.Key.Value(d.ectx)
		if k, _ = k.Unmark(); diags.HasErrors() || k.IsNull() || !k.IsKnown() || k.Type() != cty.String {
			continue
		}
		out[k.AsString()] = hcl.RangeBetween(kv.Key.Range(), kv.Value.Range())
	}
	return out
}

// suffix writes a path within a value as part of a JSON path.
func suffix(p cty.Path) string {
	s := ""
	for _, step := range p {
		key := keyOf(step)
		if step, ok := step.(cty.IndexStep); !ok || step.Key.Type() != cty.Number {
			key = strconv.Quote(key)
		}
		s += "[" + key + "]"
	}
	return s
}

func keyOf(step cty.PathStep) string {
	switch step := step.(type) {
	case cty.GetAttrStep:
		return step.Name
	case cty.IndexStep:
		switch step.Key.Type() {
		case cty.Number:
			return step.Key.AsBigFloat().Text('f', -1)
		case cty.String:
			return step.Key.AsString()
		}
	}
	return ""
}
