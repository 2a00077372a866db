package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/hcl"
	"berth.dev/berth/planner/planfile"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/seal"
)

type planCommand struct {
	planOptions
	out              string
	detailedExitcode bool
}

func newPlan(g *globals) *cobra.Command {
	var o planCommand
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what would change, and on which node each pod would land",
		Long: `Compares the configuration with what was last applied and with what the hosts show,
and says what apply would do: every attribute that changes, every pod with its node and
the reason. Nothing is changed, and no lock is taken.`,
		Example: `  berth plan
  berth plan --out release.plan && berth apply release.plan
  berth plan --detailed-exitcode --json    in CI: exit code 2 means changes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g.json = o.json
			return runPlan(cmd.Context(), g, o)
		},
	}
	o.flags(cmd.Flags())
	completeTargets(g, cmd)
	for _, idle := range []string{"lock-timeout", "input"} { // taken for the sake of scripts that give them to every command
		cmd.Flags().Lookup(idle).Hidden = true
	}
	cmd.Flags().BoolVar(&o.destroy, "destroy", false, "plan to destroy everything")
	cmd.Flags().BoolVar(&o.refreshOnly, "refresh-only", false, refreshHelp)
	cmd.Flags().StringVar(&o.out, "out", "", "save the plan in a `file` that apply takes")
	cmd.Flags().BoolVar(&o.detailedExitcode, "detailed-exitcode", false, "exit code 0: no changes, 1: error, 2: changes")
	return cmd
}

func runPlan(ctx context.Context, g *globals, o planCommand) error {
	if err := o.checkRefresh(); err != nil {
		return err
	}
	r, err := newRound(g, o.planOptions)
	if err != nil {
		return err
	}
	defer r.close()
	prior, err := statefile.Read(ctx, r.store)
	if err != nil {
		return err
	}
	plan, _, err := r.planOrRefresh(ctx, prior)
	if err != nil {
		return err
	}
	if o.out != "" {
		if err := savePlan(ctx, r.planSealer, plan, inDir(g.dir, o.out)); err != nil {
			return err
		}
	}
	r.showPlan(plan)
	if !o.json {
		r.nextSteps(plan, o.out)
	}
	if o.detailedExitcode && !plan.Empty() {
		return exitCode(exitChanges)
	}
	return nil
}

// showPlan paints the plan and the warnings so far, once.
func (r *round) showPlan(p *api.Plan) {
	warnings := append(append(api.Diagnostics{}, r.warnings...), p.Warnings...)
	r.warnings = nil
	if r.opts.json {
		l := view.NewLines(r.g.proc.Stdout, nil)
		l.Version(r.g.proc.Version)
		r.g.diagnose(warnings)
		l.Plan(p)
		return
	}
	r.g.out.Plan(p)
	r.g.diagnose(warnings)
}

func (r *round) nextSteps(p *api.Plan, out string) {
	if p.Empty() || r.g.proc.Getenv("BERTH_IN_AUTOMATION") != "" {
		return
	}
	if out == "" {
		r.g.out.Println("\nThe plan was not saved (--out), so apply makes it anew and may find other things to do.")
		return
	}
	r.g.out.Printf("\nSaved the plan to: %s\n\nTo do just this, run:\n    berth apply %q\n", out, out)
}

// savePlan writes the plan whole or not at all, encrypted where the configuration says so, and in any case readable only by its owner: it
// holds what the steps need.
func savePlan(ctx context.Context, with *seal.Sealer, p *api.Plan, path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".berth-plan-*") // made with mode 0600
	if err != nil {
		return fail("Plan cannot be saved", fmt.Sprintf("%v. Nothing was changed; name another file with --out.", err))
	}
	defer os.Remove(f.Name())
	w := with.Writer(ctx, f)
	if err = planfile.Write(w, p); err == nil {
		err = w.Close()
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fail("Plan cannot be saved", fmt.Sprintf("%v. Nothing was changed; name another file with --out.", err))
	}
	return nil
}

// readPlan reads a saved plan with the encryption of the configuration in the directory, if there is one.
func readPlan(ctx context.Context, g *globals, path string) (*api.Plan, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fail("Plan file cannot be read", err.Error()+".")
	}
	defer f.Close()
	var module *hcl.Module
	if files, _ := filepath.Glob(filepath.Join(g.dir, "*.hcl*")); len(files) > 0 {
		m, diags := hcl.Parse(g.dir)
		if diags.HasErrors() {
			return nil, diags.Err()
		}
		module = m
	}
	_, with, err := g.sealers(module)
	if err != nil {
		return nil, err
	}
	plain, err := with.Reader(ctx, f)
	if err != nil {
		if _, said := errors.AsType[*api.DiagnosticsError](err); said {
			return nil, err
		}
		return nil, fail("Plan file cannot be read", fmt.Sprintf("%s: %v.", path, err))
	}
	plan, err := planfile.Read(plain)
	if err != nil {
		return nil, fail("Plan file cannot be read", fmt.Sprintf("%s: %v.", path, err))
	}
	return plan, nil
}

// inDir takes relative paths from the directory that the command works in.
func inDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
