package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/hcl"
	"berth.dev/berth/statefile"
	backends "berth.dev/berth/statefile/backend/all"
	"berth.dev/berth/statefile/seal"
)

// readState reads what was last applied, without a lock.
func readState(ctx context.Context, g *globals) (*api.State, error) {
	store, err := storeOf(g)
	if err != nil {
		return nil, err
	}
	return statefile.Read(ctx, store)
}

// storeOf finds the state's home. A directory without a configuration has the default one: a state file in it.
func storeOf(g *globals) (statefile.Store, error) {
	if files, _ := filepath.Glob(filepath.Join(g.dir, "*.hcl*")); len(files) == 0 {
		store, err := backends.Open("local", nil, g.dir, backends.Options{})
		if err != nil {
			return nil, err
		}
		state, _, err := g.sealers(nil)
		if err != nil {
			return nil, err
		}
		g.store = seal.Wrap(store, state)
		return g.store, nil
	}
	module, diags := hcl.Parse(g.dir)
	if diags.HasErrors() {
		return nil, diags.Err()
	}
	return openStore(g, module)
}

func newState(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "state", Short: "Look into the state, what was last applied, copy it, or rebuild it", RunE: needsSubcommand}
	list := &cobra.Command{
		Use: "list [ADDRESS...]", Short: "List the addresses in the state",
		RunE: func(cmd *cobra.Command, args []string) error { return stateList(cmd.Context(), g, args) },
	}
	var asJSON bool
	show := &cobra.Command{
		Use: "show ADDRESS", Short: "Show one object, pod or node of the state", Args: cobra.ExactArgs(1),
		Example: "  berth state show deployment.web\n  berth state show deployment.web/web-6d4cf56db6-x2k4p",
		RunE: func(cmd *cobra.Command, args []string) error {
			return stateShow(cmd.Context(), g, args[0], asJSON)
		},
	}
	list.ValidArgsFunction, show.ValidArgsFunction = g.completions(addressNames), g.completions(addressNames)
	show.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.AddCommand(list, show, newStatePull(g), newStatePush(g), newStateRebuild(g))
	return cmd
}

// needsSubcommand is for commands that only group others.
func needsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s has no command %q. See '%s --help'", cmd.CommandPath(), args[0], cmd.CommandPath())}
	}
	return cmd.Help()
}

// addresses lists everything in a state that has one: nodes, objects, pods.
func addresses(s *api.State) []api.Address {
	var out []api.Address
	for _, n := range s.Nodes {
		out = append(out, api.Address{Kind: api.KindNode, Name: n.Name})
	}
	for _, o := range s.Objects {
		out = append(out, o.Address)
	}
	for _, p := range s.Pods {
		out = append(out, p.Address)
	}
	slices.SortFunc(out, api.Address.Compare)
	return out
}

func stateList(ctx context.Context, g *globals, args []string) error {
	state, err := readState(ctx, g)
	if err != nil {
		return err
	}
	all := addresses(state)
	for _, arg := range args {
		want, err := api.ParseAddress(arg)
		if err != nil {
			return fail("Invalid address", err.Error()+".")
		}
		if !slices.ContainsFunc(all, want.Contains) {
			return fail("No matching objects found", fmt.Sprintf("The state has nothing at %s. berth state list shows what it has.", arg))
		}
	}
	for _, a := range all {
		if len(args) == 0 || slices.ContainsFunc(args, func(arg string) bool { w, _ := api.ParseAddress(arg); return w.Contains(a) }) {
			g.out.Println(a.String())
		}
	}
	return nil
}

func stateShow(ctx context.Context, g *globals, arg string, asJSON bool) error {
	a, err := api.ParseAddress(arg)
	if err != nil {
		return fail("Invalid address", err.Error()+".")
	}
	state, err := readState(ctx, g)
	if err != nil {
		return err
	}
	v := stateItem(state, a)
	if v == nil {
		return fail("No matching objects found", fmt.Sprintf("The state has nothing at %s. berth state list shows what it has.", a))
	}
	if asJSON {
		return printJSON(g, v)
	}
	b, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	g.out.Printf("# %s\n%s%s", a, besides(state, a), b)
	showOverrides(g, state, state.OverridesOf(a))
	return nil
}

// showOverrides says what commands have put in place of what the configuration says.
func showOverrides(g *globals, s *api.State, list []api.Override) {
	if len(list) == 0 {
		return
	}
	g.out.Println("# Overrides of the configuration:")
	for _, o := range list {
		g.out.Println("#   " + view.OverrideText(o, view.HidesOverride(s, o)))
	}
}

// besides is what was applied of an object and is no part of it as Kubernetes knows it.
func besides(s *api.State, a api.Address) string {
	if o := s.Object(a); o != nil && a.Pod == "" && api.PodSpecOf(o.Value) != nil {
		text := fmt.Sprintf("# on_config_change = %q\n", o.OnConfigChange.String())
		if o.AtMostOne {
			text += "# at_most_one = true\n"
		}
		return text
	}
	return ""
}

// stateItem returns what the state has at an address, fit to be shown.
func stateItem(s *api.State, a api.Address) any {
	switch {
	case a.Kind == api.KindNode:
		if n := s.Node(a.Name); n != nil {
			return n
		}
	case a.Pod != "":
		if p := s.Pod(a); p != nil {
			shown := *p
			shown.Spec = nil // may hold what the object marks as sensitive
			return shown
		}
	default:
		if o := s.Object(a); o != nil {
			return view.Redacted(o)
		}
	}
	return nil
}

func newShow(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show [PLANFILE]", Short: "Show the state, or a saved plan", Args: cobra.MaximumNArgs(1),
		Example: "  berth show\n  berth show --json release.plan",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return showPlanFile(cmd.Context(), g, inDir(g.dir, args[0]), asJSON)
			}
			return showState(cmd.Context(), g, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func showPlanFile(ctx context.Context, g *globals, path string, asJSON bool) error {
	plan, err := readPlan(ctx, g, path)
	if err != nil {
		return err
	}
	if !asJSON {
		g.out.Plan(plan)
		g.diagnose(plan.Warnings)
		return nil
	}
	b, err := view.PlanJSON(plan, g.proc.Version)
	if err != nil {
		return err
	}
	g.out.Println(string(b))
	return nil
}

func showState(ctx context.Context, g *globals, asJSON bool) error {
	state, err := readState(ctx, g)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(g, view.StateJSON(state, g.proc.Version))
	}
	if len(state.Objects)+len(state.Nodes) == 0 {
		g.out.Println("The state is empty. Nothing was applied yet.")
		return nil
	}
	for _, a := range addresses(state) {
		b, err := json.Marshal(stateItem(state, a))
		if err != nil {
			return err
		}
		y, err := yaml.JSONToYAML(b)
		if err != nil {
			return err
		}
		g.out.Printf("# %s\n%s%s\n", a, besides(state, a), y)
	}
	showOverrides(g, state, state.Overrides)
	if len(state.Outputs) > 0 {
		g.out.Println("# Outputs:")
		g.out.Outputs(state.Outputs)
	}
	return nil
}
