package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/planner"
	"berth.dev/berth/providers"
	"berth.dev/berth/statefile"
)

// telling are the operations whose failure says that a release is no good.
var telling = map[api.Op]bool{api.OpPodEnsure: true, api.OpPodReady: true, api.OpImageEnsure: true, api.OpAnalyseCommand: true, api.OpAnalyseHTTP: true}

// revert goes back to the last complete revision of every deployment with auto_revert whose rollout has failed. What it did or
// could not do is added to the diagnostics of the failure; nil when there was nothing to go back from. A host that was lost
// says nothing about a release.
func (r *round) revert(ctx context.Context, f *statefile.File, plan *api.Plan, outcome executor.Outcome, o applyCommand) api.Diagnostics {
	back := failedRollouts(plan, f.State(), outcome)
	if len(back) == 0 {
		return nil
	}
	opts := planner.Options{Applied: true}
	var names []string
	for _, g := range back {
		overrides, reset, err := r.g.templateOverride(f.State(), g.object, g.revision, "auto_revert")
		if err != nil {
			return api.DiagnosticsOf(err, "Rollout was not reverted")
		}
		if same, err := sameTemplate(api.TemplateOf(g.object.Value), f.State().Pins, &g.revision.Template, g.revision.Pins); err != nil || same {
			overrides, reset = nil, nil // what was last applied is just that
		}
		opts.Overrides, opts.Reset = append(opts.Overrides, overrides...), append(opts.Reset, reset...)
		opts.Targets = append(opts.Targets, g.object.Address.String())
		names = append(names, fmt.Sprintf("%s to revision %d", g.object.Address, g.revision.Number))
	}
	what := strings.Join(names, ", ")
	if !o.json {
		r.g.out.Printf("\nauto_revert: going back, %s.\n\n", what)
	}
	going, seen, err := r.planApplied(ctx, f.State(), nil, opts)
	if err == nil {
		r.showPlan(going)
		err = r.carryOut(ctx, f, going, seen, applyCommand{planOptions: r.opts, autoApprove: true, reverting: true})
	}
	if err != nil {
		return append(api.DiagnosticsOf(err, "Rollout was not reverted"), api.Diagnostic{Severity: api.SeverityError, Summary: "Rollout was not reverted",
			Detail: "After the failure Berth tried to go back, " + what + ", as auto_revert asks, and that has failed too. Correct what is in the way and apply, or go back with berth rollout undo."})
	}
	return api.Diagnostics{{Severity: api.SeverityError, Summary: "Rollout was reverted",
		Detail: "After the failure Berth went back, " + what + ", as auto_revert asks. The configuration still wants what has failed: correct it before the next apply."}}
}

// failedRollout is a deployment whose rollout has failed, and where to go back to.
type failedRollout struct {
	object   *api.Object // as last applied
	revision api.Revision
}

// failedRollouts finds the deployments with auto_revert among what has failed. One that was never complete has nothing to go
// back to.
func failedRollouts(plan *api.Plan, s *api.State, outcome executor.Outcome) []failedRollout {
	var out []failedRollout
	for _, f := range outcome.Failed {
		a := f.Step.Address.Owner()
		if !telling[f.Step.Op] || errors.Is(f.Err, providers.ErrUnreachable) || slices.ContainsFunc(out, func(g failedRollout) bool { return g.object.Address == a }) {
			continue
		}
		history, prior := s.RevisionsOf(a), s.Object(a)
		good, ok := lastComplete(history)
		if prior == nil || !ok || !wantsRevert(plan, prior) || history[len(history)-1].Complete {
			continue
		}
		out = append(out, failedRollout{prior, good})
	}
	return out
}

// wantsRevert reports whether a deployment, as the plan wanted it, goes back by itself.
func wantsRevert(plan *api.Plan, prior *api.Object) bool {
	wanted := prior
	for _, c := range plan.Changes {
		if c.Address == prior.Address && c.After != nil {
			wanted = c.After
		}
	}
	d, ok := wanted.Value.(*api.Deployment)
	return ok && d.Spec.AutoRevert
}
