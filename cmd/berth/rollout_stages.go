package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/planner"
)

// pausedPath is where a deployment says that nothing of it rolls out.
const pausedPath = "spec.paused"

// stageCommand is one of the commands that steer a deployment's rollout.
type stageCommand struct {
	name, short, long, done string
	decide                  func(g *globals, s *api.State, o *api.Object) (changeRequest, error)
}

func newStageCommands(g *globals) []*cobra.Command {
	var out []*cobra.Command
	for _, c := range []stageCommand{
		{"pause", "Hold a deployment: other templates wait until it is resumed", `A paused deployment keeps the templates that its pods have: an edit of the template is recorded and changes no
pod, and a rollout that was interrupted stays where it is, which makes it a canary. Scaling works, and pods that fail
are made again. It is an override of paused, which every plan shows; berth rollout resume takes it back.`, "paused", pauseRollout},
		{"resume", "Let a paused rollout go on", `Takes back what berth rollout pause has done, or lets a rollout that waits at a step of its strategy go on to the
next one.`, "resumed", resumeRollout},
		{"promote", "Finish a rollout in stages without further pauses", `Lets a canary go on to its end, passing over the pauses and analyses that are left; has the services of a blue/green
deployment switch to the new side.`, "promoted", promoteRollout},
		{"abort", "Go back to the template that an unfinished rollout came from", `Takes the new pods of a rollout that has not ended away and makes old ones again where they are missing. The old
template is an override of the configured one, which an edit of the template ends.`, "aborted", abortRollout},
	} {
		var o changeOptions
		cmd := &cobra.Command{
			Use: c.name + " deployment/NAME", Short: c.short, Long: c.long, Args: cobra.RangeArgs(1, 2),
			Example: "  berth rollout " + c.name + " deployment/web",
			RunE: func(cmd *cobra.Command, args []string) error {
				g.json = o.json
				return change(cmd.Context(), g, "rollout "+c.name, o, func(s *api.State) (changeRequest, error) {
					obj, err := deploymentOf(s, o.namespace, args)
					if err != nil {
						return changeRequest{}, err
					}
					r, err := c.decide(g, s, obj)
					r.Targets, r.said = []string{obj.Address.String()}, objectName(obj)+" "+c.done
					return r, err
				})
			},
		}
		o.flags(g, cmd)
		out = append(out, cmd)
	}
	return out
}

// deploymentOf finds the deployment that a command names.
func deploymentOf(s *api.State, namespace string, args []string) (*api.Object, error) {
	o, err := applied(s, namespace, args)
	if err != nil {
		return nil, err
	}
	if _, ok := o.Value.(*api.Deployment); !ok {
		return nil, fail("Not a deployment", fmt.Sprintf("%s cannot be paused or resumed: only deployments can.", o.Address))
	}
	return o, nil
}

func pauseRollout(g *globals, s *api.State, o *api.Object) (changeRequest, error) {
	if isPaused(o) {
		return changeRequest{}, fail("Already paused", fmt.Sprintf("%s %q is already paused.", resourceName(o.Kind()), o.Name()))
	}
	v, err := g.override(o, pausedPath, pausedPath, true, "berth rollout pause")
	return changeRequest{Options: planner.Options{Overrides: []api.Override{v}}}, err
}

func resumeRollout(g *globals, s *api.State, o *api.Object) (changeRequest, error) {
	r := s.Rollout(o.Address)
	switch {
	case isPaused(o):
		return resumePaused(g, s, o)
	case r != nil && r.Paused:
		return changeRequest{Options: planner.Options{Rollouts: []planner.RolloutRequest{{Address: o.Address}}}}, nil
	}
	return changeRequest{}, fail("Not paused", fmt.Sprintf("%s %q is not paused.", resourceName(o.Kind()), o.Name()))
}

// resumePaused takes the override of a pause back, or puts one against the configuration's own word.
func resumePaused(g *globals, s *api.State, o *api.Object) (changeRequest, error) {
	k := api.OverrideKey{Address: o.Address, Path: pausedPath}
	configured, err := o.Configured(s.OverridesOf(o.Address))
	if err != nil {
		return changeRequest{}, err
	}
	if !isPaused(configured) && overrides(s, k) {
		return changeRequest{Options: planner.Options{Reset: []api.OverrideKey{k}}}, nil
	}
	v, err := g.override(o, pausedPath, pausedPath, false, "berth rollout resume")
	return changeRequest{Options: planner.Options{Overrides: []api.Override{v}}}, err
}

func promoteRollout(g *globals, s *api.State, o *api.Object) (changeRequest, error) {
	r := s.Rollout(o.Address)
	if r == nil {
		return changeRequest{}, fail("Nothing to promote", fmt.Sprintf("%s %q has no rollout in stages that has not ended.", resourceName(o.Kind()), o.Name()))
	}
	return changeRequest{Options: planner.Options{Rollouts: []planner.RolloutRequest{{Address: o.Address, Promote: true}}}}, nil
}

func abortRollout(g *globals, s *api.State, o *api.Object) (changeRequest, error) {
	history := s.RevisionsOf(o.Address)
	if n := len(history); n == 0 || history[n-1].Complete {
		return changeRequest{}, fail("Nothing to abort", fmt.Sprintf("%s %q has no rollout that has not ended.", resourceName(o.Kind()), o.Name()))
	}
	good, ok := lastComplete(history)
	if !ok {
		return changeRequest{}, fail("Nothing to go back to", fmt.Sprintf("%s %q has no revision that was complete.", resourceName(o.Kind()), o.Name()))
	}
	var r changeRequest
	same, err := sameTemplate(api.TemplateOf(o.Value), s.Pins, &good.Template, good.Pins)
	if err != nil || same {
		return r, err
	}
	r.Overrides, r.Reset, err = g.templateOverride(s, o, good, "berth rollout abort")
	return r, err
}

// lastComplete is the newest revision that all pods were of once.
func lastComplete(history []api.Revision) (api.Revision, bool) {
	for i := len(history) - 1; i >= 0; i-- {
		if history[i].Complete {
			return history[i], true
		}
	}
	return api.Revision{}, false
}
