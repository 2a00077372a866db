package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime"
	"berth.dev/berth/watchdog"
)

// watchHands tend pods through the provider that apply uses.
type watchHands struct {
	sight  *watchSight
	goal   *watchGoal
	leader *watchLeader
	events *watchEvents
	probed func(kind, outcome string, took time.Duration)

	mu      sync.Mutex
	tenders map[string]*runtime.Tender // by uid
	stands  map[string]podStand        // likewise
}

// podStand is how a pod stood when it was last tended: what autoscalers ask.
type podStand struct {
	phase               corev1.PodPhase
	ready               bool
	readySince, started time.Time
}

// stand is how a pod stood when it was last tended. Of one that was not, nothing is known but that it is there.
func (w *watchHands) stand(uid string) podStand {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.stands[uid]; ok {
		return s
	}
	return podStand{phase: corev1.PodRunning}
}

func standOf(s *corev1.PodStatus) podStand {
	out := podStand{phase: s.Phase}
	if s.StartTime != nil {
		out.started = s.StartTime.Time
	}
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady {
			out.ready, out.readySince = c.Status == corev1.ConditionTrue, c.LastTransitionTime.Time
		}
	}
	return out
}

// Tend does what is due to a pod.
func (w *watchHands) Tend(ctx context.Context, r watchdog.TendRequest) (watchdog.Tended, error) {
	kept, work := w.goal.pod(r.Pod.UID)
	if kept == nil {
		return watchdog.Tended{}, fmt.Errorf("pod %s is not in the state any more", r.Pod.Address)
	}
	h, err := w.sight.host(ctx, r.Pod.Node)
	if err != nil {
		return watchdog.Tended{}, err
	}
	object := api.PodEventObject(r.Pod.Address, kept.Step.Pod.Pod.Namespace, r.Pod.UID)
	work.Term = r.Fence
	work.Event = func(e api.ObjectEvent) {
		e.Object, e.Node, e.Source = object, r.Pod.Node, "runtime"
		w.events.add(e)
	}
	var ended []runtime.End
	for _, e := range r.Ended {
		ended = append(ended, runtime.End(e))
	}
	t, err := w.tender(r.Pod.UID).Tend(ctx, h, &work, runtime.TendOptions{
		Look: r.Look, Anew: r.Anew, Ready: r.Ready, Ended: ended,
		Wake: func() { r.Wake(false) }, Probed: w.probed,
		May: func(ctx context.Context) (uint64, error) {
			if err := w.leader.held(ctx); err != nil {
				return 0, err
			}
			return w.goal.may(ctx, r.Pod.UID)
		},
	})
	if err != nil {
		return watchdog.Tended{}, w.leader.heed(err)
	}
	w.mu.Lock()
	if w.tenders[r.Pod.UID] != nil {
		w.stands[r.Pod.UID] = standOf(&t.Status)
	}
	w.mu.Unlock()
	return tendedOf(t), nil
}

func (w *watchHands) tender(uid string) *runtime.Tender {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tenders[uid] == nil {
		w.tenders[uid] = &runtime.Tender{}
	}
	return w.tenders[uid]
}

// Forget lets go of a pod.
func (w *watchHands) Forget(uid string) {
	w.mu.Lock()
	t := w.tenders[uid]
	delete(w.tenders, uid)
	delete(w.stands, uid)
	w.mu.Unlock()
	if t != nil {
		t.Close()
	}
}

func tendedOf(t runtime.Tended) watchdog.Tended {
	out := watchdog.Tended{
		Standing:   watchdog.Standing{Ready: isReady(&t.Status), IP: t.IP, SecondIP: t.SecondIP, SandboxID: t.SandboxID},
		PodListing: watchdog.PodListing{Digest: t.Digest, IDs: t.IDs},
		Again:      t.Again, Relook: t.Relook, Phase: string(t.Status.Phase), Over: t.Over, Lacks: t.Lacks,
	}
	for _, list := range [][]corev1.ContainerStatus{t.Status.InitContainerStatuses, t.Status.ContainerStatuses} {
		for _, c := range list {
			out.Restarts += int(c.RestartCount)
			if c.State.Waiting != nil && out.Waiting == "" {
				out.Waiting = c.State.Waiting.Reason
			}
		}
	}
	return out
}

func isReady(s *corev1.PodStatus) bool {
	return slices.ContainsFunc(s.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
}
