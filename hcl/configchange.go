package hcl

import (
	hcl2 "github.com/hashicorp/hcl/v2"

	"berth.dev/berth/api"
)

// onConfigChange is the argument of workloads that says what becomes of their pods when config maps and secrets change.
const onConfigChange = "on_config_change"

// refuseConfigChange reports the argument in a block that has no pods.
func (m meta) refuseConfigChange(kind api.Kind) hcl2.Diagnostics {
	if m.onConfigChange == nil || kind.OwnsPods {
		return nil
	}
	return hcl2.Diagnostics{errorAt(m.onConfigChange.NameRange, "Unsupported argument",
		"%s says what becomes of running pods, so it belongs in workload blocks: a %s has no pods.", onConfigChange, kind.Name)}
}

// configChange reads the argument; roll is what a workload without it does.
func (m meta) configChange(ctx *hcl2.EvalContext) (api.ConfigChange, hcl2.Diagnostics) {
	if m.onConfigChange == nil {
		return api.ConfigRolls, nil
	}
	text, diags := stringOf(m.onConfigChange, ctx)
	switch text {
	case "", api.ConfigRolls.String():
		return api.ConfigRolls, diags
	case api.ConfigUpdates.String():
		return api.ConfigUpdates, diags
	}
	return api.ConfigRolls, append(diags, errorAt(m.onConfigChange.Expr.Range(), "Unsupported value",
		`%s: Unsupported value: %q: supported values: "roll", "update".`, onConfigChange, text))
}
