package hcl

import (
	"fmt"
	"maps"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/gocty"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/schema"
)

// nodeSpec is the content of a node block.
func nodeSpec() hcldec.ObjectSpec {
	text := cty.String
	spec := hcldec.ObjectSpec{
		"labels":      &hcldec.AttrSpec{Name: "labels", Type: cty.Map(text)},
		"annotations": &hcldec.AttrSpec{Name: "annotations", Type: cty.Map(text)},
		"taint": &hcldec.BlockListSpec{TypeName: "taint", Nested: hcldec.ObjectSpec{
			"key":    &hcldec.BlockLabelSpec{Index: 0, Name: "key"},
			"value":  &hcldec.AttrSpec{Name: "value", Type: text},
			"effect": &hcldec.AttrSpec{Name: "effect", Type: text, Required: true},
		}},
		"unschedulable": &hcldec.AttrSpec{Name: "unschedulable", Type: cty.Bool},
		"reserved":      &hcldec.BlockSpec{TypeName: "reserved", Nested: attrs(text, "cpu", "memory", "ephemeral_storage")},
		"resource":      resourceSpec(),
		"ssh":           &hcldec.BlockSpec{TypeName: "ssh", Nested: sshSpec()},
		"fence":         &hcldec.BlockSpec{TypeName: "fence", Nested: fenceSpec()},
	}
	maps.Copy(spec, attrs(text, "name", "address"))
	return spec
}

func sshSpec() hcldec.ObjectSpec {
	spec := attrs(cty.String, "user", "identity_file", "known_hosts_file", "host_key", "proxy_jump", "become", "config_file")
	spec["port"] = &hcldec.AttrSpec{Name: "port", Type: cty.Number}
	return spec
}

func attrs(t cty.Type, names ...string) hcldec.ObjectSpec {
	spec := hcldec.ObjectSpec{}
	for _, n := range names {
		spec[n] = &hcldec.AttrSpec{Name: n, Type: t}
	}
	return spec
}

// addNodes makes the vertices of node blocks and inventories, and of all of them together.
func (e *evaluation) addNodes() hcl2.Diagnostics {
	var diags hcl2.Diagnostics
	inventory := map[string]hcl2.Range{}
	for i, d := range e.mod.inventories {
		x := e.graph.add(&vertex{id: fmt.Sprintf("inventory %d", i), label: fmt.Sprintf("inventory %q", d.name), place: d.place, block: d})
		diags = append(diags, e.addInventoryBlock(x)...)
		inventory[x.id] = hcl2.Range{}
	}
	e.graph.add(&vertex{id: idInventory, label: "the inventory", needs: inventory, run: nothing})
	all := map[string]hcl2.Range{idInventory: {}}
	for name, d := range e.mod.nodes {
		x := e.graph.add(&vertex{id: "node." + name, label: "node." + name, place: d.place, block: d})
		diags = append(diags, e.addNodeBlock(x)...)
		all[x.id] = hcl2.Range{}
	}
	e.graph.add(&vertex{id: idNodes, label: "the list of nodes", needs: all, run: nothing})
	return diags
}

func nothing(*vertex) (cty.Value, hcl2.Diagnostics) { return cty.DynamicVal, nil }

func (e *evaluation) addNodeBlock(x *vertex) hcl2.Diagnostics {
	m := x.block.meta
	x.run = func(x *vertex) (cty.Value, hcl2.Diagnostics) { return e.evaluateNode(x, m) }
	used := append(m.traversals(), dynblock.VariablesHCLDec(m.rest, nodeSpec())...)
	return e.graph.refer(e.mod, x, used, inInstances(m))
}

// evaluateNode makes the nodes of a block.
func (e *evaluation) evaluateNode(x *vertex, m meta) (cty.Value, hcl2.Diagnostics) {
	base := e.scope(x)
	instances, diags := m.instances(base)
	values := make([]cty.Value, len(instances))
	for i, inst := range instances {
		v, more := e.nodeInstance(x, m, inst, inst.context(base))
		values[i] = v
		diags = append(diags, more...)
	}
	if diags.HasErrors() || x.tainted {
		return cty.DynamicVal, diags
	}
	return gather(m.repetition(), instances, values), diags
}

// nodeInstance makes one node of a block and what references to it give.
func (e *evaluation) nodeInstance(x *vertex, m meta, inst instance, ctx *hcl2.EvalContext) (cty.Value, hcl2.Diagnostics) {
	body, spec := dynblock.Expand(m.rest, ctx), nodeSpec()
	v, diags := hcldec.Decode(body, spec, ctx)
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	if v.ContainsMarked() {
		return cty.DynamicVal, append(diags, errorAt(x.place, "Sensitive value not allowed",
			"The node %q has an attribute whose value is sensitive. What a node is called and how it is reached is shown in plans; use nonsensitive() if the value may be shown.", x.block.name))
	}
	if !v.IsWhollyKnown() {
		return cty.DynamicVal, diags
	}
	row, err := rowOf(v)
	if err != nil {
		return cty.DynamicVal, append(diags, errorAt(x.place, "Invalid node", "The node %q cannot be read: %s.", x.block.name, err))
	}
	if row.Name == "" {
		row.Name = inst.objectName(x.block.name)
	}
	node, problems := row.node(e.mod.abs, e.mod.abs)
	places := placesOf(m.rest, ctx)
	for _, p := range problems {
		r, ok := places[p.key]
		if !ok {
			r = x.place
		}
		if p.key == "name" && !ok {
			r = x.block.label
		}
		diags = append(diags, errorAt(r, p.summary, "%s", p.detail))
	}
	node.Range = schema.Range(x.place)
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	return nodeValue(node), append(diags, e.register(node, x.place)...)
}

// register adds a node to the configuration.
func (e *evaluation) register(n *api.Node, place hcl2.Range) hcl2.Diagnostics {
	if first, ok := e.nodes[n.Name]; ok {
		return hcl2.Diagnostics{errorAt(place, "Duplicate name", "There is already a node %q at %s. Give each a name of its own.", n.Name, first.Range)}
	}
	e.nodes[n.Name] = n
	e.nodeValues[n.Name] = nodeValue(n)
	e.config.Nodes = append(e.config.Nodes, n)
	return nil
}

// rowOf brings the value of a node block to the form that inventories have.
func rowOf(v cty.Value) (nodeRow, error) {
	row := nodeRow{Name: text(v, "name"), Address: text(v, "address"), Labels: texts(v, "labels"), Annotations: texts(v, "annotations")}
	if u := v.GetAttr("unschedulable"); !u.IsNull() {
		row.Unschedulable = u.True()
	}
	for _, t := range v.GetAttr("taint").Elements() {
		row.Taint = append(row.Taint, taintRow{text(t, "key"), text(t, "value"), text(t, "effect")})
	}
	if r := v.GetAttr("reserved"); !r.IsNull() {
		row.Reserved = reservedRow{text(r, "cpu"), text(r, "memory"), text(r, "ephemeral_storage")}
	}
	var err error
	if row.Resource, err = resourceRowsOf(v.GetAttr("resource")); err != nil {
		return row, err
	}
	if f := v.GetAttr("fence"); !f.IsNull() {
		fence, err := fenceRowOf(f)
		if err != nil {
			return row, err
		}
		row.Fence = fence
	}
	s := v.GetAttr("ssh")
	if s.IsNull() {
		return row, nil
	}
	row.SSH = sshRow{
		User: text(s, "user"), IdentityFile: text(s, "identity_file"), KnownHostsFile: text(s, "known_hosts_file"),
		HostKey: text(s, "host_key"), ProxyJump: text(s, "proxy_jump"), Become: text(s, "become"), ConfigFile: text(s, "config_file"),
	}
	if p := s.GetAttr("port"); !p.IsNull() {
		if err := gocty.FromCtyValue(p, &row.SSH.Port); err != nil {
			return row, fmt.Errorf("ssh.port: %w", err)
		}
	}
	return row, nil
}

func text(v cty.Value, name string) string {
	if a := v.GetAttr(name); !a.IsNull() {
		return a.AsString()
	}
	return ""
}

func texts(v cty.Value, name string) map[string]string {
	m := v.GetAttr(name)
	if m.IsNull() || m.LengthInt() == 0 {
		return nil
	}
	out := map[string]string{}
	for k, e := range m.Elements() {
		if !e.IsNull() {
			out[k.AsString()] = e.AsString()
		}
	}
	return out
}

// placesOf finds where the keys of a node block are written.
func placesOf(body hcl2.Body, ctx *hcl2.EvalContext) map[string]hcl2.Range {
	places := map[string]hcl2.Range{}
	content, _, _ := dynblock.Expand(body, ctx).PartialContent(hcldec.ImpliedSchema(nodeSpec()))
	for name, attr := range content.Attributes {
		places[name] = attr.Expr.Range()
	}
	for _, b := range content.Blocks {
		if _, ok := places[b.Type]; !ok {
			places[b.Type] = b.DefRange
		}
		attrs, _ := b.Body.JustAttributes()
		for name, attr := range attrs {
			places[b.Type+"."+name] = attr.Expr.Range()
		}
	}
	return places
}

// nodeValue is what a reference to a node gives.
func nodeValue(n *api.Node) cty.Value {
	s := n.SSH
	sshFields := map[string]cty.Value{"port": cty.NullVal(cty.Number)}
	if s.Port != 0 {
		sshFields["port"] = cty.NumberIntVal(int64(s.Port))
	}
	for name, v := range map[string]string{
		"user": s.User, "identity_file": s.IdentityFile, "known_hosts_file": s.KnownHostsFile, "host_key": s.HostKey,
		"proxy_jump": s.ProxyJump, "become": s.Become, "config_file": s.ConfigFile,
	} {
		sshFields[name] = textOrNull(v)
	}
	return cty.ObjectVal(map[string]cty.Value{
		"name": cty.StringVal(n.Name), "address": cty.StringVal(n.Address), "unschedulable": cty.BoolVal(n.Unschedulable),
		"labels": textMap(n.Labels), "annotations": textMap(n.Annotations), "ssh": cty.ObjectVal(sshFields),
	})
}

func textOrNull(s string) cty.Value {
	if s == "" {
		return cty.NullVal(cty.String)
	}
	return cty.StringVal(s)
}

func textMap(m map[string]string) cty.Value {
	if len(m) == 0 {
		return cty.MapValEmpty(cty.String)
	}
	out := make(map[string]cty.Value, len(m))
	for k, v := range m {
		out[k] = cty.StringVal(v)
	}
	return cty.MapVal(out)
}
