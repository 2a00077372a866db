package runtime

import (
	"context"
	"fmt"
	"strings"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// settle is how long a container without a readiness probe must have run to count as ready: long enough to see
// one that cannot start its work and ends at once.
const settle = 300 * time.Millisecond

// awaitReady waits until every container of the pod is ready, or has ended as it should, and stays so for minReadySeconds. It fails
// as soon as that cannot come to be, and at the pod's deadline with what was missing.
func awaitReady(ctx context.Context, m *machine, w *providers.Work) (providers.Result, error) {
	f, err := m.facts(ctx)
	if err != nil {
		return providers.Result{}, err
	}
	b, err := newBuild(w, m.Name(), f)
	if err != nil {
		return providers.Result{}, err
	}
	pod := b.pod
	list, err := m.sandboxes(ctx, string(pod.UID))
	if err != nil {
		return providers.Result{}, m.explain(ctx, err)
	}
	if len(list) == 0 {
		return providers.Result{}, m.fail(w, "Pod is gone", "Pod %s is not on %s any more: something else removed it. Apply again to make it anew.", podName(pod), m.Name())
	}
	s := &sandbox{id: list[0].GetId()}
	if list[0].GetState() == runtimev1.PodSandboxState_SANDBOX_READY {
		if s.ip, err = m.sandboxIP(ctx, s.id); err != nil {
			return providers.Result{}, m.explain(ctx, err)
		}
	}
	if b, err = b.withIP(s.ip); err != nil {
		return providers.Result{}, err
	}
	if s.config, err = b.sandbox(list[0].GetMetadata().GetAttempt()); err != nil {
		return providers.Result{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.deadline(), errDeadline)
	defer cancel()
	watch := newWatch(m, b, s)
	if err := watch.until(ctx, watch.lasting); err != nil {
		return providers.Result{}, m.explain(ctx, err)
	}
	return providers.Result{Pod: &api.PodState{SandboxID: s.id, IP: b.ip, Ready: true}}, nil
}

// lasting reports whether a container is done, or has been ready for as long as asked.
func (w *watch) lasting(c *watched) bool {
	return c.completed || c.ready && !time.Now().Before(c.readySince.Add(w.hold(c)))
}

func (w *watch) hold(c *watched) time.Duration {
	hold := time.Duration(w.b.work.Step.Pod.MinReadySeconds) * time.Second
	if c.readiness == nil && c.startup == nil {
		hold = max(hold, settle)
	}
	return hold
}

// overdue is the error at the end of the pod's deadline: what each container was waiting for, and the log of the first of them.
func (w *watch) overdue(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var d strings.Builder
	fmt.Fprintf(&d, "Pod %s on %s: progress deadline exceeded after %s.", podName(w.b.pod), w.m.Name(), w.b.deadline())
	shown := false
	for _, c := range w.containers {
		if w.lasting(c) {
			continue
		}
		fmt.Fprintf(&d, "\nContainer %q: %s.", c.spec.Name, c.waitingFor())
		if shown || c.id == "" {
			continue
		}
		shown = true
		dir := logDir(w.b.pod.Namespace, w.b.pod.Name, string(w.b.pod.UID))
		lines, err := w.m.tail(ctx, dir+"/"+logPath(c.spec.Name, c.attempt), lastLines)
		switch {
		case err != nil:
			fmt.Fprintf(&d, "\nIts log could not be read: %v.", err)
		case len(lines) > 0:
			d.WriteString("\nIts last log lines:\n  " + strings.Join(lines, "\n  "))
		}
	}
	d.WriteString("\nCorrect the container or its probes, or raise progress_deadline_seconds, and apply again.")
	return w.m.fail(w.b.work, "Pod did not become ready", "%s", d.String())
}
