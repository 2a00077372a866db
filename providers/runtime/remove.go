package runtime

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime/life"
)

// remove stops the pod's containers within its grace period and takes away everything that it has on the host. A pod that is not there is
// gone already; its files are looked for all the same.
//
// Beyond the grace period it takes no longer than any pod may: storage that hangs must not hold up the apply for ever.
func remove(ctx context.Context, m *machine, w *providers.Work) error {
	limit := (&build{work: w}).deadline()
	ctx, cancel := context.WithTimeoutCause(ctx, life.Grace(w.Step.Pod.Pod)+limit, errDeadline)
	defer cancel()
	err := takeAway(ctx, m, w)
	if err != nil && context.Cause(ctx) == errDeadline {
		warned(w, "", "ExceededGracePeriod", "Container runtime did not kill the pod within specified grace period.")
		return m.fail(w, "Pod cannot be removed", "Pod %s: some of it was still there %s after its grace period: %v. A file system of %s or containerd does not answer: look at what hangs there, and apply again.",
			podName(w.Step.Pod.Pod), limit, err, m.Name())
	}
	return err
}

func takeAway(ctx context.Context, m *machine, w *providers.Work) error {
	pod := w.Step.Pod.Pod
	for { // a call that a killed process has begun may end only now, and leave a sandbox of which nobody knew
		list, bare, err := m.stopContainers(ctx, w)
		if err != nil {
			return m.explain(ctx, err)
		}
		if len(list) == 0 {
			return m.clear(ctx, pod)
		}
		if bare { // it may have no folder yet, and has a cgroup
			if err := m.own(ctx, w, pod); err != nil {
				return err
			}
		}
		// RemovePodSandbox alone: it stops the sandbox, and stopping it before would run the network plugins twice.
		for _, s := range list {
			if err := m.removeSandbox(ctx, s.GetId()); err != nil {
				return m.explain(ctx, err)
			}
		}
		if list, err = m.sandboxes(ctx, string(pod.UID)); err != nil {
			return m.explain(ctx, err)
		}
		if len(list) == 0 {
			return m.clear(ctx, pod)
		}
	}
}

// clear takes away what is left on the host of a pod without containers.
func (m *machine) clear(ctx context.Context, pod *corev1.Pod) error {
	others, err := m.forget(ctx, pod, false)
	if err != nil {
		return err
	}
	m.forgetPod(string(pod.UID))
	if others {
		return nil
	}
	return m.lastOne(ctx, pod)
}

// lastOne takes away what all pods share when none is left. Of pods that are removed at the same time each looks after its
// own files are gone, one after the other, so that the last one finds nobody else's.
func (m *machine) lastOne(ctx context.Context, pod *corev1.Pod) error {
	if err := m.leaving.Take(ctx); err != nil {
		return err
	}
	defer m.leaving.Give()
	if !m.starting.TryAlone() {
		return nil
	}
	defer m.starting.Give()
	last, err := m.deserted(ctx)
	if err != nil {
		return m.explain(ctx, err)
	}
	if !last {
		return nil
	}
	_, err = m.forget(ctx, pod, true)
	return err
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

// stopContainers stops them in order within the grace period (see life.Next): preStop hooks, signals, sidecars last. Of a pod whose
// specification is no longer known its sandbox tells. It returns the pod's sandboxes, which are left, and whether they are without containers.
func (m *machine) stopContainers(ctx context.Context, w *providers.Work) (boxes []*runtimev1.PodSandbox, bare bool, err error) {
	pod := w.Step.Pod.Pod
	if len(pod.Spec.Containers) == 0 {
		list, err := m.sandboxes(ctx, string(pod.UID))
		if err != nil || len(list) == 0 {
			return nil, true, err
		}
		made := podAsMade(list[0])
		pod = pod.DeepCopy()
		pod.Spec = made.Spec
	}
	k := m.keeper(&build{work: w, pod: pod, node: m.Name(), nodeIP: w.NodeIP, secondNodeIP: w.SecondNodeIP})
	now := time.Now()
	deletion := life.Deletion{At: now, Grace: life.Grace(pod)}
	if l := w.Leaving; l != nil {
		deletion = begunDeletion(pod, l, now).Again(now, deletion.Grace)
	}
	k.deletion = &deletion
	err = k.until(ctx, func(_ context.Context, _ *life.Seen, d *life.Decision) (bool, error) {
		return d.Gone || len(k.known.boxes) == 0, nil
	})
	return k.known.boxes, len(k.known.containers) == 0, err
}

// begunDeletion is what an earlier run has begun, by our clock. That run read this one, or one like it.
func begunDeletion(pod *corev1.Pod, l *providers.Leaving, now time.Time) life.Deletion {
	first := pod.DeepCopy()
	first.DeletionGracePeriodSeconds = l.Grace
	return life.Deletion{At: now.Add(-max(0, now.Sub(l.Since))), Grace: life.Grace(first)}
}

// stopped are containers that containerd has stopped for us: it answers when they have ended, so nobody need ask.
type stopped struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (s *stopped) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		s.ids = map[string]bool{}
	}
	s.ids[id] = true
}

func (s *stopped) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[id]
}

// halfMade reports whether a container was made that did not run when we looked: the call of a killed process may start it under our hands, and
// then it is to be stopped as others are.
func (k *keeper) halfMade() bool {
	return slices.ContainsFunc(k.known.containers, func(c *runtimev1.Container) bool { return c.GetState() == runtimev1.ContainerState_CONTAINER_CREATED })
}

// asksByAddress reports whether stopping the pod takes its address.
func asksByAddress(pod *corev1.Pod) bool {
	return slices.ContainsFunc(allContainers(&pod.Spec), func(c *corev1.Container) bool {
		return c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.HTTPGet != nil
	})
}
