package schedule

import (
	corev1 "k8s.io/api/core/v1"
	corev1helper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
)

// filterTaints refuses nodes with a NoSchedule or NoExecute taint that the pod does not tolerate; the first
// such taint is the reason. A pod that runs, or that has a node name and so does not ask the scheduler, is kept
// away by NoExecute alone.
func filterTaints() filter {
	return filter{
		name:    "TaintToleration",
		reach:   fixed,
		running: true,
		compile: func(r *request) check { return compileTaints(r.tolerations(), !r.runs && r.nodeName() == "") },
		only:    func(*request) string { return "whose taints it tolerates" },
	}
}

func compileTaints(tolerations []corev1.Toleration, scheduling bool) check {
	counts := func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute || scheduling && t.Effect == corev1.TaintEffectNoSchedule
	}
	return func(n *node) []Reason {
		if !n.schedulingTaint {
			return nil
		}
		t, found := corev1helper.FindMatchingUntoleratedTaint(klog.Logger{}, n.Taints, tolerations, counts, true)
		if !found {
			return nil
		}
		return []Reason{{Text: "node(s) had untolerated taint {" + t.Key + ": " + t.Value + "}", Detail: string(t.Effect)}}
	}
}

func tolerates(tolerations []corev1.Toleration, t *corev1.Taint) bool {
	return corev1helper.TolerationsTolerateTaint(klog.Logger{}, tolerations, t, true)
}

func (r *request) tolerations() []corev1.Toleration {
	if r.Spec == nil {
		return nil
	}
	return r.Spec.Tolerations
}
