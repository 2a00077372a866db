package schedule

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// why says in a few words what decided for the chosen node.
func (s *Scheduler) why(sh *shape, p Pod, c choice) string {
	switch {
	case len(p.Pins) > 0 && p.Pins[0].Why != "":
		return p.Pins[0].Why
	case len(p.Pins) > 0:
		return "its volume is here"
	case p.Only != "":
		return "one per node"
	case p.Spec != nil && p.Spec.NodeName != "":
		return "node_name is " + c.node.Name
	case len(s.nodes) == 1:
		return "only node"
	case c.left == 1:
		return s.whyOnly(sh, c)
	case c.equal == c.left:
		return fmt.Sprintf("one of %d equal nodes", c.equal)
	}
	if w := s.whyBest(sh, c); w != "" {
		return w
	}
	return fmt.Sprintf("one of %d equal nodes", c.equal)
}

// whyOnly names the rule that refused all other nodes, when it was a single one.
func (s *Scheduler) whyOnly(sh *shape, c choice) string {
	by := map[string]bool{}
	for i, n := range s.nodes {
		if n != c.node {
			by[sh.by[i]] = true
		}
	}
	if names := slices.Collect(maps.Keys(by)); len(names) == 1 {
		for _, f := range sh.checks {
			if f.name == names[0] && f.only != nil {
				return "only node " + f.only(&sh.request)
			}
		}
	}
	return fmt.Sprintf("only node of %d that fits", len(s.nodes))
}

// whyBest names the rating that did most to put the chosen node above the best one with a lower total.
func (s *Scheduler) whyBest(sh *shape, c choice) string {
	left := s.scratch.left
	totals := s.scratch.totals
	chosen := slices.Index(left, c.node)
	next := -1
	for i, t := range totals {
		if t < totals[chosen] && (next < 0 || t > totals[next]) {
			next = i
		}
	}
	if next < 0 {
		return ""
	}
	var most int64
	var why string
	for r, b := range sh.ratings {
		points := s.points(sh, r, left)
		if d := b.weight * (points[chosen] - points[next]); d > most {
			most, why = d, b.why(c.node, left[next], c.left)
		}
	}
	return why
}

func joinReasons(reasons []Reason) string {
	var texts []string
	for _, r := range reasons {
		texts = append(texts, r.String())
	}
	return strings.Join(texts, ", ")
}
