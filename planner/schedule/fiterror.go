package schedule

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// FitError says why no node takes a pod.
type FitError struct {
	Pod      string    `json:"pod"`      // its key
	Nodes    int       `json:"nodes"`    // how many were asked
	Refusals []Refusal `json:"refusals"` // one per node, sorted by its name
	// Preemption says what came of looking for pods that could make room; "" when nobody looked.
	Preemption string `json:"preemption,omitempty"`
}

// Refusal is one node's answer.
type Refusal struct {
	Node    string   `json:"node"`
	Filter  string   `json:"filter"` // the rule that refused
	Reasons []Reason `json:"reasons"`
}

// Error counts the reasons over the nodes in Kubernetes' words: "0/3 nodes are available: 1 Insufficient
// cpu, 2 node(s) had untolerated taint {dedicated: db}."
func (e *FitError) Error() string {
	if e.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	counts := map[string]int{}
	for _, r := range e.Refusals {
		for _, reason := range r.Reasons {
			counts[reason.Text]++
		}
	}
	var parts []string
	for _, text := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[text], text))
	}
	slices.Sort(parts)
	text := fmt.Sprintf("0/%d nodes are available: %s.", e.Nodes, strings.Join(parts, ", "))
	if e.Preemption != "" {
		text += " preemption: " + e.Preemption
	}
	return text
}

// Lines returns each node's reasons for people: "a1: Insufficient cpu (requested 2, 500m of 4 left)".
func (e *FitError) Lines() []string {
	var lines []string
	for _, r := range e.Refusals {
		lines = append(lines, r.Node+": "+joinReasons(r.Reasons))
	}
	return lines
}

func (s *Scheduler) fitError(sh *shape, p Pod) *FitError {
	e := &FitError{Pod: p.Key, Nodes: len(s.nodes)}
	for i, n := range s.nodes {
		e.Refusals = append(e.Refusals, Refusal{n.Name, sh.by[i], sh.refused[i]})
	}
	return e
}
