package view

import (
	"fmt"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/diff"
)

// pastWords are what the header of a change says that was.
var pastWords = map[api.Action]string{api.Create: "was created", api.Update: "was updated", api.Delete: "was destroyed"}

// Between paints in what two moments of a state differ.
func (s Stream) Between(b diff.Between) {
	for _, c := range b.Changes {
		s.Printf("\n%s\n", s.paint(bold, "  # "+c.Address.String()+" "+pastWords[c.Action]))
		s.body(c)
	}
	if len(b.Pins) > 0 {
		s.Println("\nImages that mean another digest:")
		for _, p := range b.Pins {
			s.Printf("  %s %s: %s -> %s\n", s.symbol(api.Update, 1), p.Ref, ShortImage(p.Before), ShortImage(p.After))
		}
	}
	s.outputs(b.Outputs)
	counts := map[api.Action]int{}
	for _, c := range b.Changes {
		counts[c.Action]++
	}
	s.Printf("\n%s\n", s.paint(bold, fmt.Sprintf("Difference: %d created, %d updated, %d destroyed.", counts[api.Create], counts[api.Update], counts[api.Delete])))
}

// BetweenJSON is the same for machines.
func BetweenJSON(from, to any, b diff.Between, version string) any {
	changes := []map[string]any{}
	for _, c := range b.Changes {
		changes = append(changes, map[string]any{"address": c.Address.String(), "actions": planActions[c.Action], "before": redacted(c.Before), "after": redacted(c.After), "diffs": c.Diffs})
	}
	outputs := map[string]any{}
	for _, c := range b.Outputs {
		outputs[c.Name] = map[string]any{"actions": planActions[c.Action], "before": outputValue(c.Before), "after": outputValue(c.After)}
	}
	images := b.Pins
	if images == nil {
		images = []diff.PinChange{}
	}
	return map[string]any{"format_version": "1.0", "berth_version": version, "from": from, "to": to, "changes": changes, "output_changes": outputs, "images": images}
}

// RecordJSON is one entry of the history, without the objects.
func RecordJSON(r api.ApplyRecord) map[string]any {
	changed := []string{}
	if r.Undo != nil {
		for _, o := range r.Undo.Objects {
			changed = append(changed, o.Address.String())
		}
	}
	return map[string]any{
		"serial": r.Serial, "at": r.At.UTC(), "who": r.Who, "operation": r.Operation, "from": r.From, "job": r.Job,
		"outcome": r.Outcome.String(), "summary": r.Summary, "changed": changed,
	}
}

// HistoryJSON is the history for machines.
func HistoryJSON(s *api.State) []map[string]any {
	out := []map[string]any{}
	for _, r := range s.History {
		out = append(out, RecordJSON(r))
	}
	return out
}
