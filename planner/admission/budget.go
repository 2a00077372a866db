package admission

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// BudgetPod is one pod as a disruption budget sees it.
type BudgetPod struct {
	Name     string
	Labels   map[string]string
	Phase    corev1.PodPhase
	Ready    bool
	Deleting bool // going already, or evicted a moment ago
	// Owner is its controller and Replicas how many pods that wants; "" and 0 for a pod without one.
	Owner    string
	Replicas int
}

// Budget is what a disruption budget comes to just now (semantics.md 3.8).
type Budget struct {
	Name               string
	Expected           int // pods that there should be
	Desired            int // pods that must stay healthy
	Healthy            int // pods that are
	DisruptionsAllowed int
	always             bool // pods that are not ready may go whatever the numbers
}

// BudgetOf counts the pods of a namespace that a budget selects. An error means that the budget cannot be read.
func BudgetOf(b *policyv1.PodDisruptionBudget, pods []BudgetPod) (Budget, error) {
	out := Budget{Name: b.Name, always: b.Spec.UnhealthyPodEvictionPolicy != nil && *b.Spec.UnhealthyPodEvictionPolicy == policyv1.AlwaysAllow}
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return out, err
	}
	count, wanted, owners := 0, 0, map[string]bool{}
	for _, p := range pods {
		if !selector.Matches(labels.Set(p.Labels)) {
			continue
		}
		count++
		if p.Ready && !p.Deleting && p.Phase == corev1.PodRunning {
			out.Healthy++
		}
		if p.Owner != "" && !owners[p.Owner] {
			owners[p.Owner] = true
			wanted += p.Replicas
		}
	}
	switch least, most := b.Spec.MinAvailable, b.Spec.MaxUnavailable; {
	case most != nil:
		out.Expected = wanted
		n, err := intstr.GetScaledValueFromIntOrPercent(most, wanted, true)
		if err != nil {
			return out, fmt.Errorf("max_unavailable: %w", err)
		}
		out.Desired = max(0, wanted-n)
	case least != nil && least.Type == intstr.Int:
		out.Expected, out.Desired = count, least.IntValue()
	case least != nil:
		out.Expected = wanted
		if out.Desired, err = intstr.GetScaledValueFromIntOrPercent(least, wanted, true); err != nil {
			return out, fmt.Errorf("min_available: %w", err)
		}
	}
	if out.Expected > 0 {
		out.DisruptionsAllowed = max(0, out.Healthy-out.Desired)
	}
	return out, nil
}

// Selects reports whether a budget is for a pod with such labels.
func Selects(b *policyv1.PodDisruptionBudget, podLabels map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && selector.Matches(labels.Set(podLabels))
}

// MayEvict says whether the budgets that select a pod let it go, and otherwise why not, in Kubernetes' words. Whoever evicts it asks
// again with new budgets for the next one.
func MayEvict(p BudgetPod, budgets []Budget) (refusal string) {
	if p.Phase == corev1.PodPending || p.Phase == corev1.PodSucceeded || p.Phase == corev1.PodFailed || p.Deleting || len(budgets) == 0 {
		return ""
	}
	if len(budgets) > 1 {
		return "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
	}
	b := budgets[0]
	if b.DisruptionsAllowed > 0 || !p.Ready && (b.always || b.Healthy >= b.Desired && b.Desired > 0) {
		return ""
	}
	return fmt.Sprintf("Cannot evict pod as it would violate the pod's disruption budget. The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Desired, b.Healthy)
}
