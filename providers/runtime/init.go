package runtime

import (
	"cmp"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Restarts while we look on. A container that ends is started again at once; the second time it ends the step fails: apply
// reports a crash loop instead of sitting in it.
const (
	crashLimit     = 2
	initCrashLimit = 3
	initBackoff    = 10 * time.Second // before the third attempt of an init container

	defaultDeadline = 600 * time.Second // progressDeadlineSeconds
)

// initContainer runs an init container to its end; of a sidecar it waits only until it has started.
func (r *runner) initContainer(ctx context.Context, c *corev1.Container, s start, needed bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.b.deadline(), errDeadline)
	defer cancel()
	if isSidecar(c) {
		return r.sidecar(ctx, c, s, needed)
	}
	if !needed {
		old := r.have[c.Name]
		if old.GetState() == runtimev1.ContainerState_CONTAINER_EXITED {
			return r.ended(ctx, c, old.GetId(), old.GetMetadata().GetAttempt())
		}
		s = start{id: old.GetId(), attempt: old.GetMetadata().GetAttempt()}
	}
	for failures := 0; ; {
		id := s.id
		if needed {
			var err error
			if id, err = r.start(ctx, c, s); err != nil {
				return err
			}
		}
		st, err := r.await(ctx, c, id)
		if err != nil {
			return err
		}
		if st.GetExitCode() == 0 {
			return nil
		}
		failures++
		if !restarts(r.b.pod, c, st.GetExitCode()) || failures >= initCrashLimit {
			return r.m.crashed(ctx, r.b, c, st, failures)
		}
		report(r.b.work, "init container %s ended with exit code %d, starting it again", c.Name, st.GetExitCode())
		if failures > 1 {
			if err := sleep(ctx, initBackoff); err != nil {
				return r.b.late(ctx, c.Name, err)
			}
		}
		s, needed = start{attempt: s.attempt + 1}, true
		if err := r.m.room(ctx, r.b, c, s.attempt); err != nil {
			return err
		}
	}
}

// ended accepts an init container that is not to run again if it ended well.
func (r *runner) ended(ctx context.Context, c *corev1.Container, id string, attempt uint32) error {
	st, err := r.m.status(ctx, id)
	if err != nil {
		return err
	}
	if st.GetExitCode() != 0 {
		return r.m.crashed(ctx, r.b, c, st, int(attempt)+1)
	}
	return nil
}

// await waits for the end of a container.
func (r *runner) await(ctx context.Context, c *corev1.Container, id string) (*runtimev1.ContainerStatus, error) {
	report(r.b.work, "waiting for init container %s", c.Name)
	var st *runtimev1.ContainerStatus
	for wait := 20 * time.Millisecond; ; wait = min(wait*3/2, time.Second) {
		var err error
		if st, err = r.m.status(ctx, id); err != nil {
			return nil, r.b.late(ctx, c.Name, err)
		}
		if st.GetState() == runtimev1.ContainerState_CONTAINER_EXITED {
			return st, nil
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, r.b.late(ctx, c.Name, err)
		}
	}
}

// sidecar starts an init container that goes on running, and waits for its startup probe.
func (r *runner) sidecar(ctx context.Context, c *corev1.Container, s start, needed bool) error {
	if needed {
		if _, err := r.start(ctx, c, s); err != nil {
			return err
		}
	}
	w := newWatch(r.m, r.b, r.sandbox)
	w.only(c.Name)
	return w.until(ctx, func(c *watched) bool { return c.started })
}

// deadline bounds the init containers, and later the wait for readiness.
func (b *build) deadline() time.Duration {
	return cmp.Or(time.Duration(b.work.Step.Pod.DeadlineSeconds)*time.Second, defaultDeadline)
}

// late turns the end of our own deadline into a message; the end of the caller's context stays what it is.
func (b *build) late(ctx context.Context, container string, err error) error {
	if context.Cause(ctx) != errDeadline {
		return fmt.Errorf("wait for container %s of pod %s: %w", container, podName(b.pod), err)
	}
	return failure(b.node, b.work, "Pod did not become ready",
		"Pod %s: progress deadline exceeded: init container %q has not ended within %s. Look at `berth logs -c %s %s`, or raise progress_deadline_seconds.",
		podName(b.pod), container, b.deadline(), container, b.pod.Name)
}
