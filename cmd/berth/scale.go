package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
)

type scaleCommand struct {
	changeOptions
	replicas int32
	current  int32
}

// replicasPath is where objects have the number of their pods.
const replicasPath = "spec.replicas"

func newScale(g *globals) *cobra.Command {
	var o scaleCommand
	cmd := &cobra.Command{
		Use:   "scale KIND/NAME --replicas N",
		Short: "Change how many pods a workload has, until the configuration says otherwise",
		Long: `Plans the change from what was last applied, shows it, asks, and does it. Edits of the
configuration that were not applied yet stay out of it.

The number is an override: the state remembers who set it, every plan shows it, and editing replicas
in the configuration ends it. Scaling to the number that the configuration has takes the override back.`,
		Example: `  berth scale deployment/web --replicas 5
  berth scale deploy web --replicas 5 --current-replicas 3    only if it has 3 now`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			if err := o.check(cmd); err != nil {
				return err
			}
			return change(cmd.Context(), g, "scale", o.changeOptions, func(s *api.State) (changeRequest, error) { return o.decide(g, s, args) })
		},
	}
	o.flags(g, cmd)
	cmd.Flags().Int32Var(&o.replicas, "replicas", -1, "the `number` of pods; required")
	cmd.Flags().Int32Var(&o.current, "current-replicas", -1, "do it only if there are this `number` of pods wanted now")
	return cmd
}

func (o *scaleCommand) check(cmd *cobra.Command) error {
	switch {
	case !cmd.Flags().Changed("replicas"):
		return usageError{errors.New("--replicas says how many pods there shall be: give it")}
	case o.replicas < 0:
		return usageError{fmt.Errorf("--replicas=%d: must be greater than or equal to 0", o.replicas)}
	case cmd.Flags().Changed("current-replicas") && o.current < 0:
		return usageError{fmt.Errorf("--current-replicas=%d: must be greater than or equal to 0", o.current)}
	}
	return nil
}

func (o *scaleCommand) decide(g *globals, s *api.State, args []string) (changeRequest, error) {
	obj, err := applied(s, o.namespace, args)
	if err != nil {
		return changeRequest{}, err
	}
	if f, ok := api.FieldOf(obj.Address.Kind, replicasPath); !ok || !f.Honoured {
		return changeRequest{}, fail("Cannot be scaled", fmt.Sprintf("%s has no replicas: objects of kind %s are what they are.", obj.Address, obj.Address.Kind))
	}
	now, err := replicasOf(obj)
	if err != nil {
		return changeRequest{}, err
	}
	if o.current >= 0 && now != o.current {
		return changeRequest{}, fail("Precondition failed", fmt.Sprintf("Expected replicas to be %d, was %d.", o.current, now))
	}
	configured, err := obj.Configured(s.OverridesOf(obj.Address))
	if err != nil {
		return changeRequest{}, err
	}
	wants, err := replicasOf(configured)
	if err != nil {
		return changeRequest{}, err
	}
	r := changeRequest{said: objectName(obj) + " scaled"}
	r.Targets = []string{obj.Address.String()}
	switch {
	case o.replicas == now:
	case o.replicas == wants:
		r.Reset = []api.OverrideKey{{Address: obj.Address, Path: replicasPath}}
	default:
		v, err := g.override(obj, replicasPath, replicasPath, o.replicas, "berth scale")
		if err != nil {
			return changeRequest{}, err
		}
		r.Overrides = []api.Override{v}
	}
	return r, nil
}

// replicasOf is how many pods an object asks for: 1 when it does not say.
func replicasOf(o *api.Object) (int32, error) {
	v, err := o.At(replicasPath)
	if err != nil || v == nil {
		return 1, err
	}
	n, err := strconv.ParseInt(string(v), 10, 32)
	return int32(n), err
}

func jsonOf(v any) (api.RawJSON, error) {
	if v == nil {
		return nil, nil
	}
	return json.Marshal(v)
}
