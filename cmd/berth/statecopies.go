package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/statecopy"
	"berth.dev/berth/statefile"
)

// How long hosts may take for their copies: one of them, and all attempts together.
const (
	copyTimeout   = 5 * time.Second
	copiesTimeout = 15 * time.Second
)

// copies are where a run keeps copies of the state that it leaves.
type copies struct {
	round *round
	file  *statefile.File
	ctx   context.Context // of the command: nothing is kept once it was interrupted hard
	warn  func(api.Diagnostic)

	mu   sync.Mutex
	away map[string]time.Time // nodes that did not answer, and when they did not
}

// awayFor is how long a node that did not answer is passed over: a watchdog writes the state often.
const awayFor = time.Minute

// keep has the copy on as many hosts as the configuration says, all at once, and takes it from those that are not to have one any more. A host that does
// not take it is replaced by the next one. That some do not is no error: the state itself is written.
func (k *copies) keep(ctx context.Context, c statefile.Copy) {
	if k.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, copiesTimeout)
	defer cancel()
	packed, err := statecopy.Pack(statecopy.Copy{Lineage: c.Lineage, Serial: c.Serial, Fence: c.Fence, Data: c.Data})
	if err != nil {
		k.tell(0, err)
		return
	}
	state := k.file.State()
	want := k.round.module.StateCopies()
	left := k.candidates(state)
	var had []string
	var failed error
	for len(left) > 0 && len(had) < want && ctx.Err() == nil {
		n := min(want-len(had), len(left))
		took, err := k.each(ctx, state, left[:n], func(ctx context.Context, h providers.Host, w *providers.Work) error {
			return statecopy.Put(ctx, h, w, packed)
		})
		had, failed, left = append(had, took...), errors.Join(failed, err), left[n:]
	}
	if _, err := k.each(ctx, state, k.stale(state, had), statecopy.Drop); err != nil {
		failed = errors.Join(failed, err)
	}
	if failed != nil && len(had) < want || len(had) == 0 && min(want, len(state.Nodes)) > 0 {
		k.tell(len(had), failed)
	}
}

// members is how many hosts could keep a copy, whether or not they answer.
func members(s *api.State) int {
	n := 0
	for _, node := range s.Nodes {
		if node.Node != nil {
			n++
		}
	}
	return n
}

// each does something on hosts at once, and returns the names of those where it went well.
func (k *copies) each(ctx context.Context, s *api.State, nodes []*api.Node, do func(context.Context, providers.Host, *providers.Work) error) (well []string, err error) {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, copyTimeout)
			defer cancel()
			h, err := k.round.hosts().Host(ctx, n)
			if err == nil {
				err = do(ctx, h, &providers.Work{Step: &api.Step{Node: n.Name}, Lineage: s.Lineage, Cluster: s.Cluster, Fence: k.file.Fence()})
			}
			if err != nil && !errors.Is(err, providers.ErrFenced) && !errors.Is(err, statecopy.ErrNoMember) {
				k.mu.Lock()
				k.away[n.Name] = time.Now()
				k.mu.Unlock()
			}
			errs[i] = err
		})
	}
	all.Wait()
	for i, n := range nodes {
		if errs[i] == nil {
			well = append(well, n.Name)
		}
	}
	return well, errors.Join(errs...)
}

// candidates are the members that may keep a copy, the first ones first: one of each zone, then a second one of each, by name.
func (k *copies) candidates(s *api.State) []*api.Node {
	k.mu.Lock()
	defer k.mu.Unlock()
	type candidate struct {
		node *api.Node
		turn int
	}
	var list []candidate
	zones := map[string]int{}
	for _, n := range s.Nodes { // sorted by name
		if n.Node == nil || time.Since(k.away[n.Name]) < awayFor || k.silent(n.Name) {
			continue
		}
		zone := n.Node.Labels[corev1.LabelTopologyZone]
		list = append(list, candidate{n.Node, zones[zone]})
		zones[zone]++
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return a.turn - b.turn })
	out := make([]*api.Node, len(list))
	for i, c := range list {
		out[i] = c.node
	}
	return out
}

func (k *copies) silent(node string) bool {
	o := k.round.seen.Node(node)
	return o != nil && o.Unreachable != ""
}

// stale are the members that were seen to keep a copy, be it a damaged one, and are not among those that do now. There are none as long as fewer do than should: an older
// copy is better than none.
func (k *copies) stale(s *api.State, now []string) []*api.Node {
	if len(now) < min(k.round.module.StateCopies(), members(s)) {
		return nil
	}
	var out []*api.Node
	for _, n := range s.Nodes {
		o := k.round.seen.Node(n.Name)
		if o != nil && (o.Copy > 0 || o.CopyDamaged) && n.Node != nil && !slices.Contains(now, n.Name) && !k.silent(n.Name) {
			out = append(out, n.Node)
		}
	}
	return out
}

// lacking reports whether hosts that were just seen do not keep the copies that they should.
func (k *copies) lacking() bool {
	s := k.file.State()
	nodes := k.candidates(s)
	keep := nodes[:min(len(nodes), k.round.module.StateCopies())]
	names := make([]string, len(keep))
	for i, n := range keep {
		names[i] = n.Name
		if o := k.round.seen.Node(n.Name); o != nil && o.Lineage == s.Lineage && o.Copy != s.Serial {
			return true
		}
	}
	return len(k.stale(s, names)) > 0
}

// refresh keeps the copies of a run that has nothing to write.
func (k *copies) refresh(ctx context.Context) {
	if k.file.State().Serial == 0 || !k.lacking() {
		return
	}
	c, err := k.file.Copy(ctx)
	if err != nil {
		k.tell(0, err)
		return
	}
	k.keep(ctx, c)
}

func (k *copies) tell(kept int, err error) {
	why := ""
	if err != nil {
		why = ": " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	k.warn(api.Diagnostic{Severity: api.SeverityWarning, Summary: "Copies of the state are missing", Detail: fmt.Sprintf(
		"%d of %d hosts keep a copy of the present state%s. The state itself is written; the next apply tries again.", kept, k.round.module.StateCopies(), why)})
}
