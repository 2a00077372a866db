package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime"
)

type topCommand struct {
	getCommand
	containers bool
	sum        bool
	by         string
	names      []string
}

func newTop(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "top", Short: "Show what pods and nodes use of processors and memory", RunE: needsSubcommand}
	cmd.AddCommand(newTopPods(g), newTopNodes(g))
	return cmd
}

func newTopPods(g *globals) *cobra.Command {
	var o topCommand
	cmd := &cobra.Command{
		Use: "pods [NAME...]", Aliases: []string{"pod", "po"}, Short: "Show what pods use",
		Long: `Shows what the containers of pods use: processors over one second, and memory that cannot be taken back
at once (the working set). Hosts are asked twice, a second apart.`,
		Example: "  berth top pods -A --sort-by cpu\n  berth top pods -l app=web --containers --sum",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return runTopPods(cmd.Context(), g, o)
		},
	}
	cmd.ValidArgsFunction = g.completions(podNames(&o.namespace))
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", metav1.NamespaceDefault, "the `namespace`")
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "all namespaces")
	f.BoolVar(&o.containers, "containers", false, "a line for each container")
	f.BoolVar(&o.sum, "sum", false, "end with the sums")
	o.flags(cmd)
	return cmd
}

func newTopNodes(g *globals) *cobra.Command {
	var o topCommand
	cmd := &cobra.Command{
		Use: "nodes [NAME...]", Aliases: []string{"node", "no"}, Short: "Show what nodes use",
		Long: `Shows what hosts use, pods and everything else: processors over one second, and memory in use without files
that nobody has looked at lately. Percentages are of what pods may have.`,
		Example: "  berth top nodes\n  berth top nodes a1 a2 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return runTopNodes(cmd.Context(), g, o)
		},
	}
	o.flags(cmd)
	return cmd
}

func (o *topCommand) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.selector, "selector", "l", "", "a label `selector`, as in app=web,tier!=db")
	f.StringVar(&o.by, "sort-by", "", "cpu or memory: the greatest first")
	f.BoolVar(&o.noHeaders, "no-headers", false, "no line with the columns' names")
	f.StringVarP(&o.output, "output", "o", "", "json or yaml")
	completeFlag(cmd, "output", fixed("json", "yaml"))
	completeFlag(cmd, "sort-by", fixed("cpu", "memory"))
}

func (o *topCommand) check() error {
	if !slices.Contains([]string{"", "cpu", "memory"}, o.by) {
		return usageError{fmt.Errorf("--sort-by %q: choose cpu or memory", o.by)}
	}
	if !slices.Contains([]string{"", "json", "yaml"}, o.output) {
		return usageError{fmt.Errorf("--output %q: choose json or yaml", o.output)}
	}
	return o.complete()
}

// topWindow is how long usage is measured.
const topWindow = time.Second

// measured is what hosts use, by node; a node that could not be asked says why.
type measured struct {
	usage map[string]runtime.HostUsage
	errs  map[string]error
}

// measure asks the nodes that were reached what they use.
func (k *looker) measure(ctx context.Context, l *live) (measured, error) {
	m := measured{map[string]runtime.HostUsage{}, map[string]error{}}
	if k.g.proc.Measure != nil {
		usage, err := k.g.proc.Measure()
		m.usage = usage
		return m, err
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, n := range l.state.Nodes {
		if seen := l.seen.Node(n.Name); n.Node == nil || seen == nil || seen.Unreachable != "" {
			continue
		}
		all.Go(func() {
			usage, err := k.usageOf(ctx, n.Node, l.state.Lineage)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				m.errs[n.Name] = err
				return
			}
			m.usage[n.Name] = usage
		})
	}
	all.Wait()
	return m, ctx.Err()
}

func (k *looker) usageOf(ctx context.Context, n *api.Node, lineage string) (runtime.HostUsage, error) {
	host, err := k.round.hosts().Host(ctx, n)
	if err != nil {
		return runtime.HostUsage{}, err
	}
	return runtime.Usage(ctx, host, lineage, topWindow)
}

// observed looks at everything and measures.
func (o *topCommand) observed(ctx context.Context, g *globals) (*live, measured, error) {
	k, err := newLooker(g)
	if err != nil {
		return nil, measured{}, err
	}
	defer k.close()
	l, err := k.look(ctx, true)
	if err != nil {
		return nil, measured{}, err
	}
	m, err := k.measure(ctx, l)
	if err != nil {
		return nil, m, err
	}
	warnUnreachable(g, l)
	for _, n := range l.state.Nodes {
		if err := m.errs[n.Name]; err != nil {
			g.diagnose(onNode(n.Name, api.DiagnosticsOf(err, "Host cannot be measured")))
		}
	}
	return l, m, nil
}

// topRow is one line: a pod, a container or a node.
type topRow struct {
	namespace, pod, name string
	cpu, memory          uint64 // nanocores, bytes
	missing              bool   // not measured
}

// millicores and mebibytes as kubectl shows them: a processor that was used at all counts for one thousandth.
func (r topRow) cells() []string {
	if r.missing {
		return []string{"<unknown>", "<unknown>"}
	}
	return []string{fmt.Sprintf("%dm", (r.cpu+999_999)/1_000_000), fmt.Sprintf("%dMi", r.memory>>20)}
}

func sortTop(rows []topRow, by string) {
	slices.SortStableFunc(rows, func(a, b topRow) int {
		switch by {
		case "cpu":
			return cmp.Compare(b.cpu, a.cpu)
		case "memory":
			return cmp.Compare(b.memory, a.memory)
		}
		return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.pod, b.pod), strings.Compare(a.name, b.name))
	})
}

func runTopPods(ctx context.Context, g *globals, o topCommand) error {
	if err := o.check(); err != nil {
		return err
	}
	l, m, err := o.observed(ctx, g)
	if err != nil {
		return err
	}
	byPod := map[string][]runtime.ContainerUsage{}
	for _, n := range l.state.Nodes {
		for _, c := range m.usage[n.Name].Containers {
			byPod[c.PodUID] = append(byPod[c.PodUID], c)
		}
	}
	var rows []topRow
	items := []any{}
	found := map[string]bool{}
	pods := 0
	for _, p := range l.pods() {
		if !o.all && p.Namespace != o.namespace || !o.labelSelector.Matches(labels.Set(p.Labels)) || len(o.names) > 0 && !slices.Contains(o.names, p.Name) {
			continue
		}
		pods++
		found[p.Name] = true
		usage := byPod[string(p.UID)]
		if len(usage) == 0 {
			if len(o.names) > 0 {
				return fail("Metrics not available yet", fmt.Sprintf("pod %q runs nothing that could be measured: it is %s.", p.Name, podStatus(&p)))
			}
			continue
		}
		rows = append(rows, podRows(&p, usage, o.containers)...)
		items = append(items, podMetrics(&p, usage, m.usage[p.Spec.NodeName]))
	}
	for _, n := range o.names {
		if !found[n] {
			return fail("Not found", fmt.Sprintf("pods %q not found. berth get pods -A lists all of them.", n))
		}
	}
	switch {
	case o.output != "":
		return printValue(g, o.output, listOf(items))
	case pods == 0:
		g.err.Println(o.nothing(false))
		return nil
	case len(rows) == 0:
		return fail("Metrics not available yet", "None of the pods runs anything that could be measured. berth get pods says why.")
	}
	o.printPods(g, rows)
	return nil
}

func podRows(p *corev1.Pod, usage []runtime.ContainerUsage, each bool) []topRow {
	total := topRow{namespace: p.Namespace, pod: p.Name}
	var rows []topRow
	for _, c := range usage {
		total.cpu, total.memory = total.cpu+c.NanoCores, total.memory+c.Memory
		rows = append(rows, topRow{namespace: p.Namespace, pod: p.Name, name: c.Container, cpu: c.NanoCores, memory: c.Memory})
	}
	if each {
		return rows
	}
	return []topRow{total}
}

func (o topCommand) printPods(g *globals, list []topRow) {
	sortTop(list, o.by)
	headings := []string{"NAME", "CPU(cores)", "MEMORY(bytes)"}
	if o.containers {
		headings = []string{"POD", "NAME", "CPU(cores)", "MEMORY(bytes)"}
	}
	if o.all {
		headings = append([]string{"NAMESPACE"}, headings...)
	}
	var rows [][]string
	var sum topRow
	for _, r := range list {
		row := []string{r.pod}
		if o.containers {
			row = append(row, r.name)
		}
		if o.all {
			row = append([]string{r.namespace}, row...)
		}
		rows = append(rows, append(row, r.cells()...))
		sum.cpu, sum.memory = sum.cpu+r.cpu, sum.memory+r.memory
	}
	if o.sum {
		empty := make([]string, len(headings)-2)
		rows = append(rows, append(slices.Clone(empty), "________", "________"), append(empty, sum.cells()...))
	}
	if o.noHeaders {
		headings = nil
	}
	g.out.Columns(headings).Print(rows)
}

// quantities is usage in the form of metrics.k8s.io.
func quantities(nanoCores, bytes uint64) map[string]string {
	return map[string]string{"cpu": fmt.Sprintf("%dn", nanoCores), "memory": fmt.Sprintf("%dKi", bytes>>10)}
}

func podMetrics(p *corev1.Pod, usage []runtime.ContainerUsage, of runtime.HostUsage) any {
	containers := []any{}
	for _, c := range usage {
		containers = append(containers, map[string]any{"name": c.Container, "usage": quantities(c.NanoCores, c.Memory)})
	}
	return map[string]any{
		"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": map[string]any{"name": p.Name, "namespace": p.Namespace, "labels": p.Labels},
		"timestamp": of.At.Format(time.RFC3339), "window": of.Window.Round(time.Millisecond).String(), "containers": containers,
	}
}

func runTopNodes(ctx context.Context, g *globals, o topCommand) error {
	if err := o.check(); err != nil {
		return err
	}
	l, m, err := o.observed(ctx, g)
	if err != nil {
		return err
	}
	var list []topRow
	nodes := map[string]corev1.Node{}
	items := []any{}
	for _, n := range l.nodes() {
		if len(o.names) > 0 && !slices.Contains(o.names, n.Name) || !o.labelSelector.Matches(labels.Set(n.Labels)) {
			continue
		}
		nodes[n.Name] = n
		u, ok := m.usage[n.Name]
		list = append(list, topRow{pod: n.Name, cpu: u.NanoCores, memory: u.Memory, missing: !ok})
		if ok {
			items = append(items, map[string]any{
				"apiVersion": "metrics.k8s.io/v1beta1", "kind": "NodeMetrics", "metadata": map[string]any{"name": n.Name, "labels": n.Labels},
				"timestamp": u.At.Format(time.RFC3339), "window": u.Window.Round(time.Millisecond).String(), "usage": quantities(u.NanoCores, u.Memory),
			})
		}
	}
	for _, n := range o.names {
		if _, ok := nodes[n]; !ok {
			return fail("Not found", fmt.Sprintf("nodes %q not found. berth get nodes lists all of them.", n))
		}
	}
	switch {
	case o.output != "":
		return printValue(g, o.output, listOf(items))
	case len(list) == 0:
		g.err.Println(o.nothing(true))
		return nil
	}
	sortTop(list, o.by)
	var rows [][]string
	for _, r := range list {
		rows = append(rows, nodeCells(r, nodes[r.pod].Status.Allocatable))
	}
	headings := []string{"NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"}
	if o.noHeaders {
		headings = nil
	}
	g.out.Columns(headings).Print(rows)
	return nil
}

func nodeCells(r topRow, all corev1.ResourceList) []string {
	cells := r.cells()
	if r.missing {
		return []string{r.pod, cells[0], "<unknown>", cells[1], "<unknown>"}
	}
	return []string{r.pod, cells[0], percent(float64(r.cpu)/1e9, all[corev1.ResourceCPU]), cells[1], percent(float64(r.memory), all[corev1.ResourceMemory])}
}

func percent(used float64, of apiresource.Quantity) string {
	if of.IsZero() {
		return "<unknown>"
	}
	return fmt.Sprintf("%d%%", int(used/of.AsApproximateFloat64()*100))
}
