package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/planner"
	"berth.dev/berth/statefile"
)

func newDrift(g *globals) *cobra.Command {
	o := planOptions{parallelism: defaultParallelism}
	cmd := &cobra.Command{
		Use:   "drift",
		Short: "Show what on the hosts is not as it was last applied",
		Long: `Looks at every host and compares what Berth owns there with what was last applied: pods and their
containers, images, service rules, the pod network, volumes. The configuration plays no part.
Nothing is changed, and no lock is taken; berth apply puts right what it finds.

Exit code 0: no drift, 2: drift, 1: an error, or no drift found but not every host could be asked.`,
		Example: `  berth drift
  berth drift --json | jq -r 'select(.type == "resource_drift") | .change.resource.addr'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g.json = o.json
			return runDrift(cmd.Context(), g, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "one JSON object per line instead of text")
	f.IntVar(&o.parallelism, "parallelism", defaultParallelism, "how many hosts may be asked at once")
	return cmd
}

func runDrift(ctx context.Context, g *globals, o planOptions) error {
	r, err := newRound(g, o)
	if err != nil {
		return err
	}
	defer r.close()
	prior, err := statefile.Read(ctx, r.store)
	if err != nil {
		return err
	}
	plan, seen, err := r.planApplied(ctx, prior, nil, planner.Options{})
	if err != nil {
		return err
	}
	found := planner.Drift(plan, seen)
	if o.json {
		l := view.NewLines(g.proc.Stdout, nil)
		l.Version(g.proc.Version)
		l.Drift(plan.Unreachable, found)
	} else {
		g.out.Drift(prior, plan.Unreachable, found)
	}
	switch {
	case len(found) > 0:
		return exitCode(exitChanges)
	case len(plan.Unreachable) > 0:
		return fail("Not every host was compared", fmt.Sprintf("What there is on %s could not be seen, so nothing is known about it. Nothing else differs.", nodesOf(plan.Unreachable)))
	}
	return nil
}

func nodesOf(list []api.NodeReason) string {
	names := make([]string, len(list))
	for i, u := range list {
		names[i] = fmt.Sprintf("node %s (%s)", u.Node, u.Reason)
	}
	return strings.Join(names, ", ")
}
