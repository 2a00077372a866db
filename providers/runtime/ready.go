package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime/life"
)

const (
	// settle is how long a container without a readiness probe must have run to count as ready: long enough to see
	// one that cannot start its work and ends at once.
	settle = 300 * time.Millisecond
	// longestPause is the longest pause before a restart that an apply sits out. Pauses are 0, 10, 20, 40 … s, so that a container
	// may end twice, because what it needs is not there yet, and the third time is reported as a crash loop.
	longestPause = 10 * time.Second
)

// awaitReady keeps the pod (probes, kills, restarts with their pauses) until every container is ready, or has ended as it should, and stays
// so for minReadySeconds. It fails as soon as that cannot come to be, and at the pod's deadline with what was missing.
func awaitReady(ctx context.Context, m *machine, w *providers.Work) (providers.Result, error) {
	f, err := m.facts(ctx)
	if err != nil {
		return providers.Result{}, err
	}
	b, err := newBuild(w, m.Name(), f)
	if err != nil {
		return providers.Result{}, err
	}
	k := m.keeper(b)
	k.prepared = map[string]uint32{}
	ctx, cancel := context.WithTimeoutCause(ctx, b.deadline(), errDeadline)
	defer cancel()
	if rest := settle - k.memory.age(); rest > 0 && !probed(b.pod) { // nothing can be said of it before
		if err := sleep(ctx, rest); err != nil {
			return providers.Result{}, m.explain(ctx, k.ended(ctx, err))
		}
	}
	if err := k.until(ctx, k.lasting); err != nil {
		return providers.Result{}, m.explain(ctx, k.ended(ctx, err))
	}
	if err := k.withinLimits(ctx); err != nil {
		return providers.Result{}, m.explain(ctx, k.ended(ctx, err))
	}
	return k.result(true), nil
}

// probed reports whether there is something to be asked of the pod's containers.
func probed(pod *corev1.Pod) bool {
	return slices.ContainsFunc(allContainers(&pod.Spec), func(c *corev1.Container) bool {
		return c.StartupProbe != nil || c.LivenessProbe != nil || c.ReadinessProbe != nil
	})
}

// lasting is the goal of awaitReady: every container is done, or has been ready for as long as asked.
func (k *keeper) lasting(ctx context.Context, seen *life.Seen, d *life.Decision) (bool, error) {
	if seen.Sandbox == nil {
		return false, k.m.fail(k.b.work, "Pod is gone", "Pod %s is not on %s any more: something else removed it. Apply again to make it anew.", podName(k.b.pod), k.m.Name())
	}
	if err := k.hopeless(ctx, seen, d, len(allContainers(&k.b.pod.Spec))); err != nil {
		return false, err
	}
	if d.Over != "" {
		return settled(d), nil
	}
	now, all, unready := k.m.now(), true, false
	for _, s := range life.Standings(k.b.pod, seen) {
		hold := k.hold(s.Spec)
		until := s.Since.Add(hold)
		switch {
		case s.Done:
		case !s.Ready:
			all, unready = false, true
		case now.Before(until) && !life.SetBack(now, until, hold):
			all = false
			if d.Again.IsZero() || until.Before(d.Again) {
				d.Again = until
			}
			if k.b.work.Step.Pod.MinReadySeconds > 0 {
				d.Waits = append(d.Waits, life.Wait{Container: s.Spec.Name, Message: "ready, for less than min_ready_seconds"})
			}
		}
	}
	k.waits = d.Waits
	k.calm = !unready // only time is to pass: nothing is gained by looking often
	return all, nil
}

// settled reports whether nothing of a pod that has come to its end is left to stop.
func settled(d *life.Decision) bool { return len(d.Actions) == 0 && len(d.Waits) == 0 }

// hold is how long a container must have been ready.
func (k *keeper) hold(c *corev1.Container) time.Duration {
	hold := time.Duration(k.b.work.Step.Pod.MinReadySeconds) * time.Second
	if c.ReadinessProbe == nil && c.StartupProbe == nil {
		hold = max(hold, settle)
	}
	return hold
}

// hopeless finds among the first n containers one that has ended and that no waiting will help: it is not to run again, or only after a
// pause that nobody should sit out.
func (k *keeper) hopeless(ctx context.Context, seen *life.Seen, d *life.Decision, n int) error {
	if d.Over == corev1.PodFailed && !settled(d) {
		return nil // first what still runs is stopped
	}
	if d.Over == corev1.PodFailed && d.Reason != "" {
		if len(d.Actions)+len(d.Waits) > 0 {
			return nil // it is being stopped
		}
		return k.m.fail(k.b.work, "Pod was stopped", "Pod %s on %s: %s (%s). Raise active_deadline_seconds, or have it end sooner.", podName(k.b.pod), k.m.Name(), d.Message, d.Reason)
	}
	deadline, _ := ctx.Deadline()
	left, now := time.Until(deadline), k.m.now()
	for _, c := range allContainers(&k.b.pod.Spec)[:n] {
		s := seen.Container(c.Name)
		if s == nil || s.ID == "" || s.Earlier || s.State != api.ContainerExited {
			continue
		}
		again := life.Restarts(k.b.pod, c, s.ExitCode)
		if !again && s.ExitCode == 0 && k.memory.whyKilled(s.ID) == "" || d.Over == corev1.PodSucceeded && again {
			continue // it ended well, or serves a pod that has
		}
		pause := life.BackoffOf(s, life.ContainerHash(c), seen.Asked)
		if !again || pause.Pause > longestPause || !pause.Over(now) && pause.Until.Sub(now) > left {
			return k.crashed(ctx, c, s, pause.Pause)
		}
	}
	return nil
}

// ended tells our own deadline from other ends.
func (k *keeper) ended(ctx context.Context, err error) error {
	if _, said := errors.AsType[*api.DiagnosticsError](err); said {
		return err
	}
	if status.Code(unwrapStatus(err)) == codes.DeadlineExceeded { // a host may tell of the deadline a little before it is here
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	if context.Cause(ctx) == errDeadline {
		return k.overdue(ctx)
	}
	return fmt.Errorf("keep pod %s: %w", podName(k.b.pod), err)
}

// overdue is the error at the end of the pod's deadline: what each container was waiting for, and the log of the first of them.
func (k *keeper) overdue(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var d strings.Builder
	fmt.Fprintf(&d, "Pod %s on %s: progress deadline exceeded after %s.", podName(k.b.pod), k.m.Name(), k.b.deadline())
	if len(k.waits) == 0 {
		d.WriteString(" containerd did not do in time what was asked of it.")
	}
	for i, w := range k.waits {
		fmt.Fprintf(&d, "\nContainer %q: %s.", w.Container, cmp.Or(w.Message, w.Reason))
		if i == 0 {
			d.WriteString(k.logOf(ctx, w.Container))
		}
	}
	d.WriteString("\nCorrect the container or its probes, or raise progress_deadline_seconds, and apply again.")
	return k.m.fail(k.b.work, "Pod did not become ready", "%s", d.String())
}

// logOf are the last log lines of a container's newest attempt, as part of a message.
func (k *keeper) logOf(ctx context.Context, name string) string {
	list, err := k.m.containers(ctx, byUID(string(k.b.pod.UID)))
	if err != nil {
		return fmt.Sprintf("\nIts log could not be read: %v.", err)
	}
	c := newest(list)[name]
	if c == nil {
		return ""
	}
	lines, err := k.m.tail(ctx, logDir(k.b.pod.Namespace, k.b.pod.Name, string(k.b.pod.UID))+"/"+logPath(name, c.GetMetadata().GetAttempt()), lastLines)
	switch {
	case err != nil:
		return fmt.Sprintf("\nIts log could not be read: %v.", err)
	case len(lines) == 0:
		return ""
	}
	return "\nIts last log lines:\n  " + strings.Join(lines, "\n  ")
}
