package life

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Verdict is the stored result of a probe: it changes only when a threshold is reached.
type Verdict string

// The verdicts. Before the first one a liveness probe counts as succeeded, a readiness probe as failed, and a startup probe as neither.
const (
	Unknown Verdict = ""
	Success Verdict = "success"
	Failure Verdict = "failure"
)

// ProbeKind is what a probe is for. Its value is the word of messages: "Readiness probe failed: …".
type ProbeKind string

// The kinds.
const (
	Startup   ProbeKind = "Startup"
	Liveness  ProbeKind = "Liveness"
	Readiness ProbeKind = "Readiness"
)

// Of returns the container's probe of the kind, or nil.
func (k ProbeKind) Of(c *corev1.Container) *corev1.Probe {
	return map[ProbeKind]*corev1.Probe{Startup: c.StartupProbe, Liveness: c.LivenessProbe, Readiness: c.ReadinessProbe}[k]
}

// Probe is the bookkeeping of one probe of one attempt of a container (semantics.md 1.9).
//
// A probe runs once every period, and these runs count. Between them a probe whose success is being waited for runs early, sooner at
// first: such a run counts only if it succeeds, so that nobody waits a whole period for a container that has been fine for long,
// and nothing is killed sooner than its thresholds allow.
type Probe struct {
	Verdict Verdict
	Since   time.Time // of the verdict
	Running bool      // a run has begun and not ended
	Message string    // why it failed last, or why nothing could be said
	Row     int       // equal results in a row
	Good    bool      // the last of them
	Period  time.Time // the next run that counts whatever it gives; zero before the first
	Next    time.Time // the next run; zero before the first
	Pause   time.Duration
}

// firstPause is the time to the first early run; it doubles up to the period.
const firstPause = 100 * time.Millisecond

// Result is what one run of a probe gave.
type Result struct {
	Began   time.Time
	OK      bool
	Unclear bool // nothing can be said about the container: the way to it failed, not the container
	Message string
}

// Early reports whether a run that begins then is one between the periods, whose failure counts for nothing.
func (p Probe) Early(spec *corev1.Probe, began time.Time) bool {
	return !p.Period.IsZero() && began.Before(p.Period) && !SetBack(began, p.Period, periodOf(spec))
}

// Counted takes in a result, at the time when it came.
func (p Probe) Counted(kind ProbeKind, spec *corev1.Probe, r Result, now time.Time) Probe {
	p.Running = false
	period := periodOf(spec)
	full := !p.Early(spec, r.Began)
	if full {
		p.Period = nextPeriod(p.Period, r.Began, period, now)
	}
	if !r.OK {
		p.Message = r.Message
	}
	if !r.Unclear && (full || r.OK) {
		p = p.count(spec, r.OK, now)
	}
	p.Next = p.Period
	if kind != Liveness && p.Verdict != Success && cmp.Or(spec.SuccessThreshold, 1) == 1 {
		p.Pause = min(max(2*p.Pause, firstPause), period)
		p.Next = earlier(p.Period, now.Add(p.Pause))
	}
	return p
}

// nextPeriod is the first period's begin after now, counted from the first run, or from this one when the host's clock was set back.
func nextPeriod(last, began time.Time, period time.Duration, now time.Time) time.Time {
	if last.IsZero() || last.After(now) {
		last = earlier(began, now)
	}
	missed := now.Sub(last) / period
	return last.Add((missed + 1) * period)
}

func (p Probe) count(spec *corev1.Probe, ok bool, now time.Time) Probe {
	if ok != p.Good {
		p.Row = 0
	}
	p.Row, p.Good = p.Row+1, ok
	verdict, threshold := Failure, cmp.Or(spec.FailureThreshold, 3)
	if ok {
		verdict, threshold = Success, cmp.Or(spec.SuccessThreshold, 1)
	}
	if p.Row >= int(threshold) && p.Verdict != verdict {
		p.Verdict, p.Since = verdict, now
	}
	return p
}

// due is when the probe is to run next.
func (p Probe) due(spec *corev1.Probe, startedAt, now time.Time) time.Time {
	due, longest := p.Next, periodOf(spec)
	if due.IsZero() {
		longest = time.Duration(spec.InitialDelaySeconds) * time.Second
		due = startedAt.Add(longest)
	}
	if SetBack(now, due, longest) {
		return now
	}
	return due
}

func periodOf(spec *corev1.Probe) time.Duration { return seconds(spec.PeriodSeconds, 10) }

// Timeout is how long one run of a probe may take.
func Timeout(spec *corev1.Probe) time.Duration { return seconds(spec.TimeoutSeconds, 1) }

func seconds(n, fallback int32) time.Duration {
	return time.Duration(cmp.Or(n, fallback)) * time.Second
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
