package view

import (
	"fmt"

	"berth.dev/berth/api"
)

// scaled paints the workloads whose number of pods an autoscaler chooses: every plan says so, also one without changes.
func (s Stream) scaled(list []api.Scaled) {
	if len(list) == 0 {
		return
	}
	s.Println("\nNumbers of pods that autoscalers choose:")
	for _, c := range list {
		s.Println("    " + scaledText(c))
	}
}

func scaledText(c api.Scaled) string {
	return fmt.Sprintf("%s: autoscaler: %d (%d-%d)", c.Address, c.Replicas, c.Least, c.Most)
}

func scaledJSON(list []api.Scaled) []map[string]any {
	out := []map[string]any{}
	for _, c := range list {
		out = append(out, map[string]any{"address": c.Address.String(), "autoscaler": c.Autoscaler.String(), "replicas": c.Replicas, "min_replicas": c.Least, "max_replicas": c.Most})
	}
	return out
}
