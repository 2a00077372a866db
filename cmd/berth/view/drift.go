package view

import (
	"fmt"

	"berth.dev/berth/api"
)

// Drift paints what differs on each host from the state, and which hosts could not be asked.
func (s Stream) Drift(state *api.State, unreachable []api.NodeReason, found []api.Drift) {
	for _, u := range unreachable {
		s.Println(s.paint(yellow, "Note: ") + "node " + u.Node + " could not be compared: " + u.Reason)
	}
	if len(unreachable) > 0 {
		s.Println("")
	}
	if len(found) == 0 {
		if len(unreachable) == 0 {
			s.Println(s.paint(green, "No drift.") + s.paint(bold, fmt.Sprintf(" %s, %s and %s are as they were last applied.",
				counted(len(state.Nodes), "node"), counted(len(state.Objects), "object"), counted(len(state.Pods), "pod"))))
		}
		return
	}
	width := 0
	for _, d := range found {
		width = max(width, len(d.Address.String()))
	}
	for i, d := range found {
		if i == 0 || d.Node != found[i-1].Node {
			if i > 0 {
				s.Println("")
			}
			s.Println(s.paint(bold, placeOf(d.Node)))
		}
		s.Printf("  %s %-*s  %s\n", s.symbol(d.Repair, 1), width, d.Address, d.Problem)
	}
	s.Printf("\n%s %s from what was last applied (serial %d). An apply puts this right.\n", s.paint(bold, "Drift:"), counted(len(found), "difference"), state.Serial)
}

func placeOf(node string) string {
	if node == "" {
		return "on no single node"
	}
	return "on " + node
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Drift writes what differs, with the type name of Terraform's for it.
func (l *Lines) Drift(unreachable []api.NodeReason, found []api.Drift) {
	for _, u := range unreachable {
		l.put("warn", "node_unreachable", u.Node+": "+u.Reason, map[string]any{"node": u.Node, "reason": u.Reason})
	}
	for _, d := range found {
		l.put("info", "resource_drift", d.Address.String()+": "+d.Problem, map[string]any{
			"change": map[string]any{"resource": resource(d.Address, d.Node), "action": d.Repair.Verb(), "reason": d.Problem},
		})
	}
	l.put("info", "drift_summary", fmt.Sprintf("Drift: %d", len(found)), map[string]any{"drift": len(found), "unreachable": len(unreachable)})
}
