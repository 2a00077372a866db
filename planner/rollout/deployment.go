package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
)

// defaultDeadline is how many seconds a pod has to become ready where the workload does not say it.
const defaultDeadline = 600

// deployment wants replicas of one template that change over in waves or all at once (semantics.md 3.3).
func deployment(d *api.Deployment, in Inputs) (*Want, error) {
	w := &Want{
		Replicas:        number(d.Spec.Replicas),
		Template:        templateFor(&d.Spec.Template, in, api.LabelTemplateHash),
		DeadlineSeconds: defaultDeadline,
		MinReadySeconds: d.Spec.MinReadySeconds,
	}
	w.Slots = []Slot{{Base: cut(d.Name, maxBase-1-len(w.Template.Hash)) + "-" + w.Template.Hash}}
	if d.Spec.ProgressDeadlineSeconds != nil {
		w.DeadlineSeconds = *d.Spec.ProgressDeadlineSeconds
	}
	var err error
	w.Order, err = strategyOf(d.Spec.Strategy, w.Replicas)
	return w, err
}

// strategyOf resolves percentages against the number of replicas: surge rounds up, unavailable rounds down, and
// when both come to nothing one pod may be unavailable, since nothing could ever change otherwise.
func strategyOf(s api.DeploymentStrategy, replicas int) (Strategy, error) {
	if s.Type == appsv1.RecreateDeploymentStrategyType {
		return Strategy{Recreate: true}, nil
	}
	quarter := intstr.FromString("25%")
	surge, unavailable := &quarter, &quarter
	if r := s.RollingUpdate; r != nil {
		if r.MaxSurge != nil {
			surge = r.MaxSurge
		}
		if r.MaxUnavailable != nil {
			unavailable = r.MaxUnavailable
		}
	}
	up, err := intstr.GetScaledValueFromIntOrPercent(surge, replicas, true)
	if err != nil {
		return Strategy{}, fmt.Errorf("max_surge: %w", err)
	}
	down, err := intstr.GetScaledValueFromIntOrPercent(unavailable, replicas, false)
	if err != nil {
		return Strategy{}, fmt.Errorf("max_unavailable: %w", err)
	}
	if up == 0 && down == 0 {
		down = 1
	}
	return Strategy{Surge: up, Unavailable: min(down, replicas)}, nil
}
