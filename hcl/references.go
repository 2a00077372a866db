package hcl

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"berth.dev/berth/api"
)

// reference is one mention of a block, or of each, count or path, in an expression.
type reference struct {
	target string     // the id of what is meant: "var.x", "deployment.web", "each", "path"
	root   string     // the first name as written
	place  hcl2.Range // the whole traversal
	rest   hcl2.Traversal
	key    hclsyntax.Expression // the key between brackets when it is no literal: service.web[each.key]
	kind   string               // of a workload
	name   string               // of the block

	linkOnly bool // of depends_on: nothing is read
}

// The ids of what is always there.
const (
	idEach    = "each"
	idCount   = "count"
	idPath    = "path"
	idCluster = "berth.cluster"
	idNodes   = "berth.nodes"

	idInventory = "inventory" // the nodes that no block declares
)

// rootHints says what to write for first names that Terraform's users or others may try.
func rootHints() map[string]string {
	hints := map[string]string{
		"module":    "Modules are not supported yet. " + later,
		"data":      "Data sources are not supported yet. " + later,
		"output":    "Outputs cannot be referred to: refer to what the output's value is made of, or make it a local value.",
		"self":      "There is no self here: refer to the block by its name.",
		"terraform": "Settings of Berth are under berth: berth.cluster.domain.",
		"resource":  "Objects are referred to by their kind: service.web, workload.deployment.web.",
		"locals":    "Local values are referred to in the singular: local.name.",
		"variable":  "Variables are referred to as var.name.",
		"inventory": "The nodes of an inventory are referred to by name: node.a1.",
	}
	for _, k := range api.Kinds {
		if k.Workload {
			hints[k.Name] = fmt.Sprintf("Workloads are referred to as workload.%s.name.", k.Name)
		}
	}
	return hints
}

// resolve finds what a traversal means. It returns nil and a diagnostic when that does not exist.
func (m *Module) resolve(t hcl2.Traversal) (*reference, *hcl2.Diagnostic) {
	root := t.RootName()
	ref := &reference{root: root, place: t.SourceRange()}
	switch root {
	case "each", "count", "path":
		ref.target, ref.rest = root, t[1:]
		return ref, nil
	case "berth":
		if name, ok := firstName(t); ok && (name == "cluster" || name == "nodes") {
			ref.target, ref.name, ref.rest = "berth."+name, name, t[2:]
			return ref, nil
		}
		return nil, errorAt(ref.place, "Invalid reference", "Of berth there are berth.cluster, with the attributes of the cluster block, and berth.nodes, all nodes by name.")
	case "var", "local":
		return m.resolveNamed(ref, t, 1, map[string]string{"var": "variable", "local": "local value"}[root])
	case "node":
		if len(t) == 1 {
			return nil, errorAt(ref.place, "Invalid reference", "After node must follow the name of a node: node.name. All nodes by name are berth.nodes.")
		}
		return m.resolveNamed(ref, t, 1, "node")
	case "workload":
		if len(t) > 1 {
			if name, ok := firstName(t); ok {
				if kind, ok := api.WorkloadKind(name); ok {
					return m.resolveNamed(ref, t, 2, kind.Name)
				}
			}
		}
		return nil, errorAt(ref.place, "Invalid reference", "A workload is referred to by its kind and name: workload.deployment.web. The kinds are %s.", list(workloadKinds()))
	}
	if k, ok := api.KindByName(root); ok && !k.Workload {
		return m.resolveNamed(ref, t, 1, root)
	}
	return nil, unknownRoot(t)
}

// resolveNamed resolves the name at a position of a traversal.
func (m *Module) resolveNamed(ref *reference, t hcl2.Traversal, position int, what string) (*reference, *hcl2.Diagnostic) {
	prefix := strings.Join(traversalNames(t[:position]), ".")
	if len(t) <= position {
		return nil, errorAt(ref.place, "Invalid reference", "After %s must follow the name of a %s: %s.name.", prefix, what, prefix)
	}
	name, ok := stepName(t[position])
	if !ok {
		return nil, errorAt(ref.place, "Invalid reference", "After %s must follow the name of a %s, with a dot before it: %s.name.", prefix, what, prefix)
	}
	group, names := m.named(ref.root, what)
	ref.target, ref.rest = group+"."+name, t[position+1:]
	ref.kind, ref.name = group, name
	if ref.root == "node" && !slices.Contains(names, name) && len(m.inventories) > 0 {
		return ref, nil // a name that no node block has may be in an inventory: that shows when it is read
	}
	if slices.Contains(names, name) {
		return ref, m.missingKey(ref)
	}
	hint := suggest(name, names, "Declared:")
	if len(names) == 0 {
		hint = "The configuration declares none."
	}
	return nil, errorAt(ref.place, "Reference to undeclared "+what, "There is no %s named %q. %s", what, name, hint)
}

// missingKey reports a reference to all objects of a block as if they were one.
func (m *Module) missingKey(ref *reference) *hcl2.Diagnostic {
	d := m.objects[ref.target]
	if ref.root == "node" {
		d = m.nodes[ref.name]
	}
	if d == nil || d.meta.repetition() == single || len(ref.rest) == 0 {
		return nil
	}
	name, ok := stepName(ref.rest[0])
	if !ok {
		return nil
	}
	prefix := strings.Join(ref.path(), ".")
	example, made, all := `["key"]`, "for_each", "values("+prefix+")[*]"
	if d.meta.repetition() == counted {
		example, made, all = "[0]", "count", prefix+"[*]"
	}
	return errorAt(ref.place, "Missing instance key", "%s has %s, so it stands for several objects. Name one of them, as in %s%s.%s, or take all: %s.%s.",
		prefix, made, prefix, example, name, all, name)
}

// named returns the group of ids of a kind of block, and the names that are declared.
func (m *Module) named(root, what string) (group string, names []string) {
	switch root {
	case "var":
		return root, slices.Collect(maps.Keys(m.variables))
	case "local":
		return root, slices.Collect(maps.Keys(m.locals))
	case "node":
		return root, slices.Collect(maps.Keys(m.nodes))
	}
	for _, d := range m.objects {
		if d.address.Kind == what {
			names = append(names, d.name)
		}
	}
	return what, names
}

func unknownRoot(t hcl2.Traversal) *hcl2.Diagnostic {
	root := t.RootName()
	if hint, ok := rootHints()[root]; ok {
		return errorAt(t.SourceRange(), "Invalid reference", "There is nothing to refer to as %q. %s", root, hint)
	}
	if len(t) == 1 {
		hint := ""
		if n := nearest(root, roots()); n != "" {
			hint = fmt.Sprintf(" Did you mean %q?", n)
		}
		return errorAt(t.SourceRange(), "Invalid reference", "There is nothing to refer to as %q. If you mean the text, write it in quotes: %q.%s", root, root, hint)
	}
	return errorAt(t.SourceRange(), "Invalid reference", "There is nothing to refer to as %q. %s", root, suggest(root, roots(), "References begin with"))
}

// roots are the first names of references.
func roots() []string {
	names := []string{"var", "local", "each", "count", "path", "berth", "node", "workload"}
	for _, k := range api.Kinds {
		if !k.Workload {
			names = append(names, k.Block)
		}
	}
	slices.Sort(names)
	return names
}

func workloadKinds() []string {
	var names []string
	for _, k := range api.Kinds {
		if k.Workload {
			names = append(names, k.Name)
		}
	}
	return names
}

// firstName is the name after the root of a traversal.
func firstName(t hcl2.Traversal) (string, bool) {
	if len(t) < 2 {
		return "", false
	}
	return stepName(t[1])
}

func stepName(step hcl2.Traverser) (string, bool) {
	attr, ok := step.(hcl2.TraverseAttr)
	return attr.Name, ok
}

func traversalNames(t hcl2.Traversal) []string {
	names := []string{t.RootName()}
	for _, step := range t[1:] {
		name, _ := stepName(step)
		names = append(names, name)
	}
	return names
}

// keyExpressions finds the references whose key is an expression, such as service.web[each.key], by the place of what
// stands before the bracket. Only native syntax shows them.
func keyExpressions(body hcl2.Body) map[hcl2.Range]hclsyntax.Expression {
	native, ok := body.(*hclsyntax.Body)
	if !ok {
		return nil
	}
	keys := map[hcl2.Range]hclsyntax.Expression{}
	_ = hclsyntax.VisitAll(native, func(n hclsyntax.Node) hcl2.Diagnostics {
		if ix, ok := n.(*hclsyntax.IndexExpr); ok {
			if t, ok := ix.Collection.(*hclsyntax.ScopeTraversalExpr); ok {
				keys[t.Traversal.SourceRange()] = ix.Key
			}
		}
		return nil
	})
	return keys
}
