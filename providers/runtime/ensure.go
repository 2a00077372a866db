package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime/life"
)

// ensure makes the pod run: its sandbox, its files, its init containers one after the other to their end, its containers with their postStart
// hooks. What is there already is taken as it is; what has ended and should run is started at once, whatever pause it had before it. It does
// not wait for readiness.
func ensure(ctx context.Context, m *machine, w *providers.Work) (providers.Result, error) {
	r, barren, err := begin(ctx, m, w)
	if barren {
		err = errors.Join(err, m.clearBarren(ctx, w.Step.Pod.Pod))
	}
	return r, err
}

// clearBarren takes away what the try to make a pod has left. What it had from before is its own: its files, its logs.
func (m *machine) clearBarren(ctx context.Context, pod *corev1.Pod) error {
	uid := string(pod.UID)
	out, err := m.Run(ctx, providers.Command{Script: barrenScript, Args: []string{podDir(uid), logDir(pod.Namespace, pod.Name, uid)}})
	if err != nil {
		return fmt.Errorf("look what pod %s has left: %w", podName(pod), err)
	}
	if len(out.Stdout) > 0 {
		return nil
	}
	return m.clear(ctx, pod)
}

// barrenScript prints a word when a pod has files beside the notes of its users and its owner, or logs.
const barrenScript = `set -u
for dir; do
	[ -d "$dir" ] || continue
	for name in $(ls -A -- "$dir"); do
		case $name in
		users | owner) ;;
		*)
			echo kept
			exit 0
			;;
		esac
	done
done
`

// begin is ensure without cleaning up after it. It reports whether nothing of the pod could be made.
func begin(ctx context.Context, m *machine, w *providers.Work) (r providers.Result, barren bool, err error) {
	if err := m.starting.Share(ctx); err != nil {
		return r, true, err
	}
	defer m.starting.Leave()
	f, err := m.facts(ctx)
	if err != nil {
		return r, false, err
	}
	b, err := newBuild(w, m.Name(), f)
	if err != nil {
		for _, c := range allContainers(&w.Step.Pod.Pod.Spec) {
			stuck(w, c.Name, "CreateContainerConfigError", "Error: %v", err)
		}
		return r, false, m.fail(w, "Pod cannot be made",
			"Pod %s: %v (CreateContainerConfigError). Correct the reference or declare what it names, and apply again.", podName(w.Step.Pod.Pod), err)
	}
	k := m.keeper(b)
	k.asked = m.now()
	ctx, cancel := context.WithTimeoutCause(ctx, b.deadline(), errDeadline)
	defer cancel()
	if err := k.until(ctx, k.begun); err != nil {
		return k.result(false), k.barren, m.explain(ctx, k.ended(ctx, err))
	}
	if k.prepared == nil && k.sandbox.GetState() == runtimev1.PodSandboxState_SANDBOX_READY {
		// Nothing had to be started: the content of its volumes may have changed all the same.
		if _, err := m.prepare(ctx, k.b, nil); err != nil {
			return k.result(false), false, m.explain(ctx, err)
		}
	}
	return k.result(false), false, nil
}

// patience is how long calls of an earlier process, which ended before they did, may stand in our way: a name reserved, a container that
// neither runs nor can be removed.
const patience = 15 * time.Second

const defaultDeadline = 600 * time.Second // progressDeadlineSeconds

// deadline bounds the init containers and the starts, and later the wait for readiness.
func (b *build) deadline() time.Duration {
	return cmp.Or(time.Duration(b.work.Step.Pod.DeadlineSeconds)*time.Second, defaultDeadline)
}

// begun is the goal of ensure: every container that is to go on running has begun, or the pod has come to its end.
func (k *keeper) begun(ctx context.Context, seen *life.Seen, d *life.Decision) (bool, error) {
	if k.b.work.Step.Pod.ToEnd {
		if d.Over != "" {
			return settled(d), nil
		}
	} else if err := k.hopeless(ctx, seen, d, len(k.b.pod.Spec.InitContainers)); err != nil || d.Over != "" {
		return settled(d), err
	}
	for _, s := range life.Standings(k.b.pod, seen) {
		// One that had ended before is started again first.
		ended := s.Seen != nil && s.Seen.State == api.ContainerExited && !k.started[s.Spec.Name] && life.Restarts(k.b.pod, s.Spec, s.Seen.ExitCode)
		if !s.Done && (!s.Begun || ended) {
			return false, nil
		}
	}
	return true, nil
}

// result is what the state takes over.
func (k *keeper) result(ready bool) providers.Result {
	return providers.Result{Pod: &api.PodState{SandboxID: k.sandbox.GetId(), IP: k.b.ip, SecondIP: k.b.secondIP, Ready: ready}}
}
