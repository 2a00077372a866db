package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// daemonSet wants a pod on every node that its template may run on (semantics.md 3.5).
func daemonSet(d *appsv1.DaemonSet, in Inputs) (*Want, error) {
	t := d.Spec.Template.DeepCopy()
	w := &Want{
		Template: templateFor(t, in, appsv1.ControllerRevisionHashLabelKey), DeadlineSeconds: defaultDeadline, MinReadySeconds: d.Spec.MinReadySeconds,
	}
	tolerateNodes(&w.Template.Spec)
	hold := HoldNot
	if d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
		hold = HoldLiving
	}
	for _, node := range in.Nodes(w.Template) {
		w.Slots = append(w.Slots, Slot{Base: d.Name, Node: node, Hold: hold})
	}
	w.Replicas = len(w.Slots)
	var err error
	w.Order, err = perNode(d.Spec.UpdateStrategy.RollingUpdate, w.Replicas)
	return w, err
}

// perNode resolves percentages against the number of nodes; both round up. Nothing could ever change with both at 0.
func perNode(r *appsv1.RollingUpdateDaemonSet, nodes int) (PerNode, error) {
	one, none := intstr.FromInt32(1), intstr.FromInt32(0)
	surge, unavailable := &none, &one
	if r != nil {
		if r.MaxSurge != nil {
			surge = r.MaxSurge
		}
		if r.MaxUnavailable != nil {
			unavailable = r.MaxUnavailable
		} else if r.MaxSurge != nil && !zero(r.MaxSurge) {
			unavailable = &none
		}
	}
	up, err := intstr.GetScaledValueFromIntOrPercent(surge, nodes, true)
	if err != nil {
		return PerNode{}, fmt.Errorf("max_surge: %w", err)
	}
	down, err := intstr.GetScaledValueFromIntOrPercent(unavailable, nodes, true)
	if err != nil {
		return PerNode{}, fmt.Errorf("max_unavailable: %w", err)
	}
	if up == 0 && down == 0 {
		down = 1
	}
	return PerNode{Surge: up, Unavailable: down}, nil
}

func zero(v *intstr.IntOrString) bool {
	n, err := intstr.GetScaledValueFromIntOrPercent(v, 100, true)
	return err == nil && n == 0
}

// tolerateNodes adds the tolerations that keep a pod on its node whatever befalls that.
func tolerateNodes(spec *corev1.PodSpec) {
	add := func(key string, effect corev1.TaintEffect) {
		for i, t := range spec.Tolerations { // those that PodDefaults adds end after a time: these do not
			if t.Key == key && t.Operator == corev1.TolerationOpExists && t.Effect == effect {
				spec.Tolerations[i].TolerationSeconds = nil
				return
			}
		}
		spec.Tolerations = append(spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect})
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	for _, key := range []string{corev1.TaintNodeDiskPressure, corev1.TaintNodeMemoryPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeUnschedulable} {
		add(key, corev1.TaintEffectNoSchedule)
	}
	if spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
}
