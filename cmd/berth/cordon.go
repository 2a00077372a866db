package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
)

// unschedulablePath is the attribute of a node that a cordon sets.
const unschedulablePath = "unschedulable"

func newCordon(g *globals) *cobra.Command {
	return cordonCommand(g, true, &cobra.Command{
		Use:   "cordon NODE...",
		Short: "Let no new pods come to nodes, until berth uncordon",
		Long: `New pods go to other nodes. Those that run stay, and daemon sets go on as before.

A cordon is an override: the state remembers who made it, every plan shows it, and an edit of the
node's unschedulable attribute in the configuration ends it. A node that does not answer can be
cordoned, too.`,
		Example: "  berth cordon a1\n  berth cordon a1 a2 --auto-approve",
	})
}

func newUncordon(g *globals) *cobra.Command {
	return cordonCommand(g, false, &cobra.Command{
		Use:   "uncordon NODE...",
		Short: "Let new pods come to nodes again",
		Long: `Takes a cordon back. Pods that have left do not come back by themselves: a pod that runs stays where
it is.`,
		Example: "  berth uncordon a1",
	})
}

func cordonCommand(g *globals, cordoned bool, cmd *cobra.Command) *cobra.Command {
	var o changeOptions
	cmd.Args = cobra.MinimumNArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		g.json = o.json
		return change(cmd.Context(), g, cmd.Name(), o, func(s *api.State) (changeRequest, error) {
			return g.cordon(s, args, cordoned, "berth "+cmd.Name())
		})
	}
	o.common(cmd)
	cmd.ValidArgsFunction = g.completions(nodeNames)
	return cmd
}

// nodeNames are the nodes of the state.
func nodeNames(s *api.State) []string {
	var names []string
	for _, n := range s.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// appliedNode finds the node that a command names: NODE, node/NODE or node.NODE.
func appliedNode(s *api.State, name string) (*api.Node, error) {
	for _, prefix := range []string{"node/", "nodes/", "node."} {
		name = strings.TrimPrefix(name, prefix)
	}
	n := s.Node(name)
	if n == nil || n.Node == nil {
		return nil, fail("Error from server (NotFound)", fmt.Sprintf("nodes %q not found. berth get nodes shows which have joined.", name))
	}
	return n.Node, nil
}

// cordon asks for nodes to take new pods no more, or again: an override of what the configuration says, or the end of one.
func (g *globals) cordon(s *api.State, names []string, cordoned bool, command string) (changeRequest, error) {
	r := changeRequest{nothing: true}
	var said []string
	for _, name := range names {
		n, err := appliedNode(s, name)
		if err != nil {
			return changeRequest{}, err
		}
		a := api.Address{Kind: api.KindNode, Name: n.Name}
		if slices.Contains(r.Targets, a.String()) {
			continue
		}
		r.Targets = append(r.Targets, a.String())
		configured, err := n.Configured(s.OverridesOf(a))
		if err != nil {
			return changeRequest{}, err
		}
		already := ""
		switch {
		case n.Unschedulable == cordoned:
			already = "already "
		case configured.Unschedulable == cordoned:
			r.Reset = append(r.Reset, api.OverrideKey{Address: a, Path: unschedulablePath})
		default:
			v, err := g.overrideAt(a, unschedulablePath, unschedulablePath, cordoned, command)
			if err != nil {
				return changeRequest{}, err
			}
			r.Overrides = append(r.Overrides, v)
		}
		r.nothing = r.nothing && already != ""
		what := "uncordoned"
		if cordoned {
			what = "cordoned"
		}
		said = append(said, "node/"+n.Name+" "+already+what)
	}
	r.said = strings.Join(said, "\n")
	return r, nil
}
