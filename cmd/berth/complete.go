package main

import (
	"slices"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
)

// completions proposes words from the state as it is stored: no host is asked while somebody types. A state that cannot
// be read proposes nothing; the command itself will say why.
func (g *globals) completions(propose func(*api.State) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		if err := g.enter(); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		state, err := readState(cmd.Context(), g)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return propose(state), cobra.ShellCompDirectiveNoFileComp
	}
}

// podNames are the pods of the namespace.
func podNames(namespace *string) func(*api.State) []string {
	return func(s *api.State) []string {
		var names []string
		for _, p := range s.Pods {
			if p.Namespace == *namespace {
				names = append(names, p.Address.Pod)
			}
		}
		slices.Sort(names)
		return names
	}
}

// addressNames are the addresses of objects, nodes and pods.
func addressNames(s *api.State) []string {
	var names []string
	for _, a := range addresses(s) {
		names = append(names, a.String())
	}
	return names
}

// objectNames are the addresses that --target and --replace take.
func objectNames(s *api.State) []string {
	return slices.DeleteFunc(addressNames(s), func(name string) bool {
		a, err := api.ParseAddress(name)
		return err != nil || a.Pod != ""
	})
}

// stateNodes are the names of the nodes that the state has.
func stateNodes(s *api.State) []string {
	var names []string
	for _, n := range s.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// completeTargets proposes addresses to the flags that take them.
func completeTargets(g *globals, c *cobra.Command) {
	for _, name := range []string{"target", "replace"} {
		completeFlag(c, name, g.completions(objectNames))
	}
	for _, name := range []string{"confirm-dead", "fence"} {
		completeFlag(c, name, g.completions(stateNodes))
	}
}

// fixed proposes the same words always.
func fixed(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}

// completeFlag sets what is proposed for a flag. An error is a flag that does not exist, which completion.txtar would find.
func completeFlag(c *cobra.Command, name string, f cobra.CompletionFunc) {
	_ = c.RegisterFlagCompletionFunc(name, f)
}
