package hcl

import (
	"strconv"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/functions"
)

// repetition says how many objects a block makes.
type repetition int

const (
	single  repetition = iota
	counted            // count = n: [0], [1], …
	keyed              // for_each = …: ["a"], ["b"], …
)

// instance is one object that a block makes: its key, and the variables that only it sees.
type instance struct {
	key  string // in addresses: `["eu"]`, `[0]`, or "" of a single one
	name string // "eu", "0" or ""
	vars map[string]cty.Value
}

// meta is what every block of objects and nodes can have beside what its kind has.
type meta struct {
	count, forEach, dependsOn *hcl2.Attribute
	onConfigChange, atMostOne *hcl2.Attribute // of workloads
	lifecycle                 *hcl2.Block
	rest                      hcl2.Body // what the kind has
}

// readMeta takes the meta-arguments out of a body.
func readMeta(body hcl2.Body) (meta, hcl2.Diagnostics) {
	content, rest, diags := body.PartialContent(&hcl2.BodySchema{
		Attributes: []hcl2.AttributeSchema{{Name: "count"}, {Name: "for_each"}, {Name: "depends_on"}, {Name: onConfigChange}, {Name: atMostOne}},
		Blocks:     []hcl2.BlockHeaderSchema{{Type: "lifecycle"}},
	})
	m := meta{
		count: content.Attributes["count"], forEach: content.Attributes["for_each"], dependsOn: content.Attributes["depends_on"],
		onConfigChange: content.Attributes[onConfigChange], atMostOne: content.Attributes[atMostOne], rest: rest,
	}
	for i, b := range content.Blocks {
		if i > 0 {
			diags = append(diags, duplicateSetting("lifecycle block", b.DefRange, m.lifecycle.DefRange))
			continue
		}
		m.lifecycle = b
	}
	if m.count != nil && m.forEach != nil {
		diags = append(diags, errorAt(m.forEach.NameRange, `Invalid combination of "count" and "for_each"`,
			`A block can have count or for_each, not both: each of them says which objects the block makes.`))
		m.forEach = nil
	}
	return m, diags
}

func (m meta) repetition() repetition {
	switch {
	case m.count != nil:
		return counted
	case m.forEach != nil:
		return keyed
	}
	return single
}

// traversals is what the meta-arguments refer to, depends_on apart.
func (m meta) traversals() []hcl2.Traversal {
	var out []hcl2.Traversal
	for _, attr := range []*hcl2.Attribute{m.count, m.forEach, m.onConfigChange, m.atMostOne} {
		if attr != nil {
			out = append(out, attr.Expr.Variables()...)
		}
	}
	if m.lifecycle != nil {
		content, _, _ := m.lifecycle.Body.PartialContent(lifecycleSchema()) // errors are reported when the block is read
		for _, attr := range content.Attributes {
			out = append(out, attr.Expr.Variables()...)
		}
	}
	return out
}

// instances evaluates count or for_each, once for the block. It returns none when that fails.
func (m meta) instances(ctx *hcl2.EvalContext) ([]instance, hcl2.Diagnostics) {
	switch m.repetition() {
	case counted:
		return countInstances(m.count, ctx)
	case keyed:
		return eachInstances(m.forEach, ctx)
	}
	return []instance{{}}, nil
}

// refuseForNodes reports what has no meaning for a node.
func (m meta) refuseForNodes(d *declaration) hcl2.Diagnostics {
	var diags hcl2.Diagnostics
	refuse := func(r hcl2.Range, name string) {
		diags = append(diags, errorAt(r, "Unsupported argument", "Node %q: a node is no object that is made or destroyed, so it has no %s.", d.name, name))
	}
	if m.dependsOn != nil {
		refuse(m.dependsOn.NameRange, "depends_on")
	}
	if m.onConfigChange != nil {
		refuse(m.onConfigChange.NameRange, onConfigChange)
	}
	if m.atMostOne != nil {
		refuse(m.atMostOne.NameRange, atMostOne)
	}
	if m.lifecycle != nil {
		refuse(m.lifecycle.DefRange, "lifecycle")
	}
	return diags
}

// maxInstances bounds a block: more is a mistake, and would exhaust the memory before anybody saw it.
const maxInstances = 100_000

func countInstances(attr *hcl2.Attribute, ctx *hcl2.EvalContext) ([]instance, hcl2.Diagnostics) {
	v, diags := plain(attr, ctx, cty.Number)
	if diags.HasErrors() || v.IsNull() {
		if !diags.HasErrors() && isNull(attr, ctx) {
			diags = append(diags, errorAt(attr.Expr.Range(), "Invalid count argument", "The count is null. Give a number; 0 makes no object."))
		}
		return nil, diags
	}
	n, accuracy := v.AsBigFloat().Int64()
	if accuracy != 0 || n < 0 || n > maxInstances {
		return nil, append(diags, errorAt(attr.Expr.Range(), "Invalid count argument",
			"The count is %s. It must be a whole number from 0 to %d.", v.AsBigFloat().Text('g', 10), maxInstances))
	}
	out := make([]instance, n)
	for i := range out {
		s := strconv.Itoa(i)
		out[i] = instance{"[" + s + "]", s, map[string]cty.Value{"count": cty.ObjectVal(map[string]cty.Value{"index": cty.NumberIntVal(int64(i))})}}
	}
	return out, diags
}

// isNull tells null from the unknown value of an error that is reported elsewhere.
func isNull(attr *hcl2.Attribute, ctx *hcl2.EvalContext) bool {
	v, _ := attr.Expr.Value(ctx)
	v, _ = v.Unmark()
	return v.IsKnown() && v.IsNull()
}

func eachInstances(attr *hcl2.Attribute, ctx *hcl2.EvalContext) ([]instance, hcl2.Diagnostics) {
	v, diags := attr.Expr.Value(ctx)
	if diags.HasErrors() {
		return nil, diags
	}
	invalid := func(format string, args ...any) ([]instance, hcl2.Diagnostics) {
		return nil, append(diags, errorAt(attr.Expr.Range(), "Invalid for_each argument", format, args...))
	}
	if v.HasMark(functions.Sensitive) {
		return invalid("The value is sensitive, and its keys would be part of addresses, which are shown. Use nonsensitive() if the keys may be shown.")
	}
	v, _ = v.Unmark()
	t := v.Type()
	switch {
	case !v.IsKnown():
		return nil, diags // an error that is reported elsewhere
	case v.IsNull():
		return invalid("The value is null. Give a map, or a set of strings; an empty one makes no object.")
	case t.IsMapType(), t.IsObjectType():
	case t.IsSetType() && (t.ElementType() == cty.String || v.LengthInt() == 0):
	case t.IsListType(), t.IsTupleType(), t.IsSetType():
		return invalid("The value is a %s, but it must be a map or a set of strings. Use toset([…]) for a list of strings that are all different, or a for expression that makes a map.", t.FriendlyName())
	default:
		return invalid("The value is a %s, but it must be a map or a set of strings.", t.FriendlyName())
	}
	var out []instance
	for k, elem := range v.Elements() {
		if !k.IsKnown() {
			return nil, diags
		}
		if k.IsNull() {
			return invalid("A set for for_each cannot hold null.")
		}
		s := k.AsString()
		out = append(out, instance{"[" + strconv.Quote(s) + "]", s, map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": k, "value": elem})}})
	}
	return out, diags
}

// context makes the scope of one instance from that of its block.
func (i instance) context(base *hcl2.EvalContext) *hcl2.EvalContext {
	if i.vars == nil {
		return base
	}
	ctx := base.NewChild()
	ctx.Variables = i.vars
	return ctx
}

// objectName is the name of an instance when its block sets none: the label, with the key made fit for a name.
func (i instance) objectName(label string) string {
	if i.key == "" {
		return label
	}
	var b strings.Builder
	for _, r := range strings.ToLower(i.name) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	if suffix := strings.Trim(b.String(), "-"); suffix != "" {
		return label + "-" + suffix
	}
	return label
}

// lifecycleRefusals are the other arguments of Terraform's lifecycle blocks.
var lifecycleRefusals = map[string]string{
	"create_before_destroy": "The strategy of a workload says in which order its pods are replaced.",
	"ignore_changes":        "Ignoring changes is not supported yet. " + later,
	"replace_triggered_by":  "Replacing by triggers is not supported yet. " + later,
	"precondition":          "Preconditions are not supported yet. " + later,
	"postcondition":         "Postconditions are not supported yet. " + later,
	"enabled":               "Use count: count = var.enabled ? 1 : 0.",
	"destroy":               "Keeping what is destroyed is not supported.",
}

func lifecycleSchema() *hcl2.BodySchema {
	return &hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{{Name: "prevent_destroy"}, {Name: "wait"}}}
}

// lifecycleOf reads the lifecycle block: whether the object is protected, and whether apply goes on without waiting for a job.
func (m meta) lifecycleOf(kind string, ctx *hcl2.EvalContext) (protect, noWait bool, diags hcl2.Diagnostics) {
	if m.lifecycle == nil {
		return false, false, nil
	}
	content, diags := contentWithout(m.lifecycle.Body, lifecycleSchema(), lifecycleRefusals)
	if attr, ok := content.Attributes["prevent_destroy"]; ok {
		v, more := boolOf(attr, ctx)
		protect, diags = v, append(diags, more...)
	}
	if attr, ok := content.Attributes["wait"]; ok {
		v, more := boolOf(attr, ctx)
		if noWait, diags = !v && !more.HasErrors(), append(diags, more...); kind != api.KindJob {
			diags = append(diags, errorAt(attr.NameRange, "Unsupported argument", "Only jobs have an end that apply could wait for: wait belongs in the lifecycle of a workload \"job\"."))
		}
	}
	return protect, noWait, diags
}

// hasDynamic reports whether blocks of a body are made by dynamic blocks. JSON does not tell, so there it may be.
func hasDynamic(body hcl2.Body) bool {
	native, ok := body.(*hclsyntax.Body)
	if !ok {
		return true
	}
	for _, b := range native.Blocks {
		if b.Type == "dynamic" || hasDynamic(b.Body) {
			return true
		}
	}
	return false
}
