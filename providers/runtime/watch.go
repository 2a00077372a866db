package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
)

// watch looks at the containers of one pod until they are as they should be, starts again what ends, and runs the probes that
// decide about readiness.
type watch struct {
	m          *machine
	b          *build
	runner     *runner
	containers []*watched // sidecars and app containers, in the pod's order
	reported   string
}

// watched is one container under watch.
type watched struct {
	spec      *corev1.Container
	startup   *prober // nil without a probe
	readiness *prober

	id         string // of the attempt that was seen last
	attempt    uint32
	since      time.Time // when it was first seen running, by our clock
	crashes    int       // while we looked
	completed  bool      // ended as it should
	started    bool      // runs, and its startup probe has succeeded
	ready      bool      // started, and its readiness probe says so
	readySince time.Time
	state      string // for people, when nothing else is to say
}

func newWatch(m *machine, b *build, s *sandbox) *watch {
	w := &watch{m: m, b: b, runner: &runner{m: m, b: b, sandbox: s}}
	for _, c := range allContainers(&b.pod.Spec) {
		isInit := slices.ContainsFunc(b.pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.Name })
		if !isInit || isSidecar(c) {
			w.containers = append(w.containers, &watched{spec: c, state: "not seen yet"})
		}
	}
	return w
}

// only watches one container.
func (w *watch) only(name string) {
	w.containers = slices.DeleteFunc(w.containers, func(c *watched) bool { return c.spec.Name != name })
}

// until looks until all containers are good.
func (w *watch) until(ctx context.Context, good func(*watched) bool) error {
	for pause := 20 * time.Millisecond; ; pause = min(pause*2, 500*time.Millisecond) {
		if err := w.look(ctx); err != nil {
			return w.ended(ctx, err)
		}
		if err := w.probe(ctx); err != nil {
			return w.ended(ctx, err)
		}
		if !slices.ContainsFunc(w.containers, func(c *watched) bool { return !good(c) }) {
			return nil
		}
		w.say()
		if err := sleep(ctx, w.pause(pause)); err != nil {
			return w.ended(ctx, err)
		}
	}
}

// ended tells our own deadline from other ends.
func (w *watch) ended(ctx context.Context, err error) error {
	if context.Cause(ctx) == errDeadline {
		return w.overdue(ctx)
	}
	if _, said := errors.AsType[*api.DiagnosticsError](err); said {
		return err
	}
	return fmt.Errorf("wait for pod %s: %w", podName(w.b.pod), err)
}

// pause is the time to the next thing to do, at most the given.
func (w *watch) pause(most time.Duration) time.Duration {
	now := time.Now()
	for _, c := range w.containers {
		switch {
		case c.completed || c.id == "":
		case c.ready && now.Before(c.readySince.Add(w.hold(c))):
			most = min(most, c.readySince.Add(w.hold(c)).Sub(now))
		case !c.started && c.startup != nil:
			most = min(most, c.startup.next.Sub(now))
		case c.readiness != nil:
			most = min(most, c.readiness.next.Sub(now))
		}
	}
	return max(most, 5*time.Millisecond)
}

// look reads the state of the containers from CRI.
func (w *watch) look(ctx context.Context) error {
	list, err := w.m.containers(ctx, byUID(string(w.b.pod.UID)))
	if err != nil {
		return err
	}
	have := newest(list)
	for _, c := range w.containers {
		if err := w.see(ctx, c, have[c.spec.Name]); err != nil {
			return err
		}
	}
	return nil
}

// see takes in the newest attempt of one container.
func (w *watch) see(ctx context.Context, c *watched, seen *runtimev1.Container) error {
	if seen == nil {
		return w.m.fail(w.b.work, "Container is missing", "Pod %s has no container %q on %s. Apply again to have it made.", podName(w.b.pod), c.spec.Name, w.m.Name())
	}
	switch seen.GetState() {
	case runtimev1.ContainerState_CONTAINER_RUNNING:
		if c.id != seen.GetId() {
			w.begin(c, seen.GetId(), seen.GetMetadata().GetAttempt())
		}
		return nil
	case runtimev1.ContainerState_CONTAINER_EXITED:
		return w.exited(ctx, c, seen)
	}
	c.started, c.ready, c.state = false, false, "it is created and does not run"
	return nil
}

// begin notes a new attempt that runs.
func (w *watch) begin(c *watched, id string, attempt uint32) {
	c.id, c.attempt, c.since, c.state = id, attempt, time.Now(), "running"
	c.startup, c.readiness = newProber(w, c, "Startup", c.spec.StartupProbe), newProber(w, c, "Readiness", c.spec.ReadinessProbe)
	c.started, c.ready = c.startup == nil, false
	if c.started && c.readiness == nil {
		c.ready, c.readySince = true, c.since
	}
}

// exited decides about a container that has ended: done, to be started again, or a failure.
func (w *watch) exited(ctx context.Context, c *watched, seen *runtimev1.Container) error {
	if c.completed {
		return nil
	}
	st, err := w.m.status(ctx, seen.GetId())
	if err != nil {
		return err
	}
	c.id, c.attempt = seen.GetId(), seen.GetMetadata().GetAttempt()
	c.started, c.ready = false, false
	again := restarts(w.b.pod, c.spec, st.GetExitCode())
	if !again && st.GetExitCode() == 0 {
		c.completed, c.started, c.state = true, true, "completed"
		return nil
	}
	c.crashes++
	if !again || c.crashes >= crashLimit {
		return w.m.crashed(ctx, w.b, c.spec, st, c.crashes)
	}
	report(w.b.work, "container %s ended with exit code %d (%s), starting it again", c.spec.Name, st.GetExitCode(), reason(st))
	if err := w.m.room(ctx, w.b, c.spec, c.attempt+1); err != nil {
		return err
	}
	id, err := w.runner.start(ctx, c.spec, start{attempt: c.attempt + 1})
	if err != nil {
		return err
	}
	w.begin(c, id, c.attempt+1)
	return nil
}

// probe runs the probes that are due, all at once.
func (w *watch) probe(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range w.containers {
		if c.completed || c.since.IsZero() || !c.running() {
			continue
		}
		g.Go(func() error { return w.probeOne(ctx, c) })
	}
	return g.Wait()
}

func (c *watched) running() bool { return c.state == "running" }

func (w *watch) probeOne(ctx context.Context, c *watched) error {
	if !c.started {
		if err := c.startup.due(ctx); err != nil {
			return err
		}
		if c.startup.exhausted() {
			return w.m.fail(w.b.work, "Container did not start",
				"Container %q of pod %s on %s: Startup probe failed: %s. It had %d attempts. Correct the container or raise the probe's failure_threshold.",
				c.spec.Name, podName(w.b.pod), w.m.Name(), c.startup.last, c.startup.threshold())
		}
		if c.started = c.startup.passed; !c.started {
			return nil
		}
	}
	passed := true
	if c.readiness != nil {
		if err := c.readiness.due(ctx); err != nil {
			return err
		}
		passed = c.readiness.passed
	}
	if passed && !c.ready {
		c.readySince = time.Now()
	}
	c.ready = passed
	return nil
}

// waitingFor says what keeps a container from being good.
func (c *watched) waitingFor() string {
	switch {
	case !c.running():
		return c.state
	case !c.started:
		return c.startup.say()
	case !c.ready:
		return c.readiness.say()
	}
	return "ready, for less than min_ready_seconds"
}

// say reports what the first container that is not ready waits for, once for each thing.
func (w *watch) say() {
	for _, c := range w.containers {
		if c.completed || c.ready {
			continue
		}
		text := fmt.Sprintf("waiting for container %s: %s", c.spec.Name, c.waitingFor())
		if text != w.reported {
			w.reported = text
			report(w.b.work, "%s", text)
		}
		return
	}
}

// firstPause is the time between the first probes of a container; it doubles up to the probe's period. Kubernetes waits a
// whole period from the start, which apply would spend idle.
const firstPause = 100 * time.Millisecond

// prober runs one probe of one attempt of a container.
type prober struct {
	what   string // "Readiness", "Startup"
	probe  *corev1.Probe
	try    func(ctx context.Context) (failure string, err error)
	next   time.Time
	pause  time.Duration
	until  time.Time // a startup probe's last chance
	passed bool
	row    int    // equal results in a row
	good   bool   // the last of them
	last   string // why it failed last
}

func newProber(w *watch, c *watched, what string, p *corev1.Probe) *prober {
	if p == nil {
		return nil
	}
	out := &prober{what: what, probe: p, try: w.attempt(c, p), next: c.since.Add(time.Duration(p.InitialDelaySeconds) * time.Second), pause: firstPause}
	out.until = out.next.Add(time.Duration(out.threshold()) * out.period())
	return out
}

func (p *prober) period() time.Duration {
	return time.Duration(cmp.Or(p.probe.PeriodSeconds, 10)) * time.Second
}

func (p *prober) threshold() int { return int(cmp.Or(p.probe.FailureThreshold, 3)) }

// due runs the probe if its time has come and counts the result. An error of the probing itself decides nothing.
func (p *prober) due(ctx context.Context) error {
	if time.Now().Before(p.next) {
		return nil
	}
	tryCtx, cancel := context.WithTimeout(ctx, time.Duration(cmp.Or(p.probe.TimeoutSeconds, 1))*time.Second)
	failure, err := p.try(tryCtx)
	cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		p.last = err.Error()
		p.next = time.Now().Add(p.pause)
		return nil //nolint:nilerr // shown by say, and the deadline ends it
	}
	good := failure == ""
	if good != p.good {
		p.row = 0
	}
	p.row, p.good = p.row+1, good
	if !good {
		p.last = failure
	}
	switch {
	case good && p.row >= int(max(p.probe.SuccessThreshold, 1)):
		p.passed = true
	case !good && p.row >= p.threshold():
		p.passed = false
	}
	p.next = time.Now().Add(p.pause)
	if good || p.passed {
		p.next = time.Now().Add(p.period())
	}
	p.pause = min(p.pause*2, p.period())
	return nil
}

// exhausted reports whether a startup probe has had its chances: as much time as failureThreshold periods.
func (p *prober) exhausted() bool { return !p.passed && p.last != "" && time.Now().After(p.until) }

func (p *prober) say() string {
	if p.last == "" {
		return p.what + " probe has not run yet"
	}
	return p.what + " probe failed: " + p.last
}
