package life

import "time"

// The pauses between restarts (semantics.md 1.7): none before the first, then this long, doubling up to the most; after this long a run
// the series begins anew.
const (
	FirstPause = 10 * time.Second
	MostPause  = 300 * time.Second // Kubernetes' for pulls as well (1.10)
	ResetAfter = 600 * time.Second
)

// NextPause is the pause that follows one in the series; after none, it is the first.
func NextPause(pause time.Duration) time.Duration {
	if pause <= 0 {
		return FirstPause
	}
	return min(2*pause, MostPause)
}

// Backoff is the pause before a container may start again.
type Backoff struct {
	// Until is when it may start; not after now when it may at once.
	Until time.Time
	// Pause is how long that is after its end.
	Pause time.Duration
	// Next is the pause that follows the end of the attempt after this one: it is noted on that attempt when it is made.
	Next time.Duration
}

// Over reports whether the container may start.
func (b Backoff) Over(now time.Time) bool {
	return !now.Before(b.Until) || SetBack(now, b.Until, b.Pause)
}

// BackoffOf says how long a container that has ended has to wait. A changed container (another hash) begins the series anew.
func BackoffOf(c *Container, hash string, asked time.Time) Backoff {
	pause := time.Duration(c.BackoffSeconds) * time.Second
	changed := hash != "" && c.Hash != "" && c.Hash != hash
	if pause <= 0 || changed || c.FinishedAt.Sub(c.CreatedAt) > ResetAfter {
		return Backoff{Until: c.FinishedAt, Next: FirstPause}
	}
	b := Backoff{Until: c.FinishedAt.Add(pause), Pause: pause, Next: NextPause(pause)}
	if !asked.IsZero() && c.FinishedAt.Before(asked) {
		b.Until, b.Pause = c.FinishedAt, 0
	}
	return b
}
