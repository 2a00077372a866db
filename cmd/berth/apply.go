package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/executor"
	"berth.dev/berth/planner"
	"berth.dev/berth/statefile"
)

type applyCommand struct {
	planOptions
	autoApprove bool
	planFile    string
	reverting   bool // after a rollout that has failed
}

func newApply(g *globals) *cobra.Command {
	var o applyCommand
	cmd := &cobra.Command{
		Use:   "apply [PLANFILE]",
		Short: "Make the hosts match the configuration",
		Long: `Makes a plan, shows it, asks, and does it: pods are created, awaited, put behind their
services and only then the old ones are taken away. With a saved plan it does just that plan
and asks nothing; a plan that no longer fits the state or the hosts is refused.

The first Ctrl-C finishes the running steps and saves; a second one stops at once. Either way
the next apply goes on from there.`,
		Example: `  berth apply
  berth apply --auto-approve --var tag=v2
  berth apply --grace-period 5               pods that go have 5 s to stop
  berth plan --out release.plan && berth apply release.plan`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			if len(args) == 1 {
				o.planFile = inDir(g.dir, args[0])
			}
			return runApply(cmd.Context(), g, o)
		},
	}
	o.flags(cmd.Flags())
	completeTargets(g, cmd)
	cmd.Flags().BoolVar(&o.destroy, "destroy", false, "destroy everything, as berth destroy does")
	cmd.Flags().BoolVar(&o.refreshOnly, "refresh-only", false, refreshHelp)
	cmd.Flags().BoolVar(&o.autoApprove, "auto-approve", false, "do not ask")
	return cmd
}

func newDestroy(g *globals) *cobra.Command {
	o := applyCommand{planOptions: planOptions{destroy: true}}
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Take away everything that was applied",
		Long: `Plans to destroy everything, shows it, asks, and does it. Afterwards the hosts are as they
were before the first apply; only the data of volumes whose reclaim policy is Retain stays.

Pods get their pre_stop hooks, their stop signal and their grace period, those out of the
services first. --grace-period gives them another one, --force 2 s and no hooks.`,
		Example: `  berth destroy
  berth destroy --target deployment.web
  berth destroy --auto-approve --force`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g.json = o.json
			return runApply(cmd.Context(), g, o)
		},
	}
	o.flags(cmd.Flags())
	completeTargets(g, cmd)
	cmd.Flags().Lookup("replace").Hidden = true // refused with a reason
	cmd.Flags().BoolVar(&o.autoApprove, "auto-approve", false, "do not ask")
	return cmd
}

func runApply(ctx context.Context, g *globals, o applyCommand) (err error) {
	if o.planFile != "" && (len(o.vars) > 0 || len(o.targets) > 0 || len(o.replace) > 0 || len(o.confirmDead)+len(o.fence) > 0 || o.destroy || o.refreshOnly || o.force || o.gracePeriod != nil) {
		return usageError{errors.New("a saved plan is applied as it is: --var, --var-file, --target, --replace, --confirm-dead, --fence, --grace-period, --force, --refresh-only and --destroy belong to the command that made it")}
	}
	if o.destroy && len(o.replace) > 0 {
		return usageError{errors.New("--replace makes objects anew and a destroy makes none: leave one of them out")}
	}
	if o.json && !o.autoApprove && o.planFile == "" {
		return usageError{errors.New("--json asks nothing: give --auto-approve or a saved plan with it")}
	}
	if err := o.checkRefresh(); err != nil {
		return err
	}
	r, err := newRound(g, o.planOptions)
	if err != nil {
		return err
	}
	defer r.close()
	operation := "apply"
	if o.destroy {
		operation = "destroy"
	}
	f, err := r.lock(ctx, operation)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(context.WithoutCancel(ctx))) }()
	r.warnings = append(r.warnings, f.Recovery().Diagnostics()...)
	ctx, cancel := withLock(ctx, f)
	defer cancel()
	plan, seen, err := r.planOrRead(ctx, o, f.State())
	if err != nil {
		return err
	}
	if o.planFile == "" {
		r.showPlan(plan)
		if plan.Empty() {
			r.copies.refresh(ctx)
			return nil
		}
		if err := approve(ctx, g, o, plan); err != nil {
			return err
		}
	}
	return r.carryOut(ctx, f, plan, seen, o)
}

// withLock returns a context that ends with ctx and with the lock.
func withLock(ctx context.Context, f *statefile.File) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(f.Context(), func() { cancel(context.Cause(f.Context())) })
	return ctx, func() { stop(); cancel(nil) }
}

// planOrRead makes a plan, or reads the saved one and refuses it when what it relied on has changed.
func (r *round) planOrRead(ctx context.Context, o applyCommand, prior *api.State) (*api.Plan, *api.Observation, error) {
	if o.planFile == "" {
		return r.planOrRefresh(ctx, prior)
	}
	plan, err := readPlan(ctx, r.g, o.planFile)
	if err != nil {
		return nil, nil, err
	}
	seen := r.observe(ctx, nodesToSee(plan.Nodes, prior))
	if ds := planner.Stale(plan, prior, seen); ds.HasErrors() {
		return nil, nil, ds.Err()
	}
	return plan, seen, nil
}

// approve asks the person at the terminal. Nothing but "yes" is a yes.
func approve(ctx context.Context, g *globals, o applyCommand, plan *api.Plan) error {
	if o.autoApprove {
		return nil
	}
	if !o.input {
		return fail("Approval is needed", "The plan has changes and --input=false forbids to ask. Give --auto-approve, or save the plan with berth plan --out and apply that.")
	}
	question := "\nDo you want to perform these actions?\n  Berth will perform the actions described above.\n  Only 'yes' will be accepted to approve.\n\n  Enter a value: "
	verb := "Apply"
	if o.destroy {
		question = "\nDo you really want to destroy all of this?\n  Berth will destroy everything as shown above.\n  There is no undo. Only 'yes' will be accepted to confirm.\n\n  Enter a value: "
		verb = "Destroy"
	}
	if plan.RefreshOnly {
		question = "\nWould you like to update the state to reflect these changes?\n  No host is changed. Only 'yes' will be accepted to approve.\n\n  Enter a value: "
	}
	g.out.Printf("%s", question)
	answer, err := readLine(ctx, g.proc.Stdin)
	if err != nil {
		g.out.Println("") // nobody typed the end of the line
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("nothing was changed: %w", ctx.Err())
	}
	if answer != "yes" {
		g.out.Println("")
		g.out.Println(verb + " cancelled.")
		return exitCode(exitError)
	}
	return nil
}

// readLine reads one line, or gives up with the context: an interrupt at the question ends it.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	answer := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(in).ReadString('\n')
		answer <- result{strings.TrimSpace(line), err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-answer:
		return r.line, r.err
	}
}

// carryOut walks the plan, records it, and says how it went.
func (r *round) carryOut(ctx context.Context, f *statefile.File, plan *api.Plan, seen *api.Observation, o applyCommand) error {
	var lines *view.Lines
	if o.json {
		lines = view.NewLines(r.g.proc.Stdout, r.g.proc.Now)
		r.emit = lines.Event
	} else {
		r.g.out.Println("")
		r.emit = view.NewProgress(r.g.out).Event
	}
	outcome, err := r.apply(ctx, f, plan, seen)
	if err == nil {
		err = r.record(f, plan, outcome)
	}
	r.report(outcome, plan, f.State(), lines, o)
	if err != nil {
		return err
	}
	if len(outcome.Failed) > 0 {
		ds := failures(outcome)
		if !o.reverting && !outcome.Interrupted {
			ds = append(ds, r.revert(ctx, f, plan, outcome, o)...)
		}
		return ds.Err()
	}
	if outcome.Interrupted {
		return fmt.Errorf("%d of %d steps are done and saved; the next apply goes on from there: %w", outcome.Done, len(plan.Steps), context.Canceled)
	}
	return nil
}

// record adds the apply to the history, unless nothing was done.
func (r *round) record(f *statefile.File, plan *api.Plan, outcome executor.Outcome) error {
	add, change, destroy := plan.Summary()
	record := api.ApplyRecord{
		Serial: f.State().Serial + 1, Who: whoami(r.g.proc), At: r.g.proc.Now().UTC(), Operation: r.operation, Job: jobURL(r.g.proc),
		Summary: fmt.Sprintf("%d added, %d changed, %d destroyed", add, change, destroy),
	}
	if dir, err := filepath.Abs(r.g.dir); err == nil {
		record.From = dir
	}
	switch {
	case outcome.Interrupted:
		record.Outcome = api.OutcomeInterrupted
	case len(outcome.Failed) > 0:
		record.Outcome = api.OutcomeFailed
	}
	if record.Outcome != api.OutcomeComplete {
		if outcome.Done == 0 {
			return nil
		}
		record.Summary = fmt.Sprintf("%d of %d steps done", outcome.Done, len(plan.Steps))
	}
	keep, _ := r.module.Retention()
	return f.Record(api.Delta{Record: &record, Retention: &keep})
}

func (r *round) report(outcome executor.Outcome, plan *api.Plan, state *api.State, lines *view.Lines, o applyCommand) {
	add, change, destroy := plan.Summary()
	operation, verb := "apply", "Apply"
	if plan.Destroy {
		operation, verb = "destroy", "Destroy"
	}
	complete := len(outcome.Failed) == 0 && !outcome.Interrupted
	if o.json {
		if complete {
			lines.Summary(operation, add, change, destroy)
			lines.Outputs(state.Outputs)
		}
		return
	}
	if !complete {
		r.g.out.Printf("\n%s incomplete. Steps: %d done and saved, %d failed, %d skipped.\n", verb, outcome.Done, len(outcome.Failed), outcome.Skipped)
		return
	}
	text := fmt.Sprintf("%s complete! Resources: %d added, %d changed, %d destroyed.", verb, add, change, destroy)
	if plan.Destroy {
		text = fmt.Sprintf("%s complete! Resources: %d destroyed.", verb, destroy)
	}
	r.g.out.Println("\n" + text)
	if len(state.Outputs) > 0 {
		r.g.out.Println("\nOutputs:\n")
		r.g.out.Outputs(state.Outputs)
	}
}

// failures makes diagnostics of the failed steps: what the provider said, with the step and its host.
func failures(outcome executor.Outcome) api.Diagnostics {
	var ds api.Diagnostics
	for _, f := range outcome.Failed {
		for _, d := range api.DiagnosticsOf(f.Err, "Step failed") {
			if d.Summary == "Step failed" && strings.Contains(strings.ToLower(d.Detail), "no space left on device") {
				d.Summary, d.Detail = "Disk full", strings.TrimSuffix(d.Detail, ".")+". Make room on the host."
			}
			d.Address, d.Node = f.Step.Address.String(), f.Step.Node
			d.Step = string(f.Step.Op) + " " + d.Address
			ds = append(ds, d)
		}
	}
	return ds
}
