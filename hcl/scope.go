package hcl

import (
	"maps"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"berth.dev/berth/api"
)

// tree is the names of a scope before they become objects of cty: leaves are values, the rest trees.
type tree map[string]any

func (t tree) put(value cty.Value, path ...string) {
	for _, name := range path[:len(path)-1] {
		inner, ok := t[name].(tree)
		if !ok {
			inner = tree{}
			t[name] = inner
		}
		t = inner
	}
	last := path[len(path)-1]
	if _, ok := t[last].(tree); !ok {
		t[last] = value
	}
}

func (t tree) values() map[string]cty.Value {
	out := make(map[string]cty.Value, len(t))
	for name, v := range t {
		switch v := v.(type) {
		case tree:
			out[name] = cty.ObjectVal(v.values())
		case cty.Value:
			out[name] = v
		}
	}
	return out
}

// scope makes the context that a vertex is evaluated in: what it refers to, the path and the functions. References that
// do not exist are there with unknown values, so that they are reported once.
func (e *evaluation) scope(x *vertex) *hcl2.EvalContext {
	if x.scope != nil {
		return x.scope
	}
	names := tree{"path": e.path}
	for _, ref := range x.refs {
		if ref.linkOnly {
			continue
		}
		switch v := e.graph.vertices[ref.target]; {
		case ref.target == idEach, ref.target == idCount, ref.target == idPath:
		case ref.target == idNodes:
			names.put(cty.ObjectVal(e.nodeValues), "berth", "nodes")
		case ref.root == "node" && v == nil:
			names.put(e.inventoryNode(x, ref), "node", ref.name)
		default:
			names.put(v.value, ref.path()...)
		}
	}
	for _, t := range x.wrong {
		names.put(cty.DynamicVal, placeholder(t)...)
	}
	x.scope = &hcl2.EvalContext{Variables: names.values(), Functions: e.functions}
	return x.scope
}

// path is where the value of what a reference means stands in a scope.
func (r *reference) path() []string {
	switch r.root {
	case "workload":
		return []string{"workload", r.kind, r.name}
	}
	return []string{r.root, r.name}
}

// placeholder is the part of a wrong traversal that names a block.
func placeholder(t hcl2.Traversal) []string {
	depth := 1
	if _, ok := api.KindByName(t.RootName()); ok {
		depth = 2
	}
	switch t.RootName() {
	case "var", "local", "node", "berth":
		depth = 2
	case "workload":
		depth = 3
	}
	path := []string{t.RootName()}
	for _, step := range t[1:] {
		name, ok := stepName(step)
		if !ok || len(path) == depth {
			break
		}
		path = append(path, name)
	}
	return path
}

// addTo puts one more name into a context that is nobody else's yet.
func addTo(ctx *hcl2.EvalContext, root, name string, value cty.Value) {
	inner := map[string]cty.Value{}
	if v, ok := ctx.Variables[root]; ok && v.Type().IsObjectType() {
		maps.Copy(inner, v.AsValueMap())
	}
	inner[name] = value
	ctx.Variables[root] = cty.ObjectVal(inner)
}
