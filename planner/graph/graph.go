// Package graph holds the steps of a plan and what each waits for while the plan is made, and brings them into an
// order in which they could run one by one. It neither invents steps nor runs them: the executor walks.
package graph

import (
	"container/heap"
	"fmt"
	"slices"
	"strings"

	"berth.dev/berth/api"
)

// Step is a handle of a step in a graph under construction. It is not the step's ID, which follows from the order.
type Step int

// Graph is a set of steps and what they wait for. The zero Graph is empty.
type Graph struct {
	steps []api.Step
	after [][]Step
	joins map[Step]bool // made by Join
}

// Add puts in a step that waits for others and returns its handle. Handles that were never given out are a bug.
func (g *Graph) Add(s api.Step, after ...Step) Step {
	g.steps = append(g.steps, s)
	g.after = append(g.after, slices.Clone(after))
	return Step(len(g.steps) - 1)
}

// Wait makes a step wait for others too.
func (g *Graph) Wait(s Step, after ...Step) { g.after[s] = append(g.after[s], after...) }

// At returns the step behind a handle, to be completed in place.
func (g *Graph) At(s Step) *api.Step { return &g.steps[s] }

// Len is the number of steps.
func (g *Graph) Len() int { return len(g.steps) }

// fanLimit is how many steps may be waited for directly by many others.
const fanLimit = 8

// Join returns few steps that stand for all of the given ones, so that many may wait for many at little cost:
// the steps themselves when they are few, else a step that does nothing and waits for them.
func (g *Graph) Join(a api.Address, reason string, steps []Step) []Step {
	steps = slices.Clone(steps)
	slices.Sort(steps)
	steps = slices.Compact(steps)
	if len(steps) <= fanLimit {
		return steps
	}
	s := g.Add(api.Step{Op: api.OpRecord, Address: a, Reason: reason}, steps...)
	if g.joins == nil {
		g.joins = map[Step]bool{}
	}
	g.joins[s] = true
	return []Step{s}
}

// Sort returns the steps in order, each after all that it waits for, with IDs and After filled in. Steps that
// could come next in any order come in the order in which they were added, so equal graphs give equal plans. Joins
// that nobody waits for are left out.
func (g *Graph) Sort() ([]api.Step, error) {
	idle := g.idleJoins()
	waiting := make([]int, len(g.steps))
	followers := make([][]Step, len(g.steps))
	for s := range g.after {
		if idle[Step(s)] {
			continue
		}
		slices.Sort(g.after[s])
		g.after[s] = slices.Compact(g.after[s])
		waiting[s] = len(g.after[s])
		for _, before := range g.after[s] {
			followers[before] = append(followers[before], Step(s))
		}
	}
	var next queue
	for s, n := range waiting {
		if n == 0 && !idle[Step(s)] {
			next = append(next, Step(s))
		}
	}
	out := make([]api.Step, 0, len(g.steps))
	ids := make([]int, len(g.steps))
	for len(next) > 0 {
		s := heap.Pop(&next).(Step)
		step := g.steps[s]
		step.ID, step.After = len(out), nil
		for _, before := range g.after[s] {
			step.After = append(step.After, ids[before])
		}
		slices.Sort(step.After)
		step.After = reduce(out, step.After)
		ids[s] = step.ID
		out = append(out, step)
		for _, f := range followers[s] {
			if waiting[f]--; waiting[f] == 0 {
				heap.Push(&next, f)
			}
		}
	}
	if len(out)+len(idle) < len(g.steps) {
		return nil, &CycleError{g.cycle(waiting)}
	}
	return out, nil
}

// idleJoins are the joins that nobody waits for, but perhaps other such joins.
func (g *Graph) idleJoins() map[Step]bool {
	idle := map[Step]bool{}
	if len(g.joins) == 0 {
		return idle
	}
	followers := make([]int, len(g.steps))
	for _, after := range g.after {
		for _, b := range after {
			followers[b]++
		}
	}
	var drop func(s Step)
	drop = func(s Step) {
		if !g.joins[s] || followers[s] > 0 || idle[s] {
			return
		}
		idle[s] = true
		for _, b := range g.after[s] {
			followers[b]--
			drop(b)
		}
	}
	for s := range g.joins {
		drop(s)
	}
	return idle
}

// reduce drops from what a step waits for the ones that another of them waits for anyway.
func reduce(steps []api.Step, after []int) []int {
	implied := map[int]bool{}
	for _, b := range after {
		for _, a := range steps[b].After {
			implied[a] = true
		}
	}
	return slices.DeleteFunc(after, func(a int) bool { return implied[a] })
}

// queue is a heap of handles, the smallest in front.
type queue []Step

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i] < q[j] }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(Step)) }
func (q *queue) Pop() any {
	old := *q
	s := old[len(old)-1]
	*q = old[:len(old)-1]
	return s
}

// CycleError is a ring of steps that wait for each other.
type CycleError struct{ Steps []string }

// Error names the steps in the order in which they wait.
func (e *CycleError) Error() string {
	return "steps wait for each other: " + strings.Join(e.Steps, ", which waits for ")
}

// cycle follows waits among the steps that were never free until one comes again.
func (g *Graph) cycle(waiting []int) []string {
	s := Step(slices.IndexFunc(waiting, func(n int) bool { return n > 0 }))
	var path []Step
	for !slices.Contains(path, s) {
		path = append(path, s)
		i := slices.IndexFunc(g.after[s], func(b Step) bool { return waiting[b] > 0 })
		s = g.after[s][i]
	}
	var out []string
	for _, p := range append(path[slices.Index(path, s):], s) {
		step := g.steps[p]
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", step.Op, step.Address, step.Node)))
	}
	return out
}
