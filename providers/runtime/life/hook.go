package life

import "time"

// HookState is how far a hook has got.
type HookState string

// The states. A hook of which nothing is noted has not run.
const (
	HookUnknown HookState = ""
	HookRunning HookState = "running"
	HookDone    HookState = "done"
	HookFailed  HookState = "failed"
)

// Hook is what was noted of a container's postStart or preStop hook.
type Hook struct {
	State HookState
	Ended time.Time // zero while it runs
}
