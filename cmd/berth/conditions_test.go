package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// The conditions of a deployment are Kubernetes' (semantics.md 3.3).
func TestDeploymentConditions(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ago := func(seconds int) time.Time { return now.Add(-time.Duration(seconds) * time.Second) }
	base := deploymentSeen{want: 4, least: 3, total: 4, updated: 4, ready: 4, available: 4, newest: "web-5d", deadline: time.Minute, begun: ago(1000), progressed: ago(900)}
	tests := []struct {
		name   string
		change func(*deploymentSeen)
		want   []string
	}{
		{"complete", func(*deploymentSeen) {}, []string{"Available True MinimumReplicasAvailable", "Progressing True NewReplicaSetAvailable"}},
		{"one pod is down", func(s *deploymentSeen) { s.available, s.was = 3, true }, []string{"Available True MinimumReplicasAvailable", "Progressing True NewReplicaSetAvailable"}},
		{"two are", func(s *deploymentSeen) { s.available, s.was = 2, true }, []string{"Available False MinimumReplicasUnavailable", "Progressing True NewReplicaSetAvailable"}},
		{"rolling", func(s *deploymentSeen) { s.total, s.updated, s.progressed = 5, 1, ago(10) }, []string{"Available True MinimumReplicasAvailable", "Progressing True ReplicaSetUpdated"}},
		{"the last new pod is not available", func(s *deploymentSeen) { s.available, s.progressed = 3, ago(60) }, []string{"Available True MinimumReplicasAvailable", "Progressing True ReplicaSetUpdated"}},
		{"and the deadline is over", func(s *deploymentSeen) { s.available, s.progressed = 3, ago(61) }, []string{"Available True MinimumReplicasAvailable", "Progressing False ProgressDeadlineExceeded"}},
		{"old pods are left, and the deadline is over", func(s *deploymentSeen) { s.total, s.updated = 5, 4 }, []string{"Available True MinimumReplicasAvailable", "Progressing False ProgressDeadlineExceeded"}},
		{"the rollout has just begun", func(s *deploymentSeen) { s.updated, s.begun = 0, now }, []string{"Available True MinimumReplicasAvailable", "Progressing True NewReplicaSetCreated"}},
		{"to a template from before", func(s *deploymentSeen) { s.updated, s.begun, s.returns = 0, now, true }, []string{"Available True MinimumReplicasAvailable", "Progressing True FoundNewReplicaSet"}},
		{"paused in the middle, for long", func(s *deploymentSeen) { s.total, s.updated, s.paused = 5, 1, true }, []string{"Available True MinimumReplicasAvailable", "Progressing Unknown DeploymentPaused"}},
		{"nobody knows when it began", func(s *deploymentSeen) { s.updated, s.begun, s.progressed = 2, time.Time{}, time.Time{} }, []string{"Available True MinimumReplicasAvailable", "Progressing True ReplicaSetUpdated"}},
		{"scaled up while a pod cannot be made", func(s *deploymentSeen) {
			s.want, s.least, s.failure, s.progressed = 5, 4, "no room", now
		}, []string{"Available True MinimumReplicasAvailable", "Progressing True ReplicaSetUpdated", "ReplicaFailure True FailedCreate"}},
		{"a failure that was made good", func(s *deploymentSeen) { s.failure = "no room" }, []string{"Available True MinimumReplicasAvailable", "Progressing True NewReplicaSetAvailable"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := base
			tt.change(&s)
			var got []string
			for _, c := range deploymentConditions(s, now) {
				got = append(got, string(c.Type)+" "+string(c.Status)+" "+c.Reason)
				if c.Reason == "ProgressDeadlineExceeded" && c.Message != `ReplicaSet "web-5d" has timed out progressing.` {
					t.Errorf("message %q", c.Message)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Only what the last run says of a pod that is not there is why there are too few.
func TestPodsThatWereNotMade(t *testing.T) {
	t.Parallel()
	web := api.Address{Kind: api.KindDeployment, Name: "web"}
	event := func(run uint64, pod, uid, kind, message string) api.ObjectEvent {
		return api.ObjectEvent{Run: run, Object: api.PodEventObject(web.WithPod(pod), "default", uid), Type: kind, Message: message}
	}
	there := []corev1.Pod{{}}
	there[0].UID = "2"
	tests := []struct {
		name   string
		events []api.ObjectEvent
		want   string
	}{
		{"none", nil, ""},
		{"of a pod that is there", []api.ObjectEvent{event(3, "b", "2", corev1.EventTypeWarning, "no room")}, ""},
		{"of an earlier run", []api.ObjectEvent{event(2, "a", "1", corev1.EventTypeWarning, "no room"), event(3, "b", "2", corev1.EventTypeNormal, "made")}, ""},
		{"of the last run", []api.ObjectEvent{event(3, "a", "1", corev1.EventTypeNormal, "made"), event(3, "a", "1", corev1.EventTypeWarning, "no room")}, "no room"},
	}
	for _, tt := range tests {
		l := &live{state: &api.State{Events: tt.events}}
		if got := l.notMade(web, there); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
