package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/planner"
)

const refreshHelp = "change no host: only let the state take over what the hosts show"

func newRefresh(g *globals) *cobra.Command {
	o := applyCommand{planOptions: planOptions{refreshOnly: true, parallelism: defaultParallelism}, autoApprove: true}
	cmd := &cobra.Command{
		Use:   "refresh",
		Short: "Let the state take over what the hosts show",
		Long: `Changes no host. The state learns which pods are gone or not ready any more, which sandboxes were
made anew, which volumes are gone, and what the hosts say of themselves. It is berth apply
--refresh-only --auto-approve; berth plan --refresh-only shows it first. To repair what differs
is the next apply's business.`,
		Example: `  berth plan --refresh-only
  berth refresh`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g.json = o.json
			return runApply(cmd.Context(), g, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "one JSON object per line instead of text")
	f.DurationVar(&o.lockTimeout, "lock-timeout", 0, "how long to wait for the state's lock, as in 30s")
	f.IntVar(&o.parallelism, "parallelism", defaultParallelism, "how many hosts may be asked at once")
	return cmd
}

// checkRefresh refuses what --refresh-only would have to ignore.
func (o *planOptions) checkRefresh() error {
	if o.refreshOnly && (o.destroy || len(o.targets)+len(o.replace)+len(o.confirmDead)+len(o.fence) > 0) {
		return usageError{errors.New("--refresh-only changes no host: --destroy, --target, --replace, --confirm-dead and --fence do not go with it")}
	}
	return nil
}

// planOrRefresh is plan, or the plan that only the state follows, which needs no configuration.
func (r *round) planOrRefresh(ctx context.Context, prior *api.State) (*api.Plan, *api.Observation, error) {
	if r.opts.refreshOnly {
		return r.planApplied(ctx, prior, nil, planner.Options{RefreshOnly: true})
	}
	return r.plan(ctx, prior)
}
