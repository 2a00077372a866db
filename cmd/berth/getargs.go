package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/fields"

	"berth.dev/berth/api"
)

// query is one thing that `get` or `describe` was asked for: a kind, and names if not all of it.
type query struct {
	kind  *getKind
	names []string
}

// allKinds is what "all" means, in the order in which kubectl prints it; kinds that there are not yet are left out.
var allKinds = []string{"pods", "replicationcontrollers", "services", "daemonsets", "deployments", "replicasets", "statefulsets", "horizontalpodautoscalers", "cronjobs", "jobs"}

// parseResources reads KIND[,KIND...] [NAME...], or KIND/NAME any number of times. Names of one kind stay together.
func parseResources(args []string) ([]query, error) {
	if strings.Contains(args[0], "/") {
		return parsePairs(args)
	}
	var out []query
	for name := range strings.SplitSeq(args[0], ",") {
		if name == "" {
			return nil, usageError{fmt.Errorf("%q: kinds stand between commas, as in pods,services", args[0])}
		}
		kinds, err := kindsNamed(name)
		if err != nil {
			return nil, err
		}
		for _, k := range kinds {
			if !slices.ContainsFunc(out, func(r query) bool { return r.kind == k }) {
				out = append(out, query{k, nil})
			}
		}
	}
	names := args[1:]
	for _, n := range names {
		if strings.Contains(n, "/") && args[0] != "workloads" && args[0] != "workload" {
			return nil, usageError{fmt.Errorf("%q: there is no need to name a kind twice: give KIND NAME or KIND/NAME", args[0]+" "+n)}
		}
	}
	if len(names) > 0 && len(out) > 1 {
		return nil, usageError{errors.New("names need one kind: give KIND/NAME for each")}
	}
	out[0].names = names
	return out, nil
}

func parsePairs(args []string) ([]query, error) {
	var out []query
	for _, arg := range args {
		name, object, ok := strings.Cut(arg, "/")
		if !ok || object == "" {
			return nil, usageError{fmt.Errorf("%q: with KIND/NAME every argument has this form", arg)}
		}
		kinds, err := kindsNamed(name)
		if err != nil {
			return nil, err
		}
		if len(kinds) > 1 {
			return nil, usageError{fmt.Errorf("%q: all is no kind that could have a name", arg)}
		}
		if i := slices.IndexFunc(out, func(r query) bool { return r.kind == kinds[0] }); i >= 0 {
			out[i].names = append(out[i].names, object)
			continue
		}
		out = append(out, query{kinds[0], []string{object}})
	}
	return out, nil
}

func kindsNamed(name string) ([]*getKind, error) {
	if strings.EqualFold(name, "all") {
		var out []*getKind
		for _, n := range allKinds {
			if k, err := findGetKind(n); err == nil {
				out = append(out, k)
			}
		}
		return out, nil
	}
	k, err := findGetKind(name)
	return []*getKind{k}, err
}

func getKindNames() []string {
	var names []string
	for _, k := range getKinds {
		names = append(names, k.names[0])
	}
	return names
}

func findGetKind(name string) (*getKind, error) {
	for _, k := range getKinds {
		if k.called(strings.ToLower(name)) {
			return k, nil
		}
	}
	return nil, fail("Unknown kind", fmt.Sprintf("berth knows no kind %q. It knows: %s.", name, strings.Join(getKindNames(), ", ")))
}

// called reports whether a kind goes by a name: its own here, or one that the table of kinds has.
func (k *getKind) called(name string) bool {
	if slices.Contains(k.names, name) {
		return true
	}
	row, ok := api.KindByName(k.kind)
	return ok && (name == row.Name || name == row.Plural || slices.Contains(row.Short, name) || name == strings.ToLower(row.APIKind) ||
		name == row.Plural+"."+strings.SplitN(row.APIVersion, "/", 2)[0])
}

// checkFields refuses what --field-selector cannot ask of a kind.
func (k *getKind) checkFields(s fields.Selector) error {
	for _, r := range s.Requirements() {
		if r.Field == "metadata.name" || r.Field == "metadata.namespace" && !k.global {
			continue
		}
		if k.fields == nil || !slices.Contains(k.fields.names, r.Field) {
			known := []string{"metadata.name"}
			if !k.global {
				known = append(known, "metadata.namespace")
			}
			if k.fields != nil {
				known = append(known, k.fields.names...)
			}
			return fmt.Errorf("--field-selector: field label %q is not supported for %s; they have %s", r.Field, k.names[0], strings.Join(known, ", "))
		}
	}
	return nil
}

// fieldsOf are an entry's fields as --field-selector sees them.
func (k *getKind) fieldsOf(e entry) fields.Set {
	set := fields.Set{"metadata.name": e.meta.GetName(), "metadata.namespace": e.meta.GetNamespace()}
	if k.fields != nil {
		for name, value := range k.fields.of(e) {
			set[name] = value
		}
	}
	return set
}

// getCompletion proposes kinds, and then names of the kind.
func getCompletion(g *globals, o *getCommand) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return append(getKindNames(), "all"), cobra.ShellCompDirectiveNoFileComp
		}
		k, err := findGetKind(args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return g.completions(func(s *api.State) []string {
			var names []string
			for _, e := range k.list(&live{state: s, now: g.proc.Now()}) {
				if k.global || o.all || e.meta.GetNamespace() == o.namespace {
					names = append(names, e.cells[0])
				}
			}
			return names
		})(cmd, args, toComplete)
	}
}
