package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/planner"
)

type rollbackCommand struct {
	planOptions
	autoApprove   bool
	keepSensitive bool
}

func newRollback(g *globals) *cobra.Command {
	o := rollbackCommand{}
	cmd := &cobra.Command{
		Use: "rollback SERIAL", Short: "Go back to what an earlier apply left, digests of images included", Args: cobra.ExactArgs(1),
		Long: `Plans to make all objects as the apply with this serial left them, with the digests that their
images meant then, shows the plan, asks, and does it. berth history lists the serials. Nodes
stay those of now, and so does the data of volumes. Overrides by commands end.

The configuration is not asked and not changed: the next berth apply brings back what it says.

Without an encryption block the state keeps only hashes of secrets that are no longer in use.
A rollback that would need such a value is refused; --keep-sensitive takes the present one.`,
		Example: "  berth rollback 41\n  berth rollback 41 --auto-approve --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			return o.run(cmd.Context(), g, args[0])
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.autoApprove, "auto-approve", false, "do not ask")
	f.BoolVar(&o.keepSensitive, "keep-sensitive", false, "leave sensitive values as they are now where the old ones are not kept")
	f.BoolVar(&o.json, "json", false, "one JSON object per line instead of text; asks nothing")
	f.BoolVar(&o.input, "input", true, "ask for approval where it is needed")
	f.DurationVar(&o.lockTimeout, "lock-timeout", 0, "how long to wait for the state's lock, as in 30s")
	f.IntVar(&o.parallelism, "parallelism", defaultParallelism, "how many steps may run at once over all hosts")
	cmd.ValidArgsFunction = g.completions(serials)
	return cmd
}

func (o *rollbackCommand) run(ctx context.Context, g *globals, serial string) (err error) {
	if o.json && !o.autoApprove {
		return usageError{errors.New("--json asks nothing: give --auto-approve with it")}
	}
	r, err := newRound(g, o.planOptions)
	if err != nil {
		return err
	}
	defer r.close()
	f, err := r.lock(ctx, "rollback to "+serial)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(context.WithoutCancel(ctx))) }()
	r.warnings = append(r.warnings, f.Recovery().Diagnostics()...)
	ctx, cancel := withLock(ctx, f)
	defer cancel()
	m, err := momentOf(f.State(), serial)
	if err != nil {
		return err
	}
	cfg, warnings, err := restored(f.State(), m, o.keepSensitive)
	if err != nil {
		return err
	}
	r.warnings = append(r.warnings, warnings...)
	plan, seen, err := r.planBack(ctx, f.State(), cfg, m)
	if err != nil {
		return err
	}
	r.showPlan(plan)
	if plan.Empty() {
		return nil
	}
	a := applyCommand{planOptions: r.opts, autoApprove: o.autoApprove}
	if err := approve(ctx, g, a, plan); err != nil {
		return err
	}
	if err := r.carryOut(ctx, f, plan, seen, a); err != nil {
		return err
	}
	if !o.json {
		g.out.Printf("\nWhat serial %s had is applied. The configuration still says what it said: change it too before the next berth apply.\n", serial)
	}
	return nil
}

// planBack plans to make everything as cfg, with the images of the moment, and without overrides.
func (r *round) planBack(ctx context.Context, prior *api.State, cfg *api.Config, m *api.Moment) (*api.Plan, *api.Observation, error) {
	seen := r.observe(ctx, nodesToSee(cfg.Nodes, prior))
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	pins := map[string]string{}
	for _, p := range m.Pins {
		pins[p.Ref] = p.Pinned
	}
	opts := planner.Options{Now: r.g.proc.Now().UTC()}
	for _, v := range prior.Overrides {
		opts.Reset = append(opts.Reset, v.Key())
	}
	plan, diags := planner.Plan(planner.Input{Config: cfg, Prior: prior, Observed: seen, Pins: pins, Options: opts})
	return plan, seen, diags.Err()
}

// restored makes a configuration of what a moment had, on the nodes of now.
func restored(s *api.State, m *api.Moment, keep bool) (*api.Config, api.Diagnostics, error) {
	cfg := planner.Applied(s)
	cfg.Objects, cfg.Outputs = nil, nil
	var lost []string
	for _, b := range m.Objects {
		if b.Object.Owner != (api.Address{}) {
			continue // a claim comes and goes with its owner
		}
		now := s.Object(b.Address)
		whole, missing, err := b.Whole(s.Lineage, now)
		if err != nil {
			return nil, nil, fmt.Errorf("bring back %s: %w", b.Address, err)
		}
		for _, path := range missing {
			lost = append(lost, b.Address.String()+" "+path)
			if !keep {
				continue
			}
			if whole, err = present(whole, now, path); err != nil {
				return nil, nil, err
			}
		}
		cfg.Objects = append(cfg.Objects, whole)
	}
	for _, out := range m.Outputs.List {
		if h := m.Outputs.Hashes[out.Name]; h != "" { // an output changes no host: its present value does
			for _, now := range s.Outputs {
				if now.Name == out.Name {
					cfg.Outputs = append(cfg.Outputs, now)
				}
			}
			continue
		}
		cfg.Outputs = append(cfg.Outputs, out)
	}
	if len(lost) == 0 {
		return cfg, nil, nil
	}
	which := strings.Join(lost, ", ")
	if !keep {
		return nil, nil, fail("Sensitive value is not kept", fmt.Sprintf(
			"Going back needs what serial %d had at %s. The state is not encrypted, so it keeps only hashes of sensitive values that are no longer in use. Nothing was changed. Give --keep-sensitive to leave these as they are now; with an encryption block, later ones are kept.", m.Record.Serial, which))
	}
	return cfg, api.Diagnostics{{Severity: api.SeverityWarning, Summary: "Sensitive values stay as they are now",
		Detail: fmt.Sprintf("Serial %d had other values at %s. They are not kept.", m.Record.Serial, which)}}, nil
}

// present puts the value of now at a path.
func present(o, now *api.Object, path string) (*api.Object, error) {
	if now == nil {
		return nil, fail("Sensitive value is not kept", fmt.Sprintf("%s is no longer there, so there is no present value of %s to take. Write the object into the configuration and apply that.", o.Address, path))
	}
	v, err := now.At(path)
	if err != nil {
		return nil, fmt.Errorf("take %s of %s as it is now: %w", path, o.Address, err)
	}
	return o.Overridden([]api.Override{{Path: path, Value: v, Reason: "--keep-sensitive"}})
}
