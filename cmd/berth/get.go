package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/api"
)

type getCommand struct {
	namespace  string
	all        bool
	selector   string
	fields     string
	output     string
	showLabels bool
	labels     []string // -L
	sortBy     string
	noHeaders  bool
	watch      bool

	// made of the flags
	labelSelector labels.Selector
	fieldSelector fields.Selector
	format        format
	order         *path
}

func newGet(g *globals) *cobra.Command {
	var o getCommand
	cmd := &cobra.Command{
		Use:   "get KIND[,KIND...] [NAME...]",
		Short: "List pods, nodes, services, workloads, volumes with their live status",
		Long: "Lists objects that were applied, with what the hosts show now. The kind \"all\" means pods, services and\nworkloads.\n\nKinds: " +
			strings.Join(getKindNames(), ", ") + ".",
		Example: `  berth get pods -o wide
  berth get workloads -A
  berth get pods,services -l app=web
  berth get pod/web-6d4cf56db6-x2k4p -o yaml
  berth get pods -o jsonpath='{.items[*].status.podIP}'
  berth get pods --sort-by .status.startTime --field-selector spec.nodeName=a1 -w`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runGet(cmd.Context(), g, args, o) },
	}
	cmd.ValidArgsFunction = getCompletion(g, &o)
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", metav1.NamespaceDefault, "the `namespace`")
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "all namespaces")
	f.StringVarP(&o.selector, "selector", "l", "", "a label `selector`, as in app=web,tier!=db")
	f.StringVar(&o.fields, "field-selector", "", "a `selector` over fields, as in status.phase=Running,spec.nodeName!=a1")
	f.StringVarP(&o.output, "output", "o", "", "wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=NAME:PATH,...")
	f.BoolVar(&o.showLabels, "show-labels", false, "a last column with all labels")
	f.StringSliceVarP(&o.labels, "label-columns", "L", nil, "a column for each of these `labels`")
	f.StringVar(&o.sortBy, "sort-by", "", "a field, as in .metadata.creationTimestamp")
	f.BoolVar(&o.noHeaders, "no-headers", false, "no line with the columns' names")
	f.BoolVarP(&o.watch, "watch", "w", false, "go on and print what changes")
	completeFlag(cmd, "output", fixed("wide", "json", "yaml", "name", "jsonpath=", "custom-columns="))
	return cmd
}

// entry is one row of a listing: the object as Kubernetes would print it, and its cells.
type entry struct {
	meta    metav1.Object
	object  any
	cells   []string    // as many as the kind's columns and wide columns together
	address api.Address // of workloads
}

// complete makes of the flags what they mean.
func (o *getCommand) complete() (err error) {
	if o.labelSelector, err = labels.Parse(o.selector); err != nil {
		return usageError{fmt.Errorf("--selector %q: %w", o.selector, err)}
	}
	if o.fieldSelector, err = fields.ParseSelector(o.fields); err != nil {
		return usageError{fmt.Errorf("--field-selector %q: %w", o.fields, err)}
	}
	if o.format, err = parseFormat(o.output); err != nil {
		return usageError{err}
	}
	if o.sortBy != "" {
		if o.order, err = parsePath(o.sortBy); err != nil {
			return usageError{fmt.Errorf("--sort-by %q: %w", o.sortBy, err)}
		}
	}
	return nil
}

func runGet(ctx context.Context, g *globals, args []string, o getCommand) error {
	asked, err := parseResources(args)
	if err != nil {
		return err
	}
	if err := o.complete(); err != nil {
		return err
	}
	for _, r := range asked {
		if err := r.kind.checkFields(o.fieldSelector); err != nil {
			return usageError{err}
		}
	}
	k, err := newLooker(g)
	if err != nil {
		return err
	}
	defer k.close()
	if o.watch {
		return o.follow(ctx, g, k, asked)
	}
	l, err := k.look(ctx, needHosts(asked))
	if err != nil {
		return err
	}
	return o.print(g, l, asked)
}

// needHosts reports whether anything that was asked for lives on hosts.
func needHosts(asked []query) bool {
	return slices.ContainsFunc(asked, func(r query) bool { return r.kind.hosts })
}

// found is what one resource has turned out to be.
type found struct {
	query
	entries []entry
}

func (o getCommand) print(g *globals, l *live, asked []query) error {
	var all []found
	for _, r := range asked {
		entries, err := o.filter(r, r.kind.list(l))
		if err != nil {
			return err
		}
		all = append(all, found{r, entries})
	}
	if err := o.format.print(g, o, all); err != nil {
		return err
	}
	warnUnreachable(g, l)
	return nil
}

// warnUnreachable says which rows are only remembered.
func warnUnreachable(g *globals, l *live) {
	for _, n := range l.nodesSeen() {
		if n.Unreachable != "" {
			g.err.Printf("Node %s was not reached; what is said of it is what was last applied: %s\n", n.Name, n.Unreachable)
		}
	}
}

func (o getCommand) nothing(global bool) string {
	if o.all || global {
		return "No resources found"
	}
	return fmt.Sprintf("No resources found in %s namespace.", o.namespace)
}

// filter keeps what was asked for, in order. Every name has to be there.
func (o getCommand) filter(r query, entries []entry) ([]entry, error) {
	var out []entry
	seen := map[string]bool{}
	for _, e := range entries {
		if !r.kind.global && !o.all && e.meta.GetNamespace() != o.namespace {
			continue
		}
		if !o.labelSelector.Matches(labels.Set(e.meta.GetLabels())) || !o.fieldSelector.Matches(r.kind.fieldsOf(e)) {
			continue
		}
		shown, name := e.cells[0], e.meta.GetName() // of workloads, shown is deployment/NAME
		if len(r.names) > 0 && !slices.Contains(r.names, name) && !slices.Contains(r.names, shown) {
			continue
		}
		seen[shown], seen[name] = true, true
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b entry) int { return strings.Compare(a.meta.GetNamespace(), b.meta.GetNamespace()) })
	for _, n := range r.names {
		if !seen[n] {
			return nil, fail("Not found", fmt.Sprintf("%s %q not found. berth get %s -A lists all of them.", r.kind.names[0], n, r.kind.names[0]))
		}
	}
	if o.order != nil {
		return out, sortEntries(out, o.order)
	}
	return out, nil
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

// listOf is a Kubernetes list.
func listOf(items []any) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{}, "items": items}
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
	if meta, ok := m["metadata"].(map[string]any); ok && meta["creationTimestamp"] == nil && o.CreatedAt != nil {
		meta["creationTimestamp"] = metav1.NewTime(*o.CreatedAt)
	}
	return m
}
