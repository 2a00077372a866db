package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
	"berth.dev/berth/planner"
	"berth.dev/berth/statefile"
)

type drainCommand struct {
	changeOptions
	drain    planner.Drain
	selector string
	grace    *int64
	timeout  time.Duration
	dryRun   bool
}

func newDrain(g *globals) *cobra.Command {
	var o drainCommand
	cmd := &cobra.Command{
		Use:   "drain NODE...",
		Short: "Cordon nodes and move their pods elsewhere, as disruption budgets allow",
		Long: `Plans from what was last applied, shows the plan, asks, and does it: the nodes are cordoned, and the
controllers of their pods make others elsewhere, before the old ones go where their strategy may
surge. No more pods go at a time than disruption budgets allow. A budget that can never allow it, and
pods for which there is no room elsewhere, refuse the drain before anything is touched.

Pods of daemon sets stay (--ignore-daemonsets). Pods that nobody would make again, or whose volumes
of kind empty_dir would be lost, are moved only when told so (--force, --delete-emptydir-data). Pods
whose managed volumes lie on the node cannot be moved. What has ended stays for its logs.

The nodes stay cordoned until berth uncordon.`,
		Example: `  berth drain a1 --ignore-daemonsets
  berth drain a1 --ignore-daemonsets --delete-emptydir-data --timeout 5m --auto-approve
  berth drain a1 --dry-run      show the plan and do nothing`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			if err := o.check(); err != nil {
				return err
			}
			decide := func(s *api.State) (changeRequest, error) { return o.decide(g, s, args) }
			if o.dryRun {
				return dryChange(cmd.Context(), g, o.changeOptions, decide)
			}
			return change(cmd.Context(), g, "drain", o.changeOptions, decide)
		},
	}
	o.common(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.drain.Force, "force", false, "also pods that declare no controller: they are not made again")
	f.BoolVar(&o.drain.IgnoreDaemonSets, "ignore-daemonsets", false, "leave the pods of daemon sets where they are")
	f.BoolVar(&o.drain.DeleteEmptyDir, "delete-emptydir-data", false, "also pods with empty_dir volumes: what these hold is lost")
	f.BoolVar(&o.drain.DisableEviction, "disable-eviction", false, "pass disruption budgets over")
	f.StringVar(&o.selector, "pod-selector", "", "only pods with these labels, as in app=web,tier!=front")
	f.Var(&graceFlag{&o.grace}, "grace-period", "`seconds` that the pods have to stop, whatever they say themselves; -1 for what they say")
	f.DurationVar(&o.timeout, "timeout", 0, "how long it may take from the approval on, as in 5m; 0 for as long as it takes")
	f.BoolVar(&o.dryRun, "dry-run", false, "show the plan and do nothing")
	cmd.ValidArgsFunction = g.completions(nodeNames)
	return cmd
}

func (o *drainCommand) check() error {
	if o.timeout < 0 {
		return usageError{fmt.Errorf("--timeout=%s: must not be negative", o.timeout)}
	}
	if o.selector == "" {
		return nil
	}
	s, err := labels.Parse(o.selector)
	if err != nil {
		return usageError{fmt.Errorf("--pod-selector=%s: %w", o.selector, err)}
	}
	o.drain.Pods = s
	return nil
}

func (o *drainCommand) decide(g *globals, s *api.State, args []string) (changeRequest, error) {
	r, err := g.cordon(s, args, true, "berth drain")
	if err != nil {
		return changeRequest{}, err
	}
	drain := o.drain
	for _, t := range r.Targets {
		drain.Nodes = append(drain.Nodes, strings.TrimPrefix(t, api.KindNode+"."))
	}
	r.nothing, r.Targets = false, nil // the planner knows what a drain is about
	r.Drain, r.Grace, r.NoWait, r.Now = &drain, o.grace, true, g.proc.Now().UTC()
	r.timeout = o.timeout
	r.told = func(p *api.Plan) []string { return evictedLines(p, drain.Nodes) }
	return r, nil
}

// evictedLines say which pods have left nodes, in kubectl's words.
func evictedLines(p *api.Plan, nodes []string) []string {
	var lines []string
	for _, c := range p.Pods {
		if c.Action == api.Delete && slices.Contains(nodes, c.Node) {
			lines = append(lines, "pod/"+c.Address.Pod+" evicted")
		}
	}
	for _, n := range nodes {
		lines = append(lines, "node/"+n+" drained")
	}
	return lines
}

// dryChange shows what change would do. It takes no lock.
func dryChange(ctx context.Context, g *globals, o changeOptions, decide func(*api.State) (changeRequest, error)) error {
	r, err := newRound(g, planOptions{json: o.json, lockTimeout: o.lockTimeout, parallelism: o.parallelism, input: o.input})
	if err != nil {
		return err
	}
	defer r.close()
	state, err := statefile.Read(ctx, r.store)
	if err != nil {
		return err
	}
	request, err := decide(state)
	if err != nil {
		return err
	}
	plan, _, err := r.planApplied(ctx, state, nil, request.Options)
	if err != nil {
		return err
	}
	r.showPlan(plan)
	if !o.json {
		for _, line := range request.lines(plan) {
			g.out.Println(line + " (dry run)")
		}
	}
	return nil
}

// bounded returns a context that ends when a command's time is over, with an error that says so.
func bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, timeout, errors.New("global timeout reached: "+timeout.String()+". What is done is saved; the same command goes on from there"))
}
