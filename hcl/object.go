package hcl

import (
	"maps"
	"runtime"
	"slices"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/functions"
	"berth.dev/berth/hcl/schema"
)

// evaluated is what became of a block of objects: one object per instance, in the instances' order.
type evaluated struct {
	block     *declaration
	kind      api.Kind
	repeat    repetition
	instances []instance
	objects   []*api.Object
}

// addresses are those of all instances.
func (b *evaluated) addresses() []api.Address {
	out := make([]api.Address, len(b.objects))
	for i, o := range b.objects {
		out[i] = o.Address
	}
	return out
}

// address is that of one instance.
func (b *evaluated) address(key string) api.Address {
	a := b.block.address
	a.Key = key
	return a
}

// addObject makes the vertices of a block: one for its objects and, of a service, one for the addresses it gets.
func (e *evaluation) addObject(d *declaration) hcl2.Diagnostics {
	id := d.address.String()
	kind, _ := api.KindByName(d.address.Kind)
	m := d.meta
	label := id
	if kind.Workload {
		label = "workload." + id
	}
	x := e.graph.add(&vertex{id: id, label: label, place: d.place, block: d})
	switch kind.Name {
	case api.KindImage:
		x.class = imageClass
	case api.KindService:
		x.id += " (without addresses)"
		delete(e.graph.vertices, id)
		e.graph.add(x)
		e.graph.add(&vertex{id: id, label: label, place: d.place, block: d, class: allocationClass,
			needs: map[string]hcl2.Range{x.id: {}, idCluster: {}}})
	}
	x.run = func(x *vertex) (cty.Value, hcl2.Diagnostics) { return e.evaluateObject(x, kind, m) }
	used := append(m.traversals(), schema.For(kind.Name).Variables(m.rest)...)
	diags := e.graph.refer(e.mod, x, used, inInstances(m))
	x.findKeys(d.body)
	diags = append(diags, m.refuseConfigChange(kind)...)
	diags = append(diags, m.refuseAtMostOne(kind)...)
	if m.dependsOn != nil {
		diags = append(diags, e.referDependencies(x, m.dependsOn)...)
	}
	return diags
}

// inInstances refuses each without for_each and count without count.
func inInstances(m meta) func(*reference) *hcl2.Diagnostic {
	return func(ref *reference) *hcl2.Diagnostic {
		if ref.target == idEach && m.forEach != nil || ref.target == idCount && m.count != nil {
			return nil
		}
		return noInstance(ref)
	}
}

// referDependencies resolves depends_on: a list of references to objects.
func (e *evaluation) referDependencies(x *vertex, attr *hcl2.Attribute) hcl2.Diagnostics {
	exprs, diags := hcl2.ExprList(attr.Expr)
	if diags.HasErrors() {
		return diags
	}
	for _, expr := range exprs {
		t, more := hcl2.AbsTraversalForExpr(expr)
		diags = append(diags, more...)
		if more.HasErrors() {
			continue
		}
		ref, d := e.mod.resolve(t)
		if d == nil && e.mod.objects[ref.target] == nil {
			d = errorAt(ref.place, "Invalid depends_on", "Only objects can be waited for: workload.deployment.db, volume.data and the like.")
		}
		if d != nil {
			diags = append(diags, d)
			continue
		}
		ref.linkOnly = true
		x.refs = append(x.refs, ref)
	}
	return diags
}

// evaluateObject makes the objects of a block and what references to it give.
func (e *evaluation) evaluateObject(x *vertex, kind api.Kind, m meta) (cty.Value, hcl2.Diagnostics) {
	base := e.scope(x)
	b := &evaluated{block: x.block, kind: kind, repeat: m.repetition()}
	e.blocks[x.block.address.String()] = b
	instances, diags := m.instances(base)
	b.instances = instances
	objects, more := e.decodeAll(x, b, m)
	diags = append(diags, more...)
	b.objects = objects
	if diags.HasErrors() || x.tainted {
		return cty.DynamicVal, diags
	}
	valid := true
	for _, o := range objects {
		problems := schema.Validate(o)
		e.found = append(e.found, problems...)
		valid = valid && !problems.HasErrors()
	}
	if !valid {
		x.failed = true
		return cty.DynamicVal, diags
	}
	if kind.Name == api.KindService || kind.Name == api.KindImage {
		return cty.DynamicVal, diags // its value is not complete yet
	}
	return e.blockValue(x, b), diags
}

// decodeAll decodes the instances of a block, many of them in parallel. They come back complete or not at all.
func (e *evaluation) decodeAll(x *vertex, b *evaluated, m meta) ([]*api.Object, hcl2.Diagnostics) {
	n := len(b.instances)
	objects, found := make([]*api.Object, n), make([]hcl2.Diagnostics, n)
	dynamic := hasDynamic(x.block.body)
	one := func(i int) {
		objects[i], found[i] = e.decode(x, b, m, i, dynamic)
		if maps.Equal(objects[i].Ranges, objects[0].Ranges) {
			objects[i].Ranges = objects[0].Ranges // one map for ten thousand instances
		}
	}
	if n > 0 {
		one(0)
	}
	var group errgroup.Group
	chunk := max(32, n/runtime.GOMAXPROCS(0)+1)
	for start := 1; start < n; start += chunk {
		group.Go(func() error {
			for i := start; i < min(start+chunk, n); i++ {
				one(i)
			}
			return nil
		})
	}
	_ = group.Wait() // nothing in the group returns an error
	return objects, slices.Concat(found...)
}

// decode makes the object of one instance.
func (e *evaluation) decode(x *vertex, b *evaluated, m meta, i int, dynamic bool) (*api.Object, hcl2.Diagnostics) {
	inst := b.instances[i]
	ctx := inst.context(x.scope)
	body := m.rest
	if dynamic {
		body = dynblock.Expand(body, ctx)
	}
	value, ranges, sensitive, diags := schema.For(b.kind.Name).Decode(body, ctx, schema.Options{
		Name: inst.objectName(x.block.name), NameRange: x.block.label,
	})
	if x.tainted {
		diags = slices.DeleteFunc(diags, func(d *hcl2.Diagnostic) bool { return d.Summary == "Unknown value" })
	}
	diags = append(diags, refuseSensitive(value, sensitive, ranges)...)
	protect, noWait, more := m.lifecycleOf(b.kind.Name, ctx)
	diags = append(diags, more...)
	change, more := m.configChange(ctx)
	diags = append(diags, more...)
	one, more := m.onlyOne(value, ctx)
	diags = append(diags, more...)
	if m.atMostOne != nil {
		ranges[atMostOne] = schema.Range(m.atMostOne.NameRange)
	}
	if m.onConfigChange != nil {
		ranges[onConfigChange] = schema.Range(m.onConfigChange.NameRange)
	}
	return &api.Object{
		Address: b.address(inst.key), Value: value,
		DependsOn: e.linksOf(x, ctx), Sensitive: sensitive, PreventDestroy: protect, NoWait: noWait, OnConfigChange: change, AtMostOne: one,
		Range: schema.Range(x.block.place), Ranges: ranges,
	}, diags
}

// refuseSensitive reports names and labels made of sensitive values: addresses, hosts and plans show them.
func refuseSensitive(o api.Value, sensitive []string, ranges map[string]api.Range) hcl2.Diagnostics {
	var diags hcl2.Diagnostics
	for _, path := range sensitive {
		for _, shown := range []string{"metadata.", "spec.selector", "spec.template.metadata.", "spec.jobTemplate.metadata.", "spec.jobTemplate.spec.template.metadata."} {
			if strings.HasPrefix(path, shown) {
				diags = append(diags, errorAt(hclRange((&api.Object{Value: o, Ranges: ranges}).RangeOf(path)), "Sensitive value not allowed",
					"Names, labels, annotations and selectors are shown in plans and on the hosts, so they cannot be sensitive. Use nonsensitive() if this may be shown."))
			}
		}
	}
	return diags
}

// blockValue is what references to a block give: an object, a tuple of them or an object of them by key.
func (e *evaluation) blockValue(x *vertex, b *evaluated) cty.Value {
	if !x.needed {
		return cty.DynamicVal
	}
	values := make([]cty.Value, len(b.objects))
	for i, o := range b.objects {
		values[i] = objectValue(o)
	}
	return gather(b.repeat, b.instances, values)
}

// gather makes one value of those of all instances: the one itself, a tuple, or an object by key.
func gather(repeat repetition, instances []instance, values []cty.Value) cty.Value {
	switch repeat {
	case counted:
		return cty.TupleVal(values)
	case keyed:
		byKey := make(map[string]cty.Value, len(values))
		for i, v := range values {
			byKey[instances[i].name] = v
		}
		return cty.ObjectVal(byKey)
	}
	return values[0]
}

// objectValue is what a reference to one object gives: its attributes by their names in the language, and what was chosen for it:
// the reference of an image, the node port of a service (of its first port that has one). What must not be shown is marked.
func objectValue(o *api.Object) cty.Value {
	v := schema.For(o.Address.Kind).Encode(o.Value, o.Sensitive, functions.Sensitive)
	extra := map[string]cty.Value{}
	switch value := o.Value.(type) {
	case *api.Image:
		extra["ref"] = cty.StringVal(value.Ref)
	case *corev1.Service:
		extra["node_port"] = cty.NullVal(cty.Number)
		for _, p := range value.Spec.Ports {
			if p.NodePort != 0 {
				extra["node_port"] = cty.NumberIntVal(int64(p.NodePort))
				break
			}
		}
	default:
		return v
	}
	attributes := v.AsValueMap()
	maps.Copy(attributes, extra)
	return cty.ObjectVal(attributes)
}
