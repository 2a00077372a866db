package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

type describeCommand struct {
	getCommand
	events bool
}

func newDescribe(g *globals) *cobra.Command {
	var o describeCommand
	cmd := &cobra.Command{
		Use: "describe KIND [NAME...]", Short: "Show everything about pods, nodes, services, workloads", Args: cobra.MinimumNArgs(1),
		Long: `Shows what is known of objects in Kubernetes' sections: what was applied, what the hosts show now, and
the events that are about them. A name that no object has means those whose names begin with it.

Kinds: ` + strings.Join(getKindNames(), ", ") + ".",
		Example: `  berth describe pod web-6d4cf56db6-x2k4p
  berth describe pod/web-6d4cf56db6-x2k4p node/a1
  berth describe deployment web -n shop
  berth describe pods -l app=web`,
		RunE: func(cmd *cobra.Command, args []string) error { return runDescribe(cmd.Context(), g, args, o) },
	}
	cmd.ValidArgsFunction = getCompletion(g, &o.getCommand)
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", metav1.NamespaceDefault, "the `namespace`")
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "all namespaces")
	f.StringVarP(&o.selector, "selector", "l", "", "a label `selector`, as in app=web,tier!=db")
	f.BoolVar(&o.events, "show-events", true, "end with the events")
	f.StringVarP(&o.output, "output", "o", "", "json or yaml: the objects with their events")
	completeFlag(cmd, "output", fixed("json", "yaml"))
	return cmd
}

func runDescribe(ctx context.Context, g *globals, args []string, o describeCommand) error {
	asked, err := parseResources(args)
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"", "json", "yaml"}, o.output) {
		return usageError{fmt.Errorf("--output %q: choose json or yaml", o.output)}
	}
	if err := o.complete(); err != nil {
		return err
	}
	k, err := newLooker(g)
	if err != nil {
		return err
	}
	defer k.close()
	l, err := k.look(ctx, true)
	if err != nil {
		return err
	}
	var all []found
	for _, q := range asked {
		entries, err := o.find(q, l)
		if err != nil {
			return err
		}
		all = append(all, found{q, entries})
	}
	if o.output != "" {
		return o.document(g, l, all)
	}
	first := true
	for _, f := range all {
		for _, e := range f.entries {
			if !first {
				g.out.Println("\n")
			}
			first = false
			if err := o.describe(g, l, f.kind, e); err != nil {
				return err
			}
		}
	}
	if first {
		g.err.Println(o.nothing(allGlobal(all)))
	}
	warnUnreachable(g, l)
	return nil
}

// find takes a name that no object has as the beginning of names, as kubectl does.
func (o describeCommand) find(q query, l *live) ([]entry, error) {
	list := q.kind.list(l)
	entries, err := o.filter(q, list)
	if err == nil || len(q.names) != 1 {
		return entries, err
	}
	some, _ := o.filter(query{kind: q.kind}, list)
	some = slices.DeleteFunc(some, func(e entry) bool { return !strings.HasPrefix(e.meta.GetName(), q.names[0]) })
	if len(some) == 0 {
		return nil, err
	}
	return some, nil
}

func (o describeCommand) document(g *globals, l *live, all []found) error {
	items := []any{}
	for _, f := range all {
		for _, e := range f.entries {
			item := map[string]any{"object": e.object}
			k, err := f.kind.own(e)
			if err != nil {
				return err
			}
			if o.events {
				events := []any{}
				for _, ev := range k.eventsOf(l, e) {
					events = append(events, eventObject(&ev))
				}
				item["events"] = events
			}
			items = append(items, item)
		}
	}
	return printValue(g, o.output, map[string]any{"items": items})
}

func (o describeCommand) describe(g *globals, l *live, k *getKind, e entry) error {
	k, err := k.own(e)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	d := &description{out: tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0), now: l.now}
	if err := k.describe(d, l, e); err != nil {
		return err
	}
	if o.events && k.kind != "" {
		d.eventList(k.eventsOf(l, e))
	}
	d.out.Flush() // into memory
	for line := range strings.Lines(b.String()) {
		g.out.Println(strings.TrimRight(line, " \n"))
	}
	return nil
}

// own is the kind of an entry: that of the listing, but of a listing of several kinds the one that the entry names.
func (k *getKind) own(e entry) (*getKind, error) {
	if k.describe != nil {
		return k, nil
	}
	kind, _, _ := strings.Cut(e.cells[0], "/")
	return findGetKind(kind)
}

// eventsOf are the events about one object: of a pod, about it and not about an earlier one of its name.
func (k *getKind) eventsOf(l *live, e entry) []api.ObjectEvent {
	var out []api.ObjectEvent
	for _, ev := range l.state.Events {
		kind := ev.Object.Address.Kind
		if ev.Object.Kind() == "Pod" {
			kind = api.KindPod
		}
		if kind == k.kind && ev.Object.Name == e.meta.GetName() && ev.Object.Namespace == e.meta.GetNamespace() &&
			(ev.Object.UID == "" || ev.Object.UID == string(e.meta.GetUID())) {
			out = append(out, ev)
		}
	}
	return out
}

// description is written in aligned blocks of "Key:  value", as kubectl writes it (semantics.md 8.4).
type description struct {
	out *tabwriter.Writer
	now time.Time
}

// put writes a line, indented by two spaces for each level. Tabs align.
func (d *description) put(level int, format string, args ...any) {
	fmt.Fprint(d.out, strings.Repeat("  ", level))
	fmt.Fprintf(d.out, format, args...)
	fmt.Fprintln(d.out)
}

// key writes "Key:  value" at the top level.
func (d *description) key(name string, value any) { d.put(0, "%s:\t%v", name, value) }

// some writes "Key:  value" unless the value is empty.
func (d *description) some(name, value string) {
	if value != "" {
		d.key(name, value)
	}
}

// pairs writes a map one entry a line, under one key.
func (d *description) pairs(level int, name string, m map[string]string, between string) {
	if len(m) == 0 {
		d.put(level, "%s:\t<none>", name)
		return
	}
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, k+between+strings.ReplaceAll(m[k], "\n", " "))
	}
	d.list(level, name, lines)
}

// list writes lines under one key, the first beside it.
func (d *description) list(level int, name string, lines []string) {
	if len(lines) == 0 {
		d.put(level, "%s:\t<none>", name)
	}
	for i, line := range lines {
		if i == 0 {
			d.put(level, "%s:\t%s", name, line)
			continue
		}
		d.put(level, "\t%s", line)
	}
}

// table writes rows under headings and dashes, one level in. The name may hold its own tab and value.
func (d *description) table(level int, name string, headings []string, rows [][]string) {
	d.out.Flush()
	if !strings.Contains(name, ":") {
		name += ":"
	}
	d.put(level, "%s", name)
	d.rows(level+1, headings, rows)
}

// rows writes a table without a name.
func (d *description) rows(level int, headings []string, rows [][]string) {
	d.out.Flush()
	dashes := make([]string, len(headings))
	for i, h := range headings {
		dashes[i] = strings.Repeat("-", len(h))
	}
	for _, row := range append([][]string{headings, dashes}, rows...) {
		d.put(level, "%s", strings.Join(row, "\t"))
	}
	d.out.Flush()
}

// head writes what every description begins with.
func (d *description) head(o metav1.Object, namespaced bool) {
	d.key("Name", o.GetName())
	if namespaced {
		d.key("Namespace", o.GetNamespace())
	}
}

func (d *description) labels(o metav1.Object) {
	d.pairs(0, "Labels", o.GetLabels(), "=")
	d.pairs(0, "Annotations", o.GetAnnotations(), ": ")
}

// when is a time as kubectl describes it.
func when(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return t.UTC().Format(time.RFC1123Z)
}

func (d *description) created(o metav1.Object) {
	d.key("CreationTimestamp", when(o.GetCreationTimestamp()))
}

func (d *description) eventList(events []api.ObjectEvent) {
	if len(events) == 0 {
		d.key("Events", "<none>")
		return
	}
	var rows [][]string
	for i := range events {
		e := &events[i]
		message := oneLine(e.Message)
		if e.Field != "" {
			message = e.Field + ": " + message
		}
		rows = append(rows, []string{e.Type, e.Reason, eventAge(e, d.now), or(e.Source, "<none>"), message})
	}
	d.table(0, "Events", []string{"Type", "Reason", "Age", "From", "Message"}, rows)
}

// uncovered reads an entry's object, in which everything sensitive is covered, into its type.
func uncovered[T any](e entry, into *T) error {
	raw, err := json.Marshal(e.object)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fail("Object cannot be described", fmt.Sprintf("%s: %v. A value that is no text is marked as sensitive; berth get -o yaml shows the rest.", e.meta.GetName(), err))
	}
	return nil
}

func capital(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// resources writes quantities one a line, by name.
func (d *description) resources(level int, name string, list corev1.ResourceList) {
	if len(list) == 0 {
		return
	}
	d.put(level, "%s:", name)
	for _, r := range slices.Sorted(maps.Keys(list)) {
		q := list[r]
		d.put(level+1, "%s:\t%s", r, q.String())
	}
}
