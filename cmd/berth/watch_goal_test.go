package main

import (
	"context"
	"errors"
	"testing"

	"berth.dev/berth/planner"
	"berth.dev/berth/statefile"
)

// stillStore is the home of a state that nobody changes.
type stillStore struct{ statefile.Store }

// Peek says the same each time.
func (stillStore) Peek(context.Context) (string, error) { return "1", nil }

// TestMay has a tender ask whether it may change a pod. The state may have been read anew since it has begun, without that pod: a round has removed it, and
// nobody makes it again.
func TestMay(t *testing.T) {
	g := &watchGoal{store: stillStore{}, peeked: "1", fence: 7, kept: map[string]*planner.Kept{"here": {}, "busy": {}}, busy: map[string]bool{"busy": true}}
	for uid, want := range map[string]error{"here": nil, "busy": errNotOurs, "gone": errNotOurs} {
		fence, err := g.may(t.Context(), uid)
		if !errors.Is(err, want) || err == nil && fence != 7 {
			t.Errorf("%s: %d, %v", uid, fence, err)
		}
	}
}
