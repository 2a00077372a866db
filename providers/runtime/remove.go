package runtime

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
)

const (
	defaultGrace = 30 // seconds
	minGrace     = 2
)

// remove stops the pod's containers within its grace period and takes away everything that it has on the host. A pod that is not there is
// gone already; its files are looked for all the same.
func remove(ctx context.Context, m *machine, w *providers.Work) error {
	pod := w.Step.Pod.Pod
	list, err := m.sandboxes(ctx, string(pod.UID))
	if err != nil {
		return m.explain(ctx, err)
	}
	if len(list) > 0 {
		if err := m.stopContainers(ctx, w); err != nil {
			return m.explain(ctx, err)
		}
	}
	// RemovePodSandbox alone: it stops the sandbox, and stopping it before would run the network plugins twice.
	for _, s := range list {
		if err := m.removeSandbox(ctx, s.GetId()); err != nil {
			return m.explain(ctx, err)
		}
	}
	if err := m.forget(ctx, pod, false); err != nil {
		return err
	}
	return m.lastOne(ctx, pod)
}

// lastOne takes away what all pods share when none is left. Of pods that are removed at the same time each looks after its
// own files are gone, one after the other, so that the last one finds nobody else's.
func (m *machine) lastOne(ctx context.Context, pod *corev1.Pod) error {
	m.leaving.Lock()
	defer m.leaving.Unlock()
	if !m.starting.TryLock() {
		return nil
	}
	defer m.starting.Unlock()
	last, err := m.deserted(ctx)
	if err != nil {
		return m.explain(ctx, err)
	}
	if !last {
		return nil
	}
	return m.forget(ctx, pod, true)
}

// deserted reports whether no pod of ours is left on the host.
func (m *machine) deserted(ctx context.Context) (bool, error) {
	resp, err := m.cri.Runtime.ListPodSandbox(ctx, &runtimev1.ListPodSandboxRequest{})
	if err != nil {
		return false, fmt.Errorf("list sandboxes: %w", err)
	}
	ours := func(s *runtimev1.PodSandbox) bool { return s.GetLabels()[api.LabelLineage] != "" }
	return !slices.ContainsFunc(resp.GetItems(), ours), nil
}

// stopContainers stops them all at once, sidecars after those they serve, in reverse order. All share one grace period.
func (m *machine) stopContainers(ctx context.Context, w *providers.Work) error {
	pod := w.Step.Pod.Pod
	containers, err := m.containers(ctx, byUID(string(pod.UID)))
	if err != nil {
		return err
	}
	running := slices.DeleteFunc(containers, func(c *runtimev1.Container) bool {
		return c.GetState() == runtimev1.ContainerState_CONTAINER_EXITED || c.GetState() == runtimev1.ContainerState_CONTAINER_CREATED
	})
	deadline := time.Now().Add(time.Duration(graceSeconds(pod)) * time.Second)
	for _, together := range stopOrder(pod, running) {
		g, gctx := errgroup.WithContext(ctx)
		for _, c := range together {
			g.Go(func() error { return m.stop(gctx, w, c, deadline) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) stop(ctx context.Context, w *providers.Work, c *runtimev1.Container, deadline time.Time) error {
	left := max(int64(time.Until(deadline).Round(time.Second).Seconds()), minGrace)
	report(w, "stopping container %s, at most %ds", c.GetMetadata().GetName(), left)
	happened(w, c.GetMetadata().GetName(), "Killing", "Stopping container %s", c.GetMetadata().GetName())
	_, err := m.cri.Runtime.StopContainer(ctx, &runtimev1.StopContainerRequest{ContainerId: c.GetId(), Timeout: left})
	if err != nil && !cri.IsNotFound(err) {
		return fmt.Errorf("stop container %s: %w", c.GetMetadata().GetName(), err)
	}
	return nil
}

// stopOrder groups containers: everything but sidecars first, then sidecars one by one from the last to the first.
func stopOrder(pod *corev1.Pod, list []*runtimev1.Container) [][]*runtimev1.Container {
	var sidecars []string
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; isSidecar(c) {
			sidecars = append(sidecars, c.Name)
		}
	}
	order := make([][]*runtimev1.Container, 1+len(sidecars))
	for _, c := range list {
		i := slices.Index(sidecars, c.GetMetadata().GetName())
		group := 0
		if i >= 0 {
			group = len(sidecars) - i
		}
		order[group] = append(order[group], c)
	}
	return order
}

// graceSeconds is how long the pod's containers may take to stop.
func graceSeconds(pod *corev1.Pod) int64 {
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		return max(*pod.DeletionGracePeriodSeconds, minGrace)
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return max(*pod.Spec.TerminationGracePeriodSeconds, minGrace)
	}
	return defaultGrace
}
