// Package diff compares what was last applied with what is wanted, attribute by attribute, over the JSON of the
// values. It holds only what the user set: defaults are filled in later and never show as changes.
//
// It does not decide what a change does to pods. Start with [Objects].
package diff

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"berth.dev/berth/api"
)

// Objects returns the attributes in which two objects of one address differ, sorted by path. Either may be nil: then
// every attribute of the other one came or went.
func Objects(before, after *api.Object) ([]api.AttributeDiff, error) {
	old, err := tree(before)
	if err != nil {
		return nil, err
	}
	now, err := tree(after)
	if err != nil {
		return nil, err
	}
	c := comparison{kind: kindOf(before, after), sensitive: slices.Concat(sensitive(before), sensitive(after))}
	c.walk("", old, now)
	slices.SortFunc(c.out, func(a, b api.AttributeDiff) int { return strings.Compare(a.Path, b.Path) })
	return c.out, nil
}

// Values compares two values of any type that has JSON, such as inventory nodes, with no rules of a kind.
func Values(before, after any) ([]api.AttributeDiff, error) {
	old, err := decode(before)
	if err != nil {
		return nil, err
	}
	now, err := decode(after)
	if err != nil {
		return nil, err
	}
	var c comparison
	c.walk("", old, now)
	slices.SortFunc(c.out, func(a, b api.AttributeDiff) int { return strings.Compare(a.Path, b.Path) })
	return c.out, nil
}

// Has reports whether one of the diffs lies at or below a schema path (see [api.SchemaPath]).
func Has(diffs []api.AttributeDiff, schemaPath string) bool {
	return slices.ContainsFunc(diffs, func(d api.AttributeDiff) bool { return under(api.SchemaPath(d.Path), schemaPath) })
}

// Replaces returns the paths of the attributes that force a replacement.
func Replaces(diffs []api.AttributeDiff) []string {
	var out []string
	for _, d := range diffs {
		if d.Effect == api.EffectReplace {
			out = append(out, d.Path)
		}
	}
	return out
}

func tree(o *api.Object) (any, error) {
	if o == nil {
		return nil, nil
	}
	v, err := decode(o.Value)
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", o.Address, err)
	}
	if m, ok := v.(map[string]any); ok {
		delete(m, "status") // hosts say what is; the configuration has no say in it
	}
	dropUnset(o.Address.Kind, "", v)
	return v, nil
}

// unset are fields that Go's JSON writes although nobody set them, because their types are structs, with what it
// writes then. Nobody means these values.
var unset = map[string]any{
	api.KindService + " spec.ports.targetPort": json.Number("0"),
	api.KindVolume + " spec.capacity":          "0",
}

func dropUnset(kind, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			at := strings.TrimPrefix(path+"."+k, ".")
			if zero, ok := unset[kind+" "+at]; ok && e == zero {
				delete(v, k)
				continue
			}
			dropUnset(kind, at, e)
		}
	case []any:
		for _, e := range v {
			dropUnset(kind, path, e)
		}
	}
}

func decode(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var out any
	return out, d.Decode(&out)
}

func kindOf(objects ...*api.Object) string {
	for _, o := range objects {
		if o != nil {
			return o.Address.Kind
		}
	}
	return ""
}

// sensitive returns the paths never to be shown: those that the object names, and all content of secrets.
func sensitive(o *api.Object) []string {
	if o == nil {
		return nil
	}
	if o.Address.Kind == api.KindSecret {
		return append(slices.Clone(o.Sensitive), "data", "stringData")
	}
	return o.Sensitive
}

type comparison struct {
	kind      string
	sensitive []string
	out       []api.AttributeDiff
}

// walk compares two decoded values at a path and descends to the leaves of whatever is not equal.
func (c *comparison) walk(path string, old, now any) {
	if isEmpty(old) && isEmpty(now) && (old == nil || now == nil) {
		return // an empty block that came or went says nothing
	}
	om, oIsMap := old.(map[string]any)
	nm, nIsMap := now.(map[string]any)
	if (oIsMap || old == nil) && (nIsMap || now == nil) && len(om)+len(nm) > 0 {
		c.walkMap(path, om, nm)
		return
	}
	ol, oIsList := old.([]any)
	nl, nIsList := now.([]any)
	if (oIsList || old == nil) && (nIsList || now == nil) && len(ol)+len(nl) > 0 {
		c.walkList(path, ol, nl)
		return
	}
	if !equalLeaf(path, old, now) {
		c.add(path, old, now)
	}
}

func (c *comparison) walkMap(path string, old, now map[string]any) {
	for _, k := range keys(old, now) {
		c.walk(join(path, k), old[k], now[k])
	}
}

func (c *comparison) walkList(path string, old, now []any) {
	if scalars(old) && scalars(now) { // a list of words is one value
		if !bytes.Equal(raw(old), raw(now)) {
			c.add(path, orNil(old), orNil(now))
		}
		return
	}
	oldKeys, ok1 := listKeys(old)
	nowKeys, ok2 := listKeys(now)
	if !ok1 || !ok2 {
		for i := range max(len(old), len(now)) {
			c.walk(path+"["+strconv.Itoa(i)+"]", at(old, i), at(now, i))
		}
		return
	}
	om, nm := byKey(oldKeys, old), byKey(nowKeys, now)
	for _, k := range keys(om, nm) {
		c.walk(path+"["+k+"]", om[k], nm[k])
	}
	if before, after := both(oldKeys, nm), both(nowKeys, om); !slices.Equal(before, after) {
		c.add(path, before, after) // the same elements in another order
	}
}

func (c *comparison) add(path string, old, now any) {
	d := api.AttributeDiff{Path: path, Before: raw(old), After: raw(now), Effect: api.EffectUpdate}
	if f, ok := api.FieldOf(c.kind, api.SchemaPath(path)); ok && f.Effect != "" {
		d.Effect = f.Effect
	}
	for _, s := range c.sensitive {
		if under(path, s) || under(s, path) {
			d.Sensitive = true
			d.Before, d.After = redact(d.Before), redact(d.After)
		}
	}
	c.out = append(c.out, d)
}

func raw(v any) api.RawJSON {
	if v == nil {
		return nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("diff: decoded JSON does not encode: " + err.Error()) // it was JSON a moment ago: cannot happen
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

func redact(v api.RawJSON) api.RawJSON {
	if v == nil {
		return nil
	}
	return api.RawJSON("null")
}

// under reports whether path is base or lies below it.
func under(path, base string) bool {
	rest, ok := strings.CutPrefix(path, base)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// quantities names the fields whose value, or whose map's values, are quantities: equal by amount, not by spelling.
var quantities = map[string]bool{
	"limits": true, "requests": true, "capacity": true, "sizeLimit": true, "divisor": true, "overhead": true, "reserved": true,
}

func equalLeaf(path string, old, now any) bool {
	a, ok1 := old.(string)
	b, ok2 := now.(string)
	if !ok1 || !ok2 {
		return bytes.Equal(raw(old), raw(now))
	}
	if a == b {
		return true
	}
	if !isQuantity(path) {
		return false
	}
	x, err1 := resource.ParseQuantity(a)
	y, err2 := resource.ParseQuantity(b)
	return err1 == nil && err2 == nil && x.Cmp(y) == 0
}

func isQuantity(path string) bool {
	segments := strings.Split(api.SchemaPath(path), ".")
	n := len(segments)
	return quantities[segments[n-1]] || n > 1 && quantities[segments[n-2]]
}

func scalars(list []any) bool {
	return !slices.ContainsFunc(list, func(e any) bool {
		switch e.(type) {
		case map[string]any, []any:
			return true
		}
		return false
	})
}

// orNil makes a list that is not there nil: raw tells it from an empty one.
func orNil(list []any) any {
	if list == nil {
		return nil
	}
	return list
}

// listKeys returns the names of a list's elements when every one is a block with a name of its own.
func listKeys(list []any) ([]string, bool) {
	seen := map[string]bool{}
	var out []string
	for _, e := range list {
		m, _ := e.(map[string]any)
		name, _ := m["name"].(string)
		if meta, ok := m["metadata"].(map[string]any); ok && name == "" { // a template of objects, as of claims
			name, _ = meta["name"].(string)
		}
		if name == "" || seen[name] {
			return nil, false
		}
		seen[name] = true
		out = append(out, name)
	}
	return out, true
}

func byKey(keys []string, list []any) map[string]any {
	out := make(map[string]any, len(list))
	for i, k := range keys {
		out[k] = list[i]
	}
	return out
}

// both returns the keys that other has too, in their order.
func both(keys []string, other map[string]any) []string {
	var out []string
	for _, k := range keys {
		if _, ok := other[k]; ok {
			out = append(out, k)
		}
	}
	return out
}

func keys(a, b map[string]any) []string {
	all := slices.Collect(maps.Keys(a))
	for k := range b {
		if _, ok := a[k]; !ok {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, cmp.Compare[string])
	return all
}

func at(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return !slices.ContainsFunc(slices.Collect(maps.Values(v)), func(e any) bool { return !isEmpty(e) })
	case []any:
		return len(v) == 0
	}
	return false
}

// join appends a key to a path: plain names with a dot, others quoted in brackets.
func join(path, key string) string {
	if !plain(path, key) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// mapFields are the fields whose keys are the user's: always quoted (see api/path.go).
var mapFields = map[string]bool{
	"labels": true, "annotations": true, "data": true, "stringData": true, "binaryData": true, "nodeSelector": true,
	"matchLabels": true, "selector": true, "limits": true, "requests": true, "reserved": true, "env": true,
}

func plain(path, key string) bool {
	last := path[strings.LastIndexByte(path, '.')+1:]
	if mapFields[last] && key != "matchLabels" && key != "matchExpressions" {
		return false
	}
	return key != "" && !strings.ContainsAny(key, `.[]"/ `)
}
