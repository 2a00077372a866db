package planner

import (
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

// endingOf is what the order in which pods go looks at. Times are the hosts'; a pod that was not seen has none.
func (d *draft) endingOf(p *pod) rollout.Ending {
	e := rollout.Ending{Missing: p.missing, Phase: p.phase(), Seen: d.seenAt()}
	e.DeletionCost, _ = strconv.Atoi(p.annotations[corev1.PodDeletionCost]) // what is no number counts as 0, as upstream
	if p.seen == nil {
		return e
	}
	sidecars := sidecars(p.spec)
	for _, c := range p.seen.Containers {
		switch {
		case slices.Contains(sidecars, c.Name):
			e.SidecarRestarts = max(e.SidecarRestarts, int(c.Attempt))
		case !c.Init:
			e.Restarts = max(e.Restarts, int(c.Attempt))
		}
		if !c.Init && c.State == api.ContainerRunning && c.StartedAt.After(e.ReadySince) {
			e.ReadySince = c.StartedAt // at the earliest: when it became ready is not kept on its host
		}
	}
	return e
}

// phase is how far a pod has come, by what was seen of it (semantics.md 1.4).
func (p *pod) phase() corev1.PodPhase {
	switch {
	case p.fixed:
		return corev1.PodUnknown
	case p.seen == nil || !p.seen.SandboxReady:
		return corev1.PodPending
	}
	for _, name := range containerNames(p.spec, p.seen) {
		i := slices.IndexFunc(p.seen.Containers, func(c api.ObservedContainer) bool { return c.Name == name })
		if i < 0 || p.seen.Containers[i].State == api.ContainerCreated {
			return corev1.PodPending
		}
	}
	return corev1.PodRunning
}

// seenAt is the latest moment that the hosts told of: the nearest thing to a clock that a plan has.
func (d *draft) seenAt() time.Time {
	if d.asked || d.Observed == nil {
		return d.latest
	}
	d.asked = true
	for _, n := range d.Observed.Nodes {
		for i := range n.Pods {
			p := &n.Pods[i]
			times := []time.Time{p.CreatedAt, p.StartedAt}
			for _, c := range p.Containers {
				times = append(times, c.CreatedAt, c.StartedAt, c.FinishedAt)
			}
			for _, t := range times {
				if t.After(d.latest) {
					d.latest = t
				}
			}
		}
	}
	return d.latest
}
