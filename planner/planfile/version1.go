package planfile

import (
	"encoding/json"
	"fmt"
	"io"

	"berth.dev/berth/api"
)

// version1 is the file as it stands in JSON: the plan as api spells it.
type version1 struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Plan    *api.Plan `json:"plan"`
}

func writeVersion1(w io.Writer, p *api.Plan) error {
	return json.NewEncoder(w).Encode(version1{Format: format, Version: 1, Plan: p})
}

func readVersion1(text []byte) (*api.Plan, error) {
	var v version1
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("read plan file: %w", err)
	}
	if v.Plan == nil {
		return nil, ErrNotPlan
	}
	for i := range v.Plan.Steps {
		for _, before := range v.Plan.Steps[i].After {
			if before < 0 || before >= i {
				return nil, fmt.Errorf("read plan file: step %d waits for step %d, which does not come before it", i, before)
			}
		}
	}
	return v.Plan, nil
}
