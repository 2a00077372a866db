package schedule

import corev1 "k8s.io/api/core/v1"

// Eligible reports whether a node is one for the pods of which every node has one: whether it takes a new one, and whether
// one that runs there may stay. Only what node and pod declare is asked: node name, selector and taints; a NoSchedule taint
// sends no pod away (semantics.md 3.5).
func (s *Scheduler) Eligible(spec *corev1.PodSpec, nodeName string) (takes, keeps bool) {
	n := s.byName[nodeName]
	if n == nil {
		return false, false
	}
	allows := func(runs bool, rules ...func() filter) bool {
		r := &request{Pod: Pod{Spec: spec}, runs: runs, demand: s.demandOf(spec), sched: s}
		for _, rule := range rules {
			if check := rule().compile(r); check != nil && check(n) != nil {
				return false
			}
		}
		return true
	}
	keeps = allows(true, filterNodeName, filterSelector, filterTaints)
	return keeps && allows(false, filterUnschedulable, filterTaints), keeps
}
