package main

import (
	"testing"

	"berth.dev/berth/api"
)

// The lines are Kubernetes', in the order in which a rollout goes through them (semantics.md 8.5).
func TestProgressLines(t *testing.T) {
	t.Parallel()
	tests := []struct {
		p    progress
		want string
		done bool
	}{
		{progress{kind: api.KindDeployment, wanted: 3, total: 4, updated: 1}, `Waiting for deployment "web" rollout to finish: 1 out of 3 new replicas have been updated...`, false},
		{progress{kind: api.KindDeployment, wanted: 3, total: 4, updated: 3, updateReady: 3}, `Waiting for deployment "web" rollout to finish: 1 old replicas are pending termination...`, false},
		{progress{kind: api.KindDeployment, wanted: 3, total: 3, updated: 3, updateReady: 2}, `Waiting for deployment "web" rollout to finish: 2 of 3 updated replicas are available...`, false},
		{progress{kind: api.KindDeployment, wanted: 3, total: 3, updated: 3, updateReady: 3}, `Waiting for deployment spec update to be observed...`, false},
		{progress{kind: api.KindDeployment, wanted: 3, total: 3, updated: 3, updateReady: 3, complete: true}, `deployment "web" successfully rolled out`, true},
		{progress{kind: api.KindDaemonSet, wanted: 3, total: 3, updated: 1, ready: 3}, `Waiting for daemon set "web" rollout to finish: 1 out of 3 new pods have been updated...`, false},
		{progress{kind: api.KindDaemonSet, wanted: 3, total: 3, updated: 3, ready: 2}, `Waiting for daemon set "web" rollout to finish: 2 of 3 updated pods are available...`, false},
		{progress{kind: api.KindDaemonSet, wanted: 3, total: 3, updated: 3, ready: 3}, `daemon set "web" successfully rolled out`, true},
		{progress{kind: api.KindStatefulSet, wanted: 3, total: 3, ready: 2}, `Waiting for 1 pods to be ready...`, false},
		{progress{kind: api.KindStatefulSet, wanted: 3, total: 3, ready: 3, updated: 1, revision: "web-6d4c"}, `waiting for statefulset rolling update to complete 1 pods at revision web-6d4c...`, false},
		{progress{kind: api.KindStatefulSet, wanted: 3, total: 3, ready: 3, updated: 1, partition: 1}, `Waiting for partitioned roll out to finish: 1 out of 2 new pods have been updated...`, false},
		{progress{kind: api.KindStatefulSet, wanted: 3, total: 3, ready: 3, updated: 2, partition: 1}, `partitioned roll out complete: 2 new pods have been updated...`, true},
		{progress{kind: api.KindStatefulSet, wanted: 3, total: 3, ready: 3, updated: 3, revision: "web-6d4c"}, `statefulset rolling update complete 3 pods at revision web-6d4c...`, true},
	}
	for _, tt := range tests {
		tt.p.name = "web"
		if got, done := tt.p.line(); got != tt.want || done != tt.done {
			t.Errorf("%+v:\n%s %v, want\n%s %v", tt.p, got, done, tt.want, tt.done)
		}
	}
}
