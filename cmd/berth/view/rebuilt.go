package view

import (
	"fmt"

	"berth.dev/berth/api"
)

// Rebuilt shows a state that was made anew: what it is made of, how well each item of it is known, and what had to be left out.
func (s Stream) Rebuilt(state *api.State, items []api.RebuiltItem, source string) {
	s.Printf("Lineage %s, serial %d: %s.\n\n", state.Lineage, state.Serial, source)
	var rows [][]string
	for _, i := range items {
		why := i.Why
		if i.Left {
			why += " (left out)"
		}
		rows = append(rows, []string{i.Address.String(), i.Node, string(i.Proof), why})
	}
	s.Table([]string{"ITEM", "NODE", "KNOWN", "WHY"}, rows)
	n := proofs(items)
	s.Printf("\n%d proven, %d inferred, %d unknown.\n", n[api.Proven], n[api.Inferred], n[api.Unknown])
}

func proofs(items []api.RebuiltItem) map[api.Proof]int {
	n := map[api.Proof]int{}
	for _, i := range items {
		n[i.Proof]++
	}
	return n
}

// Rebuilt writes a line for each item of a state that was made anew, and a summary.
func (l *Lines) Rebuilt(state *api.State, items []api.RebuiltItem) {
	for _, i := range items {
		l.put("info", "state_rebuilt", fmt.Sprintf("%s: %s, %s", i.Address, i.Proof, i.Why), map[string]any{
			"resource": resource(i.Address, i.Node), "proof": string(i.Proof), "reason": i.Why, "left_out": i.Left,
		})
	}
	n := proofs(items)
	l.put("info", "state_rebuilt_summary", fmt.Sprintf("%d proven, %d inferred, %d unknown", n[api.Proven], n[api.Inferred], n[api.Unknown]), map[string]any{
		"lineage": state.Lineage, "serial": state.Serial, "proven": n[api.Proven], "inferred": n[api.Inferred], "unknown": n[api.Unknown],
	})
}
