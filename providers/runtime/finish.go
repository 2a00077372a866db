package runtime

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime/life"
)

// awaitEnd keeps a pod of a job (restarts with their pauses, probes, kills) until it has come to its end, and says how. That it
// failed is an answer, not an error. The pod stays, for its logs.
func awaitEnd(ctx context.Context, m *machine, w *providers.Work) (providers.Result, error) {
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
	end := &providers.PodEnd{}
	restarts := int32(-1)
	goal := func(_ context.Context, seen *life.Seen, d *life.Decision) (bool, error) {
		if seen.Sandbox == nil && d.Over == "" {
			end.Phase, end.Gone, end.Finished, end.Reason = corev1.PodFailed, true, m.now(), "it is not on "+m.Name()+" any more"
			return true, nil
		}
		if n := restartsOf(seen); n != restarts && w.Restarted != nil {
			restarts = n
			w.Restarted(n)
		}
		if d.Over == "" || len(d.Actions) > 0 {
			return false, nil
		}
		*end = endOf(b.pod, seen, d)
		return true, nil
	}
	if err := k.until(ctx, goal); err != nil {
		return providers.Result{}, m.explain(ctx, k.ended(ctx, err))
	}
	if name := failedContainer(end.Containers); end.Phase == corev1.PodFailed && name != "" {
		end.Log = k.logOf(ctx, name)
	}
	return providers.Result{End: end}, nil
}

// endOf is how a pod ended, by what was seen of its containers.
func endOf(pod *corev1.Pod, seen *life.Seen, d *life.Decision) providers.PodEnd {
	end := providers.PodEnd{Phase: d.Over, Reason: d.Reason}
	for _, c := range allContainers(&pod.Spec) {
		s := seen.Container(c.Name)
		if s == nil || s.State != api.ContainerExited {
			continue
		}
		end.Containers = append(end.Containers, api.ContainerEnd{Name: c.Name, ExitCode: s.ExitCode, Reason: s.Reason})
		if s.FinishedAt.After(end.Finished) {
			end.Finished = s.FinishedAt
		}
		if s.ExitCode != 0 && end.Reason == "" && d.Over == corev1.PodFailed {
			end.Reason = fmt.Sprintf("container %s ended with exit code %d", c.Name, s.ExitCode)
			if s.Reason != "" && s.Reason != "Error" {
				end.Reason += " (" + s.Reason + ")"
			}
		}
	}
	if end.Finished.IsZero() {
		end.Finished = time.Now()
	}
	return end
}

func restartsOf(seen *life.Seen) int32 {
	var n int32
	for i := range seen.Containers {
		n += int32(seen.Containers[i].Attempt)
	}
	return n
}

func failedContainer(list []api.ContainerEnd) string {
	for _, c := range list {
		if c.ExitCode != 0 {
			return c.Name
		}
	}
	return ""
}
