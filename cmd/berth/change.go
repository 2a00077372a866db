package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/planner"
	"berth.dev/berth/statefile"
)

// changeOptions are the flags of commands that change one thing of what was applied: berth scale, berth rollout undo.
type changeOptions struct {
	namespace   string
	autoApprove bool
	json        bool
	input       bool
	lockTimeout time.Duration
	parallelism int
}

func (o *changeOptions) flags(g *globals, cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	o.common(cmd)
	cmd.ValidArgsFunction = g.completions(workloadNames)
}

// common are the flags of those that are about no namespace, too.
func (o *changeOptions) common(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.autoApprove, "auto-approve", false, "do not ask")
	f.BoolVar(&o.json, "json", false, "one JSON object per line instead of text; asks nothing")
	f.BoolVar(&o.input, "input", true, "ask for approval where it is needed")
	f.DurationVar(&o.lockTimeout, "lock-timeout", 0, "how long to wait for the state's lock, as in 30s")
	f.IntVar(&o.parallelism, "parallelism", defaultParallelism, "how many steps may run at once over all hosts")
}

// workloadNames are the objects that own pods, as KIND/NAME.
func workloadNames(s *api.State) []string {
	var names []string
	for _, o := range s.Objects {
		if o.Kind().OwnsPods {
			names = append(names, o.Address.Kind+"/"+o.Name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// changeRequest is what a command asks of the planner, decided from the state under its lock.
type changeRequest struct {
	planner.Options
	said    string // what is printed when it is done: "deployment.apps/web scaled"
	resolve []use  // images that it brings in
	nothing bool   // there is nothing to plan

	told    func(*api.Plan) []string // what else is printed when it is done; nil for nothing
	timeout time.Duration            // for carrying it out; 0 for as long as it takes
}

// lines are what is printed when it is done.
func (q changeRequest) lines(p *api.Plan) []string {
	var out []string
	if q.said != "" {
		out = append(out, q.said)
	}
	if q.told != nil {
		out = append(out, q.told(p)...)
	}
	return out
}

// change plans one command's request from what was last applied, shows it, asks, and carries it out, as apply does
// with a configuration. Edits of the configuration that were not applied yet stay out of it.
func change(ctx context.Context, g *globals, operation string, o changeOptions, decide func(*api.State) (changeRequest, error)) (err error) {
	if o.json && !o.autoApprove {
		return usageError{errors.New("--json asks nothing: give --auto-approve with it")}
	}
	r, err := newRound(g, planOptions{json: o.json, lockTimeout: o.lockTimeout, parallelism: o.parallelism, input: o.input})
	if err != nil {
		return err
	}
	defer r.close()
	f, err := r.lock(ctx, operation)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(context.WithoutCancel(ctx))) }()
	r.warnings = append(r.warnings, f.Recovery().Diagnostics()...)
	ctx, cancel := withLock(ctx, f)
	defer cancel()
	request, err := decide(f.State())
	if err != nil {
		return err
	}
	return r.changeUnder(ctx, f, o, request)
}

// changeUnder is change from the request on, under the lock.
func (r *round) changeUnder(ctx context.Context, f *statefile.File, o changeOptions, request changeRequest) error {
	if request.nothing {
		if !o.json {
			r.g.out.Println(request.said)
		}
		return nil
	}
	pins, diags := r.resolveUses(ctx, request.resolve, f.State())
	if diags.HasErrors() {
		return diags.Err()
	}
	r.warnings = append(r.warnings, diags...)
	plan, seen, err := r.planApplied(ctx, f.State(), pins, request.Options)
	if err != nil {
		return err
	}
	r.showPlan(plan)
	a := applyCommand{planOptions: r.opts, autoApprove: o.autoApprove}
	if !plan.Empty() {
		if err := approve(ctx, r.g, a, plan); err != nil {
			return err
		}
		ctx, cancel := bounded(ctx, request.timeout)
		defer cancel()
		if err := r.carryOut(ctx, f, plan, seen, a); err != nil {
			return err
		}
	}
	if !o.json {
		for _, line := range request.lines(plan) {
			r.g.out.Println(line)
		}
	}
	return nil
}

// planApplied makes a plan from what was last applied: no configuration is evaluated, so no variables are needed.
func (r *round) planApplied(ctx context.Context, prior *api.State, pins map[string]string, opts planner.Options) (*api.Plan, *api.Observation, error) {
	cfg := planner.Applied(prior)
	seen := r.observe(ctx, nodesToSee(cfg.Nodes, prior))
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	opts.Applied = true
	plan, diags := planner.Plan(planner.Input{Config: cfg, Prior: prior, Observed: seen, Pins: pins, Options: opts})
	return plan, seen, diags.Err()
}

// applied finds the object that a command names: KIND/NAME, KIND NAME, or an address as deployment.web["eu"].
func applied(s *api.State, namespace string, args []string) (*api.Object, error) {
	text := strings.Join(args, "/")
	if a, err := api.ParseAddress(text); err == nil && len(args) == 1 {
		if o := s.Object(a); o != nil {
			return o, nil
		}
		return nil, fail("Not found", fmt.Sprintf("Nothing was applied at %s. berth state list shows what was.", a))
	}
	kindName, name, ok := strings.Cut(text, "/")
	kind, known := kindBy(kindName)
	switch {
	case !ok || name == "" || strings.Contains(name, "/"):
		return nil, usageError{fmt.Errorf("%q names no object: write KIND/NAME, as in deployment/web", text)}
	case !known:
		return nil, usageError{fmt.Errorf("%q is no kind of object", kindName)}
	}
	for _, o := range s.Objects {
		if o.Address.Kind == kind.Name && o.Name() == name && (!kind.Namespaced || o.Namespace() == namespace) {
			return o, nil
		}
	}
	where := ""
	if kind.Namespaced {
		where = " in namespace " + namespace
	}
	return nil, fail("Error from server (NotFound)", fmt.Sprintf("%s %q not found%s. berth state list shows what was applied.", resourceName(kind), name, where))
}

// kindBy finds a kind by its name, plural or a short name.
func kindBy(name string) (api.Kind, bool) {
	name = strings.ToLower(name)
	for _, k := range api.Kinds {
		if name == k.Name || name == k.Plural || name == strings.ToLower(k.APIKind) || slices.Contains(k.Short, name) {
			return k, true
		}
	}
	return api.Kind{}, false
}

// resourceName is a kind as Kubernetes' messages have it: "deployments.apps".
func resourceName(k api.Kind) string { return k.Plural + group(k) }

// objectName is an object as Kubernetes' messages have it: "deployment.apps/web".
func objectName(o *api.Object) string {
	k := o.Kind()
	return strings.ToLower(k.APIKind) + group(k) + "/" + o.Name()
}

func group(k api.Kind) string {
	if g, _, ok := strings.Cut(k.APIVersion, "/"); ok {
		return "." + g
	}
	return ""
}

// override makes an override of an applied object's attribute by this command, which an edit of the attribute at ends ends.
func (g *globals) override(o *api.Object, path, ends string, value any, command string) (api.Override, error) {
	return g.overrideAt(o.Address, path, ends, value, command)
}

func (g *globals) overrideAt(a api.Address, path, ends string, value any, command string) (api.Override, error) {
	raw, err := jsonOf(value)
	if err != nil {
		return api.Override{}, err
	}
	return api.Override{
		Address: a, Path: path, Ends: ends, Value: raw,
		Who: whoami(g.proc), At: g.proc.Now().UTC().Truncate(time.Second), Reason: command,
	}, nil
}
