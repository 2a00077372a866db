package life

import "time"

// Verdict is the stored result of a probe: it changes only when a threshold is reached.
type Verdict string

// The verdicts.
const (
	Unknown Verdict = ""
	Success Verdict = "success"
	Failure Verdict = "failure"
)

// Probe is the bookkeeping of one probe of one attempt of a container.
type Probe struct {
	Verdict Verdict
	Since   time.Time // of the verdict
	Message string    // why it failed last
}
