package hcl

import (
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	appsv1 "k8s.io/api/apps/v1"

	"berth.dev/berth/api"
)

// atMostOne is the argument of workloads that says that no two pods of one identity may ever run.
const atMostOne = "at_most_one"

// refuseAtMostOne reports the argument in a block whose pods have no identities, or of which there is one for each node.
func (m meta) refuseAtMostOne(kind api.Kind) hcl2.Diagnostics {
	if m.atMostOne == nil || kind.Name == api.KindDeployment || kind.Name == api.KindStatefulSet {
		return nil
	}
	return hcl2.Diagnostics{errorAt(m.atMostOne.NameRange, "Unsupported argument",
		"%s is about pods of which a second one must not be started before the first is dead: those of a deployment of one pod and of stateful sets. A %s has none such.", atMostOne, kind.Name)}
}

// onlyOne reads the argument. A deployment must have one pod at most, and stop it before it starts the next.
func (m meta) onlyOne(value api.Value, ctx *hcl2.EvalContext) (bool, hcl2.Diagnostics) {
	if m.atMostOne == nil {
		return false, nil
	}
	v, diags := plain(m.atMostOne, ctx, cty.Bool)
	if diags.HasErrors() || v.IsNull() || v.False() {
		return false, diags
	}
	if d, ok := value.(*api.Deployment); ok {
		refuse := func(format string, args ...any) {
			diags = append(diags, errorAt(m.atMostOne.NameRange, "Unsupported argument", format, args...))
		}
		if d.Spec.Replicas != nil && *d.Spec.Replicas > 1 {
			refuse("A deployment with %s has one pod at most, and this one is to have %d. Pods of a stateful set have identities of their own.", atMostOne, *d.Spec.Replicas)
		}
		if d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
			refuse("A deployment with %s stops its pod before it starts the next: give it strategy { type = %q }.", atMostOne, appsv1.RecreateDeploymentStrategyType)
		}
	}
	return true, diags
}
