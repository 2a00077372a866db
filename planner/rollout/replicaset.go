package rollout

import (
	appsv1 "k8s.io/api/apps/v1"

	"berth.dev/berth/api"
)

// replicaSet wants replicas of one template. A changed template is for new pods alone: those that run stay as they are
// (semantics.md 3.2). One that has never been ready runs in nobody's service, and would keep a corrected template from being tried. Where pods have to move, they do so like those of a deployment.
func replicaSet(r *appsv1.ReplicaSet, in Inputs) (*Want, error) {
	w := &Want{
		Replicas: number(r.Spec.Replicas), Slots: []Slot{{Base: r.Name, Hold: HoldReady}},
		Template: templateFor(&r.Spec.Template, in, ""), DeadlineSeconds: defaultDeadline, MinReadySeconds: r.Spec.MinReadySeconds,
	}
	var err error
	w.Order, err = strategyOf(api.DeploymentStrategy{}, w.Replicas)
	return w, err
}
