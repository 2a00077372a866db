package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/api"
)

type getCommand struct {
	namespace string
	all       bool
	selector  string
	output    string
	names     []string
}

func newGet(g *globals) *cobra.Command {
	var o getCommand
	cmd := &cobra.Command{
		Use:   "get KIND [NAME...]",
		Short: "List pods, nodes, services, workloads, volumes with their live status",
		Long: "Lists objects that were applied, with what the hosts show now.\n\nKinds: " +
			strings.Join(getKindNames(), ", ") + ".",
		Example: "  berth get pods -o wide\n  berth get workloads -A\n  berth get pods -l app=web -o json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args[1:]
			return runGet(cmd.Context(), g, args[0], o)
		},
		ValidArgs: getKindNames(),
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "all namespaces")
	f.StringVarP(&o.selector, "selector", "l", "", "a label `selector`, as in app=web,tier!=db")
	f.StringVarP(&o.output, "output", "o", "", "wide, json, yaml or name")
	completeFlag(cmd, "output", fixed("wide", "json", "yaml", "name"))
	return cmd
}

// entry is one row of a listing: the object as Kubernetes would print it, and its cells.
type entry struct {
	meta   metav1.Object
	object any
	cells  []string // as many as the kind's columns and wide columns together
}

// getKind is how one kind is listed.
type getKind struct {
	names   []string // the first is the title
	columns []string
	wide    []string
	global  bool // no namespace
	list    func(*live) []entry
}

func getKindNames() []string {
	var names []string
	for _, k := range getKinds {
		names = append(names, k.names[0])
	}
	return names
}

func findGetKind(name string) (getKind, []string, error) {
	name, object, _ := strings.Cut(name, "/")
	for _, k := range getKinds {
		if slices.Contains(k.names, strings.ToLower(name)) {
			if object != "" {
				return k, []string{object}, nil
			}
			return k, nil, nil
		}
	}
	return getKind{}, nil, fail("Unknown kind", fmt.Sprintf("berth get knows no kind %q. It knows: %s.", name, strings.Join(getKindNames(), ", ")))
}

func runGet(ctx context.Context, g *globals, kindName string, o getCommand) error {
	kind, names, err := findGetKind(kindName)
	if err != nil {
		return err
	}
	o.names = append(names, o.names...)
	if !slices.Contains([]string{"", "wide", "json", "yaml", "name"}, o.output) {
		return usageError{fmt.Errorf("--output %q: choose wide, json, yaml or name", o.output)}
	}
	selector, err := labels.Parse(o.selector)
	if err != nil {
		return usageError{fmt.Errorf("--selector %q: %w", o.selector, err)}
	}
	l, err := look(ctx, g)
	if err != nil {
		return err
	}
	entries, err := o.filter(kind, kind.list(l), selector)
	if err != nil {
		return err
	}
	switch o.output {
	case "json", "yaml":
		return printList(g, kind, entries, o)
	case "name":
		for _, e := range entries {
			name := e.cells[0]
			if !strings.Contains(name, "/") {
				name = kind.names[1] + "/" + name
			}
			g.out.Println(name)
		}
		return nil
	}
	if len(entries) == 0 {
		g.err.Println(o.nothing(kind))
		return nil
	}
	o.table(g, kind, entries)
	warnUnreachable(g, l)
	return nil
}

// warnUnreachable says which rows are only remembered.
func warnUnreachable(g *globals, l *live) {
	for _, n := range l.seen.Nodes {
		if n.Unreachable != "" {
			g.err.Printf("Node %s was not reached; what is said of it is what was last applied: %s\n", n.Name, n.Unreachable)
		}
	}
}

func (o getCommand) nothing(k getKind) string {
	if o.all || k.global {
		return "No resources found"
	}
	return fmt.Sprintf("No resources found in %s namespace.", o.namespace)
}

func (o getCommand) filter(k getKind, entries []entry, selector labels.Selector) ([]entry, error) {
	var out []entry
	found := map[string]bool{}
	for _, e := range entries {
		if !k.global && !o.all && e.meta.GetNamespace() != o.namespace {
			continue
		}
		if !selector.Matches(labels.Set(e.meta.GetLabels())) {
			continue
		}
		shown, name := e.cells[0], e.meta.GetName() // of workloads, shown is deployment/NAME
		if len(o.names) > 0 && !slices.Contains(o.names, name) && !slices.Contains(o.names, shown) {
			continue
		}
		found[shown], found[name] = true, true
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b entry) int { return strings.Compare(a.meta.GetNamespace(), b.meta.GetNamespace()) })
	for _, n := range o.names {
		if !found[n] {
			return nil, fail("Not found", fmt.Sprintf("%s %q not found. berth get %s -A lists all of them.", k.names[0], n, k.names[0]))
		}
	}
	return out, nil
}

func (o getCommand) table(g *globals, k getKind, entries []entry) {
	columns := slices.Clone(k.columns)
	if o.output == "wide" {
		columns = append(columns, k.wide...)
	}
	namespace := o.all && !k.global
	if namespace {
		columns = append([]string{"NAMESPACE"}, columns...)
	}
	var rows [][]string
	for _, e := range entries {
		n := len(k.columns)
		if o.output == "wide" {
			n = len(e.cells)
		}
		row := slices.Clone(e.cells[:n])
		if namespace {
			row = append([]string{e.meta.GetNamespace()}, row...)
		}
		rows = append(rows, row)
	}
	g.out.Table(columns, rows)
}

// printList prints a Kubernetes list, or one object when one was asked for by name.
func printList(g *globals, k getKind, entries []entry, o getCommand) error {
	items := make([]any, 0, len(entries))
	for _, e := range entries {
		items = append(items, e.object)
	}
	var v any = listOf(items)
	if len(o.names) == 1 && len(items) == 1 {
		v = items[0]
	}
	return printValue(g, o.output, v)
}

// listOf is a Kubernetes list.
func listOf(items []any) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{}, "items": items}
}

// printValue prints a value as JSON or YAML.
func printValue(g *globals, format string, v any) error {
	if format == "json" {
		return printJSON(g, v)
	}
	b, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	g.out.Printf("%s", b)
	return nil
}

// typed returns an object's value as a map with its apiVersion and kind, which applied values do not carry.
func typed(o *api.Object, value any) map[string]any {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	var m map[string]any
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	m["apiVersion"], m["kind"] = o.Kind().APIVersion, o.Kind().APIKind
	return m
}
