package api

import "time"

// EventType says what happened to a step.
type EventType string

// The types of events.
const (
	EventStart    EventType = "start"
	EventProgress EventType = "progress" // something worth saying while it goes on: "waiting for readiness: 503"
	EventDone     EventType = "done"
	EventFailed   EventType = "failed"
	EventSkipped  EventType = "skipped"  // because a step that it waits for failed
	EventStopping EventType = "stopping" // the first interrupt: no new steps
)

// Event is one thing that happened while applying. The executor makes them; views paint them.
type Event struct {
	Type    EventType     `json:"type"`
	Time    time.Time     `json:"time"`
	Step    *Step         `json:"-"`
	Elapsed time.Duration `json:"elapsed"` // since the step began
	Message string        `json:"message,omitempty"`
	Err     error         `json:"-"`
	Done    int           `json:"done"`  // steps finished
	Total   int           `json:"total"` // steps in the plan
}
