package main

import (
	"testing"
	"time"

	"berth.dev/berth/api"
)

// A node looks after itself only when nobody was there for a while, and what it knows is of the newest run that has been there.
func TestNotAlone(t *testing.T) {
	for _, tt := range []struct {
		name  string
		mark  hostMark
		alone time.Duration
		part  api.State
		fence uint64
		may   bool
	}{
		{"nobody for long", hostMark{Lineage: "l", Fence: 7}, localPatience, api.State{Lineage: "l", Serial: 3}, 7, true},
		{"it knows of a run that has not been at it", hostMark{Lineage: "l", Fence: 6}, time.Hour, api.State{Lineage: "l", Serial: 3}, 7, true},
		{"somebody was there", hostMark{Lineage: "l", Fence: 7}, localPatience - 1, api.State{Lineage: "l", Serial: 3}, 7, false},
		{"by its clock somebody will be", hostMark{Lineage: "l", Fence: 7}, -time.Hour, api.State{Lineage: "l", Serial: 3}, 7, false},
		{"a run has begun since", hostMark{Lineage: "l", Fence: 8}, time.Hour, api.State{Lineage: "l", Serial: 3}, 7, false},
		{"nothing was handed over", hostMark{Lineage: "l", Fence: 7}, time.Hour, api.State{}, 7, false},
		{"another cluster's", hostMark{Lineage: "m", Fence: 7}, time.Hour, api.State{Lineage: "l", Serial: 3}, 7, false},
	} {
		if why := notAlone(tt.mark, tt.alone, &tt.part, tt.fence); (why == "") != tt.may {
			t.Errorf("%s: %q", tt.name, why)
		}
	}
}
