package hcl

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"berth.dev/berth/api"
)

// vertex is one thing to evaluate: a variable, a local value, all instances of a block.
type vertex struct {
	id    string
	label string     // for people: "workload.deployment.web"
	place hcl2.Range // where it is declared
	class class
	block *declaration // of nodes, inventories and objects

	refs   []*reference
	wrong  []hcl2.Traversal      // references to what does not exist; their values are unknown
	needs  map[string]hcl2.Range // ids of what it waits for, with where it refers to them
	needed bool                  // something refers to its value

	run func(*vertex) (cty.Value, hcl2.Diagnostics)

	scope   *hcl2.EvalContext
	tainted bool          // something that it refers to is wrong or failed: unknown values in it are reported already
	failed  bool          // it has errors or is tainted
	value   cty.Value     // what references to it give
	links   []api.Address // of values: objects that they are made of
}

// class puts off vertices that are better done together: see order.
type class int

const (
	plainClass      class = iota
	imageClass            // builds run in parallel
	allocationClass       // explicit addresses are given out before chosen ones
	classes
)

// graph holds all vertices by id.
type graph struct {
	vertices map[string]*vertex
}

func (g *graph) add(v *vertex) *vertex {
	if v.needs == nil {
		v.needs = map[string]hcl2.Range{}
	}
	g.vertices[v.id] = v
	return v
}

// refer records what a vertex mentions, and reports what does not exist.
func (g *graph) refer(m *Module, v *vertex, traversals []hcl2.Traversal, allowed func(*reference) *hcl2.Diagnostic) hcl2.Diagnostics {
	var diags hcl2.Diagnostics
	for _, t := range traversals {
		ref, d := m.resolve(t)
		if d == nil {
			d = allowed(ref)
		}
		if d != nil {
			v.wrong = append(v.wrong, t)
			diags = append(diags, d)
			continue
		}
		v.refs = append(v.refs, ref)
	}
	return diags
}

// connect turns references into edges.
func (g *graph) connect() {
	for _, v := range g.sorted() {
		for _, ref := range v.refs {
			for _, id := range g.targets(ref) {
				if _, ok := v.needs[id]; !ok {
					v.needs[id] = ref.place
				}
				if !ref.linkOnly {
					g.vertices[id].needed = true
				}
			}
		}
	}
}

// targets are the vertices that a reference waits for. A node that has no block is in an inventory, whichever.
func (g *graph) targets(ref *reference) []string {
	switch {
	case ref.target == idEach, ref.target == idCount, ref.target == idPath:
		return nil
	case g.vertices[ref.target] != nil:
		return []string{ref.target}
	}
	return []string{idInventory}
}

func (g *graph) sorted() []*vertex {
	out := make([]*vertex, 0, len(g.vertices))
	for _, id := range slices.Sorted(maps.Keys(g.vertices)) {
		out = append(out, g.vertices[id])
	}
	return out
}

// walk visits every vertex after those that it needs, by id among those that are ready. Images and allocations wait
// until nothing else is ready; then visit gets all of them that are, at once. It returns false when a
// cycle keeps vertices from being visited.
func (g *graph) walk(visit func([]*vertex)) bool {
	waiting := map[string]int{}
	users := map[string][]*vertex{}
	var ready [classes][]*vertex
	for _, v := range g.sorted() {
		waiting[v.id] = len(v.needs)
		for id := range v.needs {
			users[id] = append(users[id], v)
		}
		if len(v.needs) == 0 {
			ready[v.class] = append(ready[v.class], v)
		}
	}
	visited := 0
	for {
		batch := takeReady(&ready)
		if len(batch) == 0 {
			return visited == len(g.vertices)
		}
		visit(batch)
		visited += len(batch)
		for _, done := range batch {
			for _, u := range users[done.id] {
				if waiting[u.id]--; waiting[u.id] == 0 {
					at, _ := slices.BinarySearchFunc(ready[u.class], u, byID)
					ready[u.class] = slices.Insert(ready[u.class], at, u)
				}
			}
		}
	}
}

func byID(a, b *vertex) int { return strings.Compare(a.id, b.id) }

// takeReady takes one plain vertex, or all of the next class.
func takeReady(ready *[classes][]*vertex) []*vertex {
	if plain := ready[plainClass]; len(plain) > 0 {
		ready[plainClass] = plain[1:]
		return plain[:1]
	}
	for c := plainClass + 1; c < classes; c++ {
		if batch := ready[c]; len(batch) > 0 {
			ready[c] = nil
			return batch
		}
	}
	return nil
}

// cycle finds one cycle, the first by id, and describes it.
func (g *graph) cycle() *hcl2.Diagnostic {
	done := map[string]bool{}
	for _, v := range g.sorted() {
		if path := g.findCycle(v, nil, map[string]bool{}, done); path != nil {
			return describeCycle(path)
		}
	}
	return nil
}

// findCycle returns the vertices of a cycle that can be reached from v.
func (g *graph) findCycle(v *vertex, path []*vertex, onPath, done map[string]bool) []*vertex {
	if done[v.id] {
		return nil
	}
	if onPath[v.id] {
		return path[slices.Index(path, v):]
	}
	onPath[v.id] = true
	path = append(path, v)
	for _, id := range slices.Sorted(maps.Keys(v.needs)) {
		if found := g.findCycle(g.vertices[id], path, onPath, done); found != nil {
			return found
		}
	}
	delete(onPath, v.id)
	done[v.id] = true
	return nil
}

// stands reports whether a vertex only stands for others: for all nodes, or for a service with its addresses.
func (v *vertex) stands() bool {
	return v.class == allocationClass || v.id == idInventory || v.id == idNodes
}

// describeCycle says who refers to whom, and where. Vertices that stand for others are left out: users did not write them.
func describeCycle(path []*vertex) *hcl2.Diagnostic {
	var hops []*vertex
	places := map[*vertex]hcl2.Range{}
	for i, v := range path {
		if !v.stands() {
			hops = append(hops, v)
			places[v] = v.needs[path[(i+1)%len(path)].id]
		}
	}
	if len(hops) == 1 {
		return errorAt(places[hops[0]], "Reference cycle", "%s refers to itself. A value cannot be made of itself: use a local value for what both need.", hops[0].label)
	}
	var b strings.Builder
	b.WriteString(hops[0].label)
	for i, v := range hops {
		next := hops[(i+1)%len(hops)]
		if i > 0 {
			b.WriteString(", which")
		}
		fmt.Fprintf(&b, " refers to %s (%s)", next.label, at(places[v]))
	}
	return errorAt(places[hops[0]], "Reference cycle", "%s. Nothing of it can be evaluated first: break the cycle, for example by a local value for what they share.", b.String())
}
