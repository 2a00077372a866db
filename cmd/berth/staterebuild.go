package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/executor"
	"berth.dev/berth/hcl"
	"berth.dev/berth/planner"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime"
	"berth.dev/berth/providers/statecopy"
	"berth.dev/berth/statefile"
)

type rebuildCommand struct {
	planOptions
	autoApprove   bool
	force         bool
	withoutCopies bool
	lineage       string
}

func newStateRebuild(g *globals) *cobra.Command {
	var o rebuildCommand
	cmd := &cobra.Command{
		Use: "rebuild", Short: "Make a lost state anew from what the hosts show and keep", Args: cobra.NoArgs,
		Long: `Asks every node of the inventory what it runs and what it keeps of this cluster, makes a state
of that, shows how well each item of it is known, asks, and writes it. No host is changed.

  proven    the hosts show it themselves, or keep it in a copy of the last state
  inferred  it follows from one source: an older copy of the state, or the configuration
  unknown   nothing could be asked about it

Copies of the state lie on as many hosts as state_copies in the berth block says (3 where it says
nothing): encrypted like the state, or, without an encryption block, without sensitive values,
which are then taken from the configuration. berth plan afterwards shows what else was lost;
look at it before you apply anything.`,
		Example: `  berth state rebuild
  berth state rebuild --json --auto-approve | jq -r 'select(.proof == "unknown")'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g.json = o.json
			return o.run(cmd.Context(), g)
		},
	}
	o.variables(cmd.Flags())
	f := cmd.Flags()
	f.BoolVar(&o.autoApprove, "auto-approve", false, "do not ask")
	f.BoolVar(&o.json, "json", false, "one JSON object per line instead of text; asks nothing")
	f.BoolVar(&o.force, "force", false, "replace the state that is there")
	f.BoolVar(&o.withoutCopies, "without-copies", false, "take no copy of the state, only what runs and the configuration")
	f.StringVar(&o.lineage, "lineage", "", "the `lineage` of the cluster, where hosts carry the marks of several")
	f.DurationVar(&o.lockTimeout, "lock-timeout", 0, "how long to wait for the state's lock, as in 30s")
	f.IntVar(&o.parallelism, "parallelism", defaultParallelism, "how many hosts may be asked at once")
	return cmd
}

func (o *rebuildCommand) run(ctx context.Context, g *globals) error {
	if o.json && !o.autoApprove {
		return usageError{errors.New("--json asks nothing: give --auto-approve with it")}
	}
	r, err := newRound(g, o.planOptions)
	if err != nil {
		return err
	}
	defer r.close()
	if err := o.checkFree(ctx, r); err != nil {
		return err
	}
	b := &rebuilding{round: r, command: o}
	state, items, err := b.rebuild(ctx)
	if err != nil {
		return err
	}
	g.diagnose(r.warnings)
	if o.json {
		l := view.NewLines(g.proc.Stdout, nil)
		l.Version(g.proc.Version)
		l.Rebuilt(state, items)
	} else {
		g.out.Rebuilt(state, items, b.source())
	}
	if !o.autoApprove {
		yes, err := g.confirm(ctx, "\nDo you want to write this state? No host is changed. Only 'yes' will be accepted.")
		if err != nil || !yes {
			return err
		}
	}
	data, err := statefile.Encode(state, b.fence, g.proc.Version)
	if err != nil {
		return err
	}
	if _, err := statefile.Push(ctx, r.store, data, lockInfo(g.proc, "state rebuild"), statefile.OpenOptions{LockTimeout: o.lockTimeout}, o.force); err != nil {
		return err
	}
	if err := recordOf(r.module.Backend()).keep(g.dir); err != nil {
		r.log().Debug("record the backend", "err", err)
	}
	if !o.json {
		g.out.Println("\nThe state is written. berth plan shows what is not as the configuration says: look at it before you apply.")
	}
	return nil
}

// checkFree refuses to replace a state that can be used.
func (o *rebuildCommand) checkFree(ctx context.Context, r *round) error {
	s, err := statefile.Read(ctx, r.store)
	if err != nil {
		if _, damaged := errors.AsType[*statefile.DamagedError](err); damaged {
			err = errors.Join(err, fail("State is not rebuilt over a damaged one", "Put the good state back that the message above names, or move the damaged one away and run berth state rebuild again."))
		}
		return err
	}
	if s.Serial > 0 && !o.force {
		return fail("There is a state", fmt.Sprintf("It has serial %d and can be read, so nothing has to be rebuilt. berth drift compares it with the hosts. --force replaces it all the same.", s.Serial))
	}
	return nil
}

// rebuilding is what is gathered for a new state.
type rebuilding struct {
	*round
	command *rebuildCommand

	config *api.Config
	seen   *api.Observation
	held   map[string]*statecopy.Held
	unread map[string]string // why nodes that run could not be asked what they keep

	lineage string
	fence   uint64 // of the state that is made: no less than any that a host may have seen, as the next Open adds one
	copy    *api.State
	of      uint64 // the fence of the copy
	last    bool
	keepers []string // the nodes that keep the copy
}

func (b *rebuilding) rebuild(ctx context.Context) (*api.State, []api.RebuiltItem, error) {
	if err := b.look(ctx); err != nil {
		return nil, nil, err
	}
	if err := b.chooseLineage(); err != nil {
		return nil, nil, err
	}
	for { // a copy may know of nodes that keep a newer one
		said := len(b.warnings)
		if !b.command.withoutCopies {
			if err := b.chooseCopy(ctx); err != nil {
				return nil, nil, err
			}
		}
		more, err := b.evaluateAgain(ctx)
		if err != nil {
			return nil, nil, err
		}
		if len(more) == 0 {
			break
		}
		b.warnings = b.warnings[:said]
		if err := b.lookAt(ctx, more); err != nil {
			return nil, nil, err
		}
	}
	b.number()
	shares := map[string]planner.Share{}
	for name, h := range b.held {
		shares[name] = planner.Share{PodCIDR: h.PodCIDR, SecondPodCIDR: h.SecondPodCIDR, VTEPMAC: h.VTEPMAC}
	}
	for name, why := range b.unread {
		shares[name] = planner.Share{Unread: why}
	}
	in := planner.RebuildInput{Lineage: b.lineage, Config: b.config, Observed: b.seen, Shares: shares, Copy: b.copy, Last: b.last}
	state, items, err := planner.Rebuild(in)
	if err != nil {
		return nil, nil, err
	}
	if in.Otherwise = b.otherwise(ctx, state); len(in.Otherwise) > 0 {
		if state, items, err = planner.Rebuild(in); err != nil {
			return nil, nil, err
		}
	}
	b.finish(state)
	return state, items, nil
}

// evaluate reads the configuration as it stands to a state.
func (b *rebuilding) evaluate(ctx context.Context, prior *api.State, images bool) error {
	o := hcl.Options{Vars: b.g.values(b.opts.vars), Env: b.g.proc.Env, Prior: prior, Version: b.g.proc.Version, System: !b.g.proc.NoSystem}
	if images {
		o.BuildImage = b.images.Build
	}
	cfg, diags := b.module.Evaluate(ctx, o)
	if diags.HasErrors() {
		return diags.Err()
	}
	b.config = cfg
	if images {
		b.warnings = append(b.warnings, diags...)
	}
	return nil
}

// number takes the fence from all hosts that were asked and from the copy. Where some did not answer it leaves a gap: they may have seen later runs.
func (b *rebuilding) number() {
	var seen uint64
	for _, n := range b.seen.Nodes {
		if n.Lineage == b.lineage {
			seen = max(seen, n.Fence)
		}
	}
	b.last = b.copy != nil && b.of >= seen
	b.fence = max(seen, b.of)
	if !b.allAnswered() {
		b.fence += gap
	}
}

func (b *rebuilding) allAnswered() bool {
	return !slices.ContainsFunc(b.seen.Nodes, func(n *api.NodeObservation) bool { return n.Unreachable != "" })
}

// otherwise are the pods whose files, as their hosts have them, are not what the objects of the rebuilt state would have in them, of those about which no copy of
// the last state says it. One that cannot be asked counts as such: its files are written once more.
func (b *rebuilding) otherwise(ctx context.Context, s *api.State) map[string]bool {
	known := map[string]bool{}
	if b.copy != nil {
		for i := range b.copy.Pods {
			known[b.copy.Pods[i].UID] = b.last && b.copy.Pods[i].Files != nil
		}
	}
	contents := map[api.Address]*api.Object{}
	for _, o := range s.Objects {
		if k := o.Address.Kind; k == api.KindConfigMap || k == api.KindSecret {
			contents[o.Address] = o
		}
	}
	works, out := map[string][]*providers.Work{}, map[string]bool{} // by node, by uid
	for i := range s.Pods {
		p := &s.Pods[i]
		if len(p.Files) == 0 || known[p.UID] {
			continue
		}
		n := s.Node(p.Node)
		if n == nil || n.Node == nil || p.Spec == nil { // nobody can say
			out[p.UID] = true
			continue
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: p.Address.Pod, Namespace: p.Namespace, UID: types.UID(p.UID), Labels: p.Labels}, Spec: *p.Spec}
		if o := b.seenPod(n.Name, p.UID); o != nil {
			pod.Annotations = o.Annotations
		}
		works[n.Name] = append(works[n.Name], &providers.Work{Step: &api.Step{Address: p.Address, Node: n.Name, Pod: &api.PodWork{Pod: pod}}, Cluster: s.Cluster, Lineage: s.Lineage, Objects: contents, NodeIP: n.IP, SecondNodeIP: n.SecondIP})
	}
	nodes := slices.Sorted(maps.Keys(works))
	differ, failed := make([]map[string]bool, len(nodes)), make([]error, len(nodes))
	var all sync.WaitGroup
	turn := make(chan struct{}, max(1, b.opts.parallelism))
	for i, name := range nodes {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			differ[i], failed[i] = b.filesDiffer(ctx, s.Node(name).Node, works[name])
		})
	}
	all.Wait()
	for i, name := range nodes {
		if failed[i] != nil {
			b.warnOf(name, "What files of pods hold could not be read", failed[i])
		}
		for _, w := range works[name] {
			if uid := string(w.Step.Pod.Pod.UID); failed[i] != nil || differ[i][uid] {
				out[uid] = true
			}
		}
	}
	return out
}

func (b *rebuilding) filesDiffer(ctx context.Context, n *api.Node, works []*providers.Work) (map[string]bool, error) {
	if o := b.seen.Node(n.Name); o == nil || o.Unreachable != "" {
		return nil, errors.New("the host cannot be reached")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	h, err := b.hosts().Host(ctx, n)
	if err != nil {
		return nil, err
	}
	return runtime.FilesDiffer(ctx, h, works)
}

func (b *rebuilding) seenPod(node, uid string) *api.ObservedPod {
	o := b.seen.Node(node)
	if o == nil {
		return nil
	}
	for i := range o.Pods {
		if o.Pods[i].UID == uid {
			return &o.Pods[i]
		}
	}
	return nil
}

// look asks the inventory's nodes.
func (b *rebuilding) look(ctx context.Context) error {
	if err := b.evaluate(ctx, &api.State{}, false); err != nil {
		return err
	}
	if len(b.config.Nodes) == 0 {
		return fail("No nodes", "The configuration declares no node, so there is nobody to ask. Add node blocks or an inventory.")
	}
	b.seen, b.held, b.unread = &api.Observation{}, map[string]*statecopy.Held{}, map[string]string{}
	return b.lookAt(ctx, b.config.Nodes)
}

// lookAt asks nodes what they run and what they keep.
func (b *rebuilding) lookAt(ctx context.Context, nodes []*api.Node) error {
	b.seen.Nodes = append(b.seen.Nodes, executor.Observe(ctx, b.executor(), nodes).Nodes...)
	slices.SortFunc(b.seen.Nodes, func(x, y *api.NodeObservation) int { return strings.Compare(x.Name, y.Name) })
	maps.Copy(b.held, b.ask(ctx, nodes))
	return ctx.Err()
}

// ask asks reachable nodes at once what they keep.
func (b *rebuilding) ask(ctx context.Context, nodes []*api.Node) map[string]*statecopy.Held {
	out := map[string]*statecopy.Held{}
	var mu sync.Mutex
	var all sync.WaitGroup
	turn := make(chan struct{}, max(1, b.opts.parallelism))
	for _, n := range nodes {
		if o := b.seen.Node(n.Name); o == nil || o.Unreachable != "" {
			continue
		}
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
			defer cancel()
			h, err := b.hosts().Host(ctx, n)
			var held *statecopy.Held
			if err == nil {
				held, err = statecopy.Look(ctx, h)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				b.unread[n.Name] = err.Error()
				b.warnOf(n.Name, "What the host keeps could not be read", err)
				return
			}
			if held.Damaged != nil {
				b.warnOf(n.Name, "Copy of the state is damaged", held.Damaged)
			}
			out[n.Name] = held
		})
	}
	all.Wait()
	return out
}

func (b *rebuilding) warnOf(node, summary string, err error) {
	b.warnings = append(b.warnings, api.Diagnostic{Severity: api.SeverityWarning, Summary: summary, Node: node, Detail: err.Error() + "."})
}

// chooseLineage finds the cluster that the hosts belong to.
func (b *rebuilding) chooseLineage() error {
	found := map[string][]string{}
	for _, n := range b.seen.Nodes {
		if n.Lineage != "" {
			found[n.Lineage] = append(found[n.Lineage], n.Name)
		}
	}
	b.lineage = b.command.lineage
	switch {
	case b.lineage != "" && found[b.lineage] == nil:
		return fail("No such lineage", fmt.Sprintf("No host that was asked carries the mark of lineage %s%s.", b.lineage, lineages(found)))
	case b.lineage != "":
	case len(found) == 1:
		b.lineage = slices.Collect(maps.Keys(found))[0]
	case len(found) == 0:
		why := ""
		for _, n := range b.seen.Nodes {
			if n.Unreachable != "" {
				why += fmt.Sprintf("\n  - node %s cannot be reached: %s", n.Name, n.Unreachable)
			}
		}
		return fail("Nothing to rebuild from", "No host of the inventory that was asked carries a mark of Berth ("+api.MarkFile+")."+why)
	default:
		return fail("Hosts belong to several clusters", "--lineage says whose state is to be rebuilt"+lineages(found)+".")
	}
	return nil
}

func lineages(found map[string][]string) string {
	var b strings.Builder
	for i, l := range slices.Sorted(maps.Keys(found)) {
		b.WriteString(map[bool]string{true: ": ", false: "; "}[i == 0])
		b.WriteString(l + " on " + strings.Join(found[l], ", "))
	}
	return b.String()
}

// chooseCopy takes the newest copy of the state that can be read.
func (b *rebuilding) chooseCopy(ctx context.Context) error {
	type found struct {
		node string
		*statecopy.Copy
	}
	var list []found
	for _, node := range slices.Sorted(maps.Keys(b.held)) {
		if c := b.held[node].Copy; c != nil && c.Lineage == b.lineage {
			list = append(list, found{node, c})
		}
	}
	slices.SortStableFunc(list, func(x, y found) int {
		return cmp.Or(cmp.Compare(y.Fence, x.Fence), cmp.Compare(y.Serial, x.Serial))
	})
	var failed error
	for _, f := range list {
		data, err := statefile.OpenCopy(ctx, b.store, f.Data)
		var s *api.State
		var fence uint64
		if err == nil {
			s, fence, err = statefile.DecodeFenced(data)
		}
		if err == nil && s.Lineage != b.lineage {
			err = fmt.Errorf("inside it is of lineage %s", s.Lineage)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("the copy on %s: %w", f.node, err))
			b.warnOf(f.node, "Copy of the state cannot be used", err)
			continue
		}
		b.copy, b.of, b.keepers = s, fence, nil
		for _, same := range list {
			if same.Fence == f.Fence && same.Serial == f.Serial {
				b.keepers = append(b.keepers, same.node)
			}
		}
		return nil
	}
	if failed != nil {
		return &api.DiagnosticsError{Diagnostics: api.Diagnostics{{Severity: api.SeverityError, Summary: "No copy of the state can be used", Detail: fmt.Sprintf(
			"%v. Give the key that the state was encrypted with in an encryption block. --without-copies goes on with what runs and the configuration alone.", failed)}}}
	}
	return nil
}

// evaluateAgain reads the configuration as it stands to the copy. It returns the nodes that only the copy knows and nobody has asked yet.
func (b *rebuilding) evaluateAgain(ctx context.Context) (more []*api.Node, err error) {
	prior := &api.State{Lineage: b.lineage}
	if b.copy != nil {
		prior = b.copy
	}
	if err := b.evaluate(ctx, prior, true); err != nil {
		return nil, err
	}
	for _, n := range nodesToSee(b.config.Nodes, prior) {
		if b.seen.Node(n.Name) == nil {
			more = append(more, n)
		}
	}
	return more, ctx.Err()
}

// How far the serial of a rebuilt state is from the copy's, and its fence from what hosts have seen: no two contents and no two runs have the same one,
// and how many an older copy lacks, or a host that is silent has seen, nobody knows.
const gap = 1000

// finish numbers the state and notes in its history where it comes from.
func (b *rebuilding) finish(s *api.State) {
	if b.copy != nil && b.last && b.allAnswered() {
		s.Serial = b.copy.Serial + 1
	} else {
		s.Serial += gap
	}
	keep, _ := b.module.Retention()
	record := api.ApplyRecord{
		Serial: s.Serial, Who: whoami(b.g.proc), At: b.g.proc.Now().UTC(), Operation: "state rebuild", Job: jobURL(b.g.proc), From: b.g.dir, Summary: b.source(),
	}
	s.Apply(api.Delta{Record: &record, Retention: &keep})
}

// source says what the state was made of.
func (b *rebuilding) source() string {
	switch {
	case b.copy == nil:
		return "rebuilt from what hosts run and from the configuration"
	case b.last:
		return fmt.Sprintf("rebuilt from the copy of the last state (serial %d) on %s, and from what hosts run", b.copy.Serial, strings.Join(b.keepers, ", "))
	}
	return fmt.Sprintf("rebuilt from a copy of an older state (serial %d) on %s, and from what hosts run", b.copy.Serial, strings.Join(b.keepers, ", "))
}
