package node

import (
	"context"
	"fmt"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// Report is what Check or Prepare found out about a host.
type Report struct {
	Node  string        `json:"node"`
	Facts api.NodeFacts `json:"facts"`
	Items []Item        `json:"items"`
}

// Problems are those of the items, errors and warnings.
func (r *Report) Problems() api.Diagnostics {
	var ds api.Diagnostics
	for _, i := range r.Items {
		if i.Problem != nil {
			ds = append(ds, *i.Problem)
		}
	}
	return ds
}

// Check looks at a host and changes nothing. An error means that the host could not be asked.
func Check(ctx context.Context, h providers.Host) (*Report, error) {
	s, err := look(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("check node %s: %w", h.Name(), err)
	}
	return &Report{Node: h.Name(), Facts: s.facts, Items: s.run(h.Name())}, nil
}
