package hcl

import (
	"slices"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"

	"berth.dev/berth/api"
)

// finish gathers what was evaluated, sorted, and checks what must hold between objects.
func (e *evaluation) finish() hcl2.Diagnostics {
	for _, b := range e.blocks {
		e.config.Objects = append(e.config.Objects, b.objects...)
	}
	e.addSystem()
	slices.SortFunc(e.config.Objects, func(a, b *api.Object) int { return a.Address.Compare(b.Address) })
	slices.SortFunc(e.config.Nodes, compareNodes)
	for _, n := range e.config.Nodes {
		if n.Fence == nil {
			n.Fence = e.clusterFence
		}
	}
	slices.SortFunc(e.config.Outputs, func(a, b *api.Output) int { return strings.Compare(a.Name, b.Name) })
	c := newCross(e.config.Cluster, e.config.Objects, e.config.Nodes, e.incomplete())
	c.check()
	e.found = append(e.found, c.diags...)
	e.addLinks(c.links)
	return nil
}

// incomplete says whether some block has errors: then what other objects lack may be what it would have made.
func (e *evaluation) incomplete() bool {
	for _, v := range e.graph.vertices {
		if v.failed {
			return true
		}
	}
	return false
}

// addLinks makes objects depend on those that they use by name, without a reference: the volume of a claim, a config map.
// A link that would close a cycle is left out: the reference that goes the other way decides the order.
func (e *evaluation) addLinks(links []link) {
	reach := reachability{e: e, known: map[[2]string]bool{}, extra: map[string][]string{}}
	for _, l := range links {
		from, to := l.user.Address.Base().String(), l.used.Base().String()
		if slices.Contains(l.user.DependsOn, l.used) || reach.from(to, from) {
			continue
		}
		reach.add(from, to)
		deps := append(slices.Clone(l.user.DependsOn), l.used) // the list may be shared by instances
		slices.SortFunc(deps, api.Address.Compare)
		l.user.DependsOn = deps
	}
}

// reachability answers whether one block depends on another, through references and the links that were added.
type reachability struct {
	e     *evaluation
	known map[[2]string]bool
	extra map[string][]string
}

func (r *reachability) add(from, to string) {
	if !slices.Contains(r.extra[from], to) {
		r.extra[from] = append(r.extra[from], to)
		clear(r.known)
	}
}

func (r *reachability) from(start, goal string) bool {
	id := [2]string{start, goal}
	if v, ok := r.known[id]; ok {
		return v
	}
	seen := map[string]bool{start: true}
	for queue := []string{start}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == goal {
			r.known[id] = true
			return true
		}
		next := slices.Clone(r.extra[queue[0]])
		if v := r.e.graph.vertices[queue[0]]; v != nil {
			for id := range v.needs {
				next = append(next, id)
			}
		}
		for _, n := range next {
			if !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		}
	}
	r.known[id] = false
	return false
}
