package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/planner/diff"
)

func newDiff(g *globals) *cobra.Command {
	var asJSON, detailed bool
	cmd := &cobra.Command{
		Use: "diff SERIAL [SERIAL]", Short: "Show in what two applies of the history differ", Args: cobra.RangeArgs(1, 2),
		Long: `Compares the objects, images and outputs that two applies left; with one serial, those of then
with those of now. berth history lists the serials. Values of secrets are never shown: that
they changed is.`,
		Example: "  berth diff 41 57\n  berth diff 41             41 with what is applied now\n  berth diff --detailed-exitcode 41",
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = asJSON
			return runDiff(cmd.Context(), g, args, asJSON, detailed)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit code 0: no difference, 1: error, 2: differences")
	cmd.ValidArgsFunction = g.completions(serials)
	return cmd
}

func runDiff(ctx context.Context, g *globals, args []string, asJSON, detailed bool) error {
	state, err := readState(ctx, g)
	if err != nil {
		return err
	}
	sides := []*api.Moment{nil, state.Present()}
	for i, arg := range args {
		if sides[i], err = momentOf(state, arg); err != nil {
			return err
		}
	}
	between, err := diff.Moments(state.Lineage, sides[0], sides[1])
	if err != nil {
		return err
	}
	if asJSON {
		side := func(m *api.Moment) any {
			if m.Record.Serial == 0 {
				return map[string]any{"serial": state.Serial, "present": true}
			}
			return view.RecordJSON(m.Record)
		}
		err = printJSON(g, view.BetweenJSON(side(sides[0]), side(sides[1]), between, g.proc.Version))
	} else if between.IsZero() {
		g.out.Println("No differences.")
	} else {
		g.out.Between(between)
	}
	if err == nil && detailed && !between.IsZero() {
		return exitCode(exitChanges)
	}
	return errors.Join(err)
}
