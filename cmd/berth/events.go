package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/statefile"
)

type eventsCommand struct {
	namespace string
	all       bool
	object    string
	types     []string
	follow    bool
	output    string
	noHeaders bool
}

func newEvents(g *globals) *cobra.Command {
	var o eventsCommand
	cmd := &cobra.Command{
		Use: "events", Short: "List what happened to pods and other objects", Args: cobra.NoArgs,
		Long: `Lists what happened lately: pods scheduled, images pulled, containers started, killed and failing
their probes. Events are kept in the state for about an hour; the oldest come first. Events of nodes
belong to the namespace default. No host is asked.

--for takes an object as KIND/NAME, or an address: an address of a workload means its pods too.`,
		Example: `  berth events
  berth events -A --types Warning
  berth events --for pod/web-6d4cf56db6-x2k4p
  berth events --for deployment.web -f`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEvents(cmd.Context(), g, o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "all namespaces")
	f.StringVar(&o.object, "for", "", "only those of one `object`: pod/NAME, node/a1, deployment.web")
	f.StringSliceVar(&o.types, "types", nil, "only events of these types: Normal, Warning")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on as more happens")
	f.BoolVarP(&o.follow, "watch", "w", false, "the same as --follow")
	f.StringVarP(&o.output, "output", "o", "", "json, yaml")
	f.BoolVar(&o.noHeaders, "no-headers", false, "no line with the columns' names")
	completeFlag(cmd, "output", fixed("json", "yaml"))
	completeFlag(cmd, "types", fixed("Normal", "Warning"))
	completeFlag(cmd, "for", g.completions(addressNames))
	return cmd
}

func runEvents(ctx context.Context, g *globals, o eventsCommand) error {
	keep, err := o.filter()
	if err != nil {
		return err
	}
	store, err := storeOf(g)
	if err != nil {
		return err
	}
	state, err := statefile.Read(ctx, store)
	if err != nil {
		return err
	}
	p := &eventPrinter{g: g, o: o, keep: keep}
	if err := p.all(state.Events); err != nil || !o.follow {
		return err
	}
	return followEvents(ctx, statefile.Follow(store, state), p.more)
}

// followEvery is how often a follower looks.
const followEvery = 250 * time.Millisecond

// followEvents hands on what comes until the context ends, which is how a follower is stopped.
func followEvents(ctx context.Context, f *statefile.Follower, more func([]api.ObjectEvent) error) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		events, err := f.Look(ctx)
		if err == nil {
			err = more(events)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// filter makes of the flags what an event must be.
func (o eventsCommand) filter() (func(*api.ObjectEvent) bool, error) {
	if !slices.Contains([]string{"", "json", "yaml"}, o.output) {
		return nil, usageError{fmt.Errorf("--output %q: choose json or yaml", o.output)}
	}
	for _, t := range o.types {
		if !slices.ContainsFunc([]string{corev1.EventTypeNormal, corev1.EventTypeWarning}, func(k string) bool { return strings.EqualFold(k, t) }) {
			return nil, usageError{fmt.Errorf("--types %q: choose Normal, Warning or both", t)}
		}
	}
	about, err := aboutObject(o.object)
	if err != nil {
		return nil, err
	}
	return func(e *api.ObjectEvent) bool {
		if !o.all && eventNamespace(e) != o.namespace && e.Object.Address.Kind != api.KindNode {
			return false
		}
		if !o.all && e.Object.Address.Kind == api.KindNode && o.namespace != metav1.NamespaceDefault && o.object == "" {
			return false
		}
		if len(o.types) > 0 && !slices.ContainsFunc(o.types, func(t string) bool { return strings.EqualFold(t, e.Type) }) {
			return false
		}
		return about == nil || about(e.Object)
	}, nil
}

// aboutObject reads --for: KIND/NAME as kubectl has it, or an address of ours.
func aboutObject(text string) (func(api.EventObject) bool, error) {
	if text == "" {
		return nil, nil
	}
	if kind, name, ok := strings.Cut(text, "/"); ok && !strings.Contains(kind, ".") && name != "" {
		k, err := findGetKind(kind)
		if err != nil {
			return nil, err
		}
		return func(o api.EventObject) bool {
			return o.Name == name && k.called(strings.ToLower(o.Kind()))
		}, nil
	}
	a, err := api.ParseAddress(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("--for: %w, or as KIND/NAME: pod/web-6d4cf56db6-x2k4p", err)}
	}
	return func(o api.EventObject) bool { return a.Contains(o.Address) }, nil
}

// eventNamespace is where an event is listed: those of objects without a namespace are in the default one, as in Kubernetes.
func eventNamespace(e *api.ObjectEvent) string {
	return or(e.Object.Namespace, metav1.NamespaceDefault)
}

// eventPrinter prints events as they were asked for.
type eventPrinter struct {
	g     *globals
	o     eventsCommand
	keep  func(*api.ObjectEvent) bool
	table *view.Columns
}

func (p *eventPrinter) wanted(events []api.ObjectEvent) []api.ObjectEvent {
	var out []api.ObjectEvent
	for i := range events {
		if p.keep(&events[i]) {
			out = append(out, events[i])
		}
	}
	return out
}

// all prints what is there at the beginning.
func (p *eventPrinter) all(events []api.ObjectEvent) error {
	events = p.wanted(events)
	switch {
	case p.o.follow && p.o.output != "":
		return p.documents(events)
	case p.o.output != "":
		items := make([]any, 0, len(events))
		for i := range events {
			items = append(items, eventObject(&events[i]))
		}
		return printValue(p.g, p.o.output, listOf(items))
	case len(events) == 0 && !p.o.follow:
		p.g.err.Println(getCommand{namespace: p.o.namespace, all: p.o.all}.nothing(false))
		return nil
	}
	p.rows(events)
	return nil
}

// more prints what came since.
func (p *eventPrinter) more(events []api.ObjectEvent) error {
	events = p.wanted(events)
	if p.o.output != "" {
		return p.documents(events)
	}
	p.rows(events)
	return nil
}

// documents prints events one by one: a line of JSON each, or a document of YAML.
func (p *eventPrinter) documents(events []api.ObjectEvent) error {
	for i := range events {
		o := eventObject(&events[i])
		if p.o.output == "yaml" {
			b, err := yaml.Marshal(o)
			if err != nil {
				return err
			}
			p.g.out.Printf("---\n%s", b)
			continue
		}
		b, err := json.Marshal(o)
		if err != nil {
			return err
		}
		p.g.out.Println(string(b))
	}
	return nil
}

func (p *eventPrinter) rows(events []api.ObjectEvent) {
	if len(events) == 0 {
		return
	}
	if p.table == nil {
		headings := []string{"LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"}
		if p.o.all {
			headings = append([]string{"NAMESPACE"}, headings...)
		}
		if p.o.noHeaders {
			headings = nil
		}
		p.table = p.g.out.Columns(headings)
	}
	var rows [][]string
	now := p.g.proc.Now()
	for i := range events {
		e := &events[i]
		row := []string{eventAge(e, now), e.Type, e.Reason, strings.ToLower(e.Object.Kind()) + "/" + e.Object.Name, oneLine(e.Message)}
		if p.o.all {
			row = append([]string{eventNamespace(e)}, row...)
		}
		rows = append(rows, row)
	}
	p.table.Print(rows)
}

// eventAge is "3m", or "3m (x5 over 12m)" of what happened more than once (semantics.md 8.4).
func eventAge(e *api.ObjectEvent, now time.Time) string {
	age := view.Age(now.Sub(e.Last))
	if e.Count > 1 {
		age += fmt.Sprintf(" (x%d over %s)", e.Count, view.Age(now.Sub(e.First)))
	}
	return age
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// eventObject is an event as Kubernetes writes it.
func eventObject(e *api.ObjectEvent) *corev1.Event {
	k, _ := api.KindByName(e.Object.Address.Kind)
	version := k.APIVersion
	if e.Object.Kind() == "Pod" || e.Object.Kind() == "Node" {
		version = "v1"
	}
	return &corev1.Event{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{Name: eventName(e), Namespace: eventNamespace(e), CreationTimestamp: metav1.NewTime(e.First), Annotations: map[string]string{api.AnnAddress: e.Object.Address.String()}},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: version, Kind: e.Object.Kind(), Namespace: e.Object.Namespace, Name: e.Object.Name, UID: types.UID(e.Object.UID), FieldPath: e.Field,
		},
		Reason: e.Reason, Message: e.Message, Type: e.Type, Source: corev1.EventSource{Component: e.Source, Host: e.Node}, ReportingController: e.Source, ReportingInstance: e.Node,
		FirstTimestamp: metav1.NewTime(e.First), LastTimestamp: metav1.NewTime(e.Last), Count: int32(e.Count),
	}
}

// eventName tells an event from others of its object, and stays when it happens again.
func eventName(e *api.ObjectEvent) string {
	return fmt.Sprintf("%s.%x", e.Object.Name, e.First.UnixNano())
}
