package graph

import "slices"

// Components numbers the strongly connected components of a directed graph over 0..n-1: two vertices have the same
// number when each can be reached from the other. Numbers grow along the edges backwards: a vertex's number is never
// smaller than that of one it points to.
func Components(edges [][]int) []int {
	t := tarjan{edges: edges, index: make([]int, len(edges)), low: make([]int, len(edges)), component: make([]int, len(edges))}
	for v := range edges {
		t.component[v] = -1
	}
	for v := range edges {
		if t.index[v] == 0 {
			t.visit(v)
		}
	}
	return t.component
}

// tarjan is the state of Tarjan's algorithm. Indices count from 1; 0 is "not visited".
type tarjan struct {
	edges          [][]int
	index, low     []int
	component      []int
	stack          []int
	visited, found int
}

func (t *tarjan) visit(v int) {
	t.visited++
	t.index[v], t.low[v] = t.visited, t.visited
	t.stack = append(t.stack, v)
	for _, w := range t.edges[v] {
		if t.index[w] == 0 {
			t.visit(w)
			t.low[v] = min(t.low[v], t.low[w])
		} else if t.component[w] < 0 {
			t.low[v] = min(t.low[v], t.index[w])
		}
	}
	if t.low[v] != t.index[v] {
		return
	}
	i := slices.Index(t.stack, v)
	for _, w := range t.stack[i:] {
		t.component[w] = t.found
	}
	t.stack = t.stack[:i]
	t.found++
}
