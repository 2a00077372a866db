package life

import "time"

// HookState is how far a hook has got.
type HookState string

// The states. A hook of which nothing is known counts as not run yet where a decision is to be made.
const (
	HookUnknown HookState = ""
	HookRunning HookState = "running"
	HookDone    HookState = "done"
	HookFailed  HookState = "failed"
)

// Hook is what was noted of a container's postStart or preStop hook.
type Hook struct {
	State HookState
	Began time.Time
	Ended time.Time // zero while it runs
}

// Kill says why a container is killed and within what time.
type Kill struct {
	Reason  string // of the event: "Killing", "Unhealthy", "FailedPostStartHook"
	Message string // "Container app failed liveness probe, will be restarted"
	At      time.Time
	Grace   time.Duration
	Sent    bool // the stop signal was asked for
}
