package main

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

// defaultProgress is how many seconds a deployment may take from one progress to the next where it does not say it.
const defaultProgress = 600

// deploymentSeen is what the conditions of a deployment follow from.
type deploymentSeen struct {
	want, least                      int32 // pods that are wanted, and that have to be available meanwhile
	total, updated, ready, available int32
	newest                           string // the newest template, as Kubernetes names its replica set
	returns, was                     bool   // the newest template is one from before; all pods were of it once
	paused                           bool
	begun                            time.Time // when the rollout to the newest template began; zero when nobody knows
	progressed                       time.Time // when a pod was last made or became ready
	deadline                         time.Duration
	failure                          string // why a pod is not even there
}

// deploymentConditions are Available, Progressing and, where a pod could not be made, ReplicaFailure (semantics.md 3.3). The deadline runs from
// the last progress, and not while the deployment is paused.
func deploymentConditions(s deploymentSeen, now time.Time) []appsv1.DeploymentCondition {
	condition := func(t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) appsv1.DeploymentCondition {
		return appsv1.DeploymentCondition{Type: t, Status: status, Reason: reason, Message: message}
	}
	out := []appsv1.DeploymentCondition{condition(appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.")}
	if s.available < s.least {
		out[0] = condition(appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
	}
	progressing := func(status corev1.ConditionStatus, reason, message string) {
		out = append(out, condition(appsv1.DeploymentProgressing, status, reason, message))
	}
	set := fmt.Sprintf("ReplicaSet %q ", s.newest)
	last := s.begun
	if s.progressed.After(last) {
		last = s.progressed
	}
	switch rolled := s.updated >= s.want && s.total == s.updated; {
	case s.paused:
		progressing(corev1.ConditionUnknown, "DeploymentPaused", "Deployment is paused")
	case rolled && (s.available >= s.want || s.was):
		progressing(corev1.ConditionTrue, "NewReplicaSetAvailable", set+"has successfully progressed.")
	case !last.IsZero() && now.Sub(last) > s.deadline:
		progressing(corev1.ConditionFalse, "ProgressDeadlineExceeded", set+"has timed out progressing.")
	case s.updated > 0:
		progressing(corev1.ConditionTrue, "ReplicaSetUpdated", set+"is progressing.")
	case s.returns:
		progressing(corev1.ConditionTrue, "FoundNewReplicaSet", fmt.Sprintf("Found new replica set %q", s.newest))
	default:
		progressing(corev1.ConditionTrue, "NewReplicaSetCreated", fmt.Sprintf("Created new replica set %q", s.newest))
	}
	if s.failure != "" && s.total < s.want {
		out = append(out, condition(appsv1.DeploymentReplicaFailure, corev1.ConditionTrue, "FailedCreate", s.failure))
	}
	return out
}

// conditionsOf looks at a deployment's pods and its newest revision.
func (l *live) conditionsOf(a api.Address, d *api.Deployment, t tally) []appsv1.DeploymentCondition {
	s := deploymentSeen{
		want: count(d.Spec.Replicas), total: t.total, updated: t.updated, ready: t.ready, available: t.available,
		newest: d.Name + "-" + l.newestHash(a, t.pods), was: true, paused: d.Spec.Paused, deadline: defaultProgress * time.Second,
	}
	least, err := rollout.LeastAvailable(d.Spec.Strategy, int(s.want))
	if err != nil { // it was refused when it was applied
		least = int(s.want)
	}
	s.least = int32(least)
	if p := d.Spec.ProgressDeadlineSeconds; p != nil {
		s.deadline = time.Duration(*p) * time.Second
	}
	if r := l.state.Rollout(a); r != nil && r.Paused {
		s.paused = true
	}
	if revisions := l.state.RevisionsOf(a); len(revisions) > 0 {
		r := revisions[len(revisions)-1]
		s.was, s.returns = r.Complete, len(r.Former) > 0
		if r.At != nil {
			s.begun = *r.At
		}
	}
	for i := range t.pods {
		p := &t.pods[i]
		s.progressed = later(s.progressed, p.CreationTimestamp.Time)
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				s.progressed = later(s.progressed, c.LastTransitionTime.Time)
			}
		}
	}
	s.failure = l.notMade(a, t.pods)
	return deploymentConditions(s, l.now)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// notMade is what the last run has said of a pod of an object that it could not make, and of which nothing is there.
func (l *live) notMade(a api.Address, pods []corev1.Pod) string {
	var run uint64
	for i := range l.state.Events {
		run = max(run, l.state.Events[i].Run)
	}
	there := map[string]bool{}
	for i := range pods {
		there[string(pods[i].UID)] = true
	}
	text := ""
	for i := range l.state.Events {
		e := &l.state.Events[i]
		pod := e.Object.Address
		if e.Run == run && e.Type == corev1.EventTypeWarning && pod.Pod != "" && pod.Owner() == a && !there[e.Object.UID] {
			text = e.Message
		}
	}
	return text
}
