package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/hcl"
	"berth.dev/berth/providers/node"
	"berth.dev/berth/statefile"
)

func newNode(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Check and prepare hosts", RunE: needsSubcommand}
	var o planOptions
	check := &cobra.Command{
		Use: "check [NODE...]", Short: "Check that hosts can take pods: connection, containerd, iptables, CNI plugins",
		RunE: func(cmd *cobra.Command, args []string) error { return nodeCheck(cmd.Context(), g, o, args) },
	}
	prepare := &cobra.Command{
		Use: "prepare [NODE...]", Short: "Install and configure what hosts lack",
		Long: `Installs containerd, the CNI plugins and iptables where they are missing, by the host's
package manager, and configures containerd, kernel modules and sysctls. What is right is
left alone; running it again does nothing.`,
		RunE: func(cmd *cobra.Command, args []string) error { return nodePrepare(cmd.Context(), g, o, args) },
	}
	for _, c := range []*cobra.Command{check, prepare} {
		o.variables(c.Flags())
	}
	cmd.AddCommand(check, prepare)
	return cmd
}

// chosenNodes evaluates the inventory and picks the named nodes, or all.
func chosenNodes(ctx context.Context, g *globals, o planOptions, names []string) (*round, []*api.Node, error) {
	o.parallelism = defaultParallelism
	r, err := newRound(g, o)
	if err != nil {
		return nil, nil, err
	}
	prior, err := statefile.Read(ctx, r.store)
	if err != nil {
		r.close()
		return nil, nil, err
	}
	cfg, diags := r.module.Evaluate(ctx, hcl.Options{Vars: g.values(o.vars), Env: g.proc.Env, Prior: prior, Version: g.proc.Version, BuildImage: r.images.Check})
	if diags.HasErrors() {
		r.close()
		return nil, nil, diags.Err()
	}
	nodes := cfg.Nodes
	for _, name := range names {
		if !slices.ContainsFunc(cfg.Nodes, func(n *api.Node) bool { return n.Name == name }) {
			r.close()
			return nil, nil, fail("No such node", fmt.Sprintf("The inventory has no node %q.", name))
		}
	}
	if len(names) > 0 {
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(n *api.Node) bool { return !slices.Contains(names, n.Name) })
	}
	return r, nodes, nil
}

func nodeCheck(ctx context.Context, g *globals, o planOptions, names []string) error {
	r, nodes, err := chosenNodes(ctx, g, o, names)
	if err != nil {
		return err
	}
	defer r.close()
	return showChecks(g, executor.Observe(ctx, r.executor(), nodes))
}

func nodePrepare(ctx context.Context, g *globals, o planOptions, names []string) error {
	r, nodes, err := chosenNodes(ctx, g, o, names)
	if err != nil {
		return err
	}
	defer r.close()
	found := make([]api.Diagnostics, len(nodes))
	var say sync.Mutex
	var group errgroup.Group
	group.SetLimit(defaultParallelism)
	for i, n := range nodes {
		group.Go(func() error {
			found[i] = prepareOne(ctx, r, n, func(item node.Item) {
				say.Lock()
				defer say.Unlock()
				g.out.Println(strings.TrimRight(fmt.Sprintf("%s: %s: %s  %s", n.Name, item.Name, item.Outcome, item.Detail), " "))
			})
			return nil
		})
	}
	_ = group.Wait() // the functions return nil: each host has its own findings
	problems := slices.Concat(found...)
	if problems.HasErrors() {
		return problems.Err()
	}
	g.diagnose(problems)
	return ctx.Err()
}

// prepareOne prepares one host and tells every item as it is done.
func prepareOne(ctx context.Context, r *round, n *api.Node, tell func(node.Item)) api.Diagnostics {
	host, err := r.hosts().Host(ctx, n)
	if err != nil {
		return onNode(n.Name, api.DiagnosticsOf(err, "Host unreachable"))
	}
	var problems api.Diagnostics
	for item, err := range node.Prepare(ctx, host) {
		if err != nil {
			return append(problems, onNode(n.Name, api.DiagnosticsOf(err, "Host cannot be prepared"))...)
		}
		tell(item)
		if item.Problem != nil {
			problems = append(problems, onNode(n.Name, api.Diagnostics{*item.Problem})...)
		}
	}
	return problems
}

func onNode(name string, ds api.Diagnostics) api.Diagnostics {
	for i := range ds {
		ds[i].Node = name
	}
	return ds
}
