package schedule

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// filterSelector refuses nodes whose labels do not match the pod's node selector and required node affinity.
// Later changes of labels do not send running pods away.
func filterSelector() filter {
	return filter{
		name:    "NodeAffinity",
		reach:   fixed,
		compile: compileSelector,
		only:    describeSelector,
	}
}

func compileSelector(r *request) check {
	if r.Spec == nil || len(r.Spec.NodeSelector) == 0 && (r.Spec.Affinity == nil || r.Spec.Affinity.NodeAffinity == nil) {
		return nil
	}
	required := nodeaffinity.NewRequiredNodeAffinity(r.Spec.NodeSelector, r.Spec.Affinity)
	want := describeSelector(r)
	return func(n *node) []Reason {
		match, err := required.Match(n.object)
		switch {
		case err != nil:
			return []Reason{{Text: "node(s) didn't match Pod's node affinity/selector", Detail: err.Error()}}
		case !match:
			return []Reason{{Text: "node(s) didn't match Pod's node affinity/selector", Detail: "needs a node " + want}}
		}
		return nil
	}
}

// describeSelector returns "with disk=ssd, zone=a".
func describeSelector(r *request) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(r.Spec.NodeSelector)) {
		pairs = append(pairs, k+"="+r.Spec.NodeSelector[k])
	}
	if a := r.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		pairs = append(pairs, "its node affinity")
	}
	return "with " + strings.Join(pairs, ", ")
}
