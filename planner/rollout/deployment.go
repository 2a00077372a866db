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
	w.Slots = []Slot{slotFor(d, w.Template)}
	if d.Spec.ProgressDeadlineSeconds != nil {
		w.DeadlineSeconds = *d.Spec.ProgressDeadlineSeconds
	}
	var err error
	switch strategy := d.Spec.Strategy; {
	case d.Spec.Paused:
		return w, held(w, d, in)
	case strategy.Type == api.CanaryStrategyType:
		in = in.of(w)
		w.Order, err = canaryOrder(strategy.Canary, w.Replicas, in)
	case strategy.Type == api.BlueGreenStrategyType:
		in = in.of(w)
		w.Order = blueGreen(strategy.BlueGreen, in.Rollout)
	default:
		w.Order, err = strategyOf(strategy, w.Replicas)
		return w, err
	}
	if in.Stable != nil {
		old := former(in.Stable, in)
		w.Slots = append(w.Slots, slotFor(d, old))
		w.Slots[1].Template = old
	}
	return w, err
}

// slotFor is the slot of all pods of one template.
func slotFor(d *api.Deployment, t *Template) Slot {
	return Slot{Base: cut(d.Name, maxBase-1-len(t.Hash)) + "-" + t.Hash}
}

// of leaves out what is not about a rollout to the wanted template. Without pods there are no stages.
func (in Inputs) of(w *Want) Inputs {
	if in.Rollout != nil && in.Rollout.Hash != w.Template.Hash {
		in.Rollout = nil
	}
	if in.Stable != nil && (in.Stable.Hash == w.Template.Hash || w.Replicas == 0) {
		in.Stable = nil
	}
	return in
}

func canaryOrder(c *api.CanaryDeployment, replicas int, in Inputs) (Order, error) {
	out, err := canary(c, replicas)
	if r := in.Rollout; r != nil {
		out.From, out.Promoted = r.Step, r.Promoted
		if r.Paused && r.Step < len(out.Stages) { // all of the gate is passed but its end
			gate := &out.Stages[r.Step].Gate
			gate.Seconds, gate.Analysis = 0, nil
		}
	}
	return out, err
}

// held makes a paused deployment keep the templates that its pods have.
func held(w *Want, d *api.Deployment, in Inputs) error {
	strategy := d.Spec.Strategy
	if strategy.Type == appsv1.RecreateDeploymentStrategyType {
		strategy = api.DeploymentStrategy{}
	}
	bounds, err := strategyOf(strategy, w.Replicas)
	if err != nil {
		return err
	}
	was, err := strategyOf(strategy, in.Before)
	if err != nil {
		return err
	}
	w.Order = Held{Strategy: bounds, Before: in.Before, SurgeBefore: was.Surge}
	for i := range in.Former {
		if in.Former[i].Hash == w.Template.Hash {
			continue
		}
		old := former(&in.Former[i], in)
		slot := slotFor(d, old)
		slot.Template = old
		w.Slots = append(w.Slots, slot)
	}
	return nil
}

// LeastAvailable is how many of n wanted pods have to be available for a deployment to be it, also while it rolls out. As in Kubernetes all of
// them where none may be missing by the strategy's own bounds, Recreate among them.
func LeastAvailable(s api.DeploymentStrategy, n int) (int, error) {
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType, api.BlueGreenStrategyType:
		return n, nil
	case api.CanaryStrategyType:
		c, err := canary(s.Canary, n)
		return c.Least(n), err
	}
	bounds, err := strategyOf(s, n)
	return bounds.Least(n), err
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
