package planner

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
)

// A watchdog concludes that a node is lost, and writes taints down as Kubernetes' node controller does. Plans follow them: pods
// that do not tolerate them, or no longer, are made elsewhere, as far as nothing else keeps them; what may still run on the node is
// remembered, and is the first thing to go when it is back. A node that answers is lost no more.

// lostPods decides which pods of a lost node are given up.
type lostPods struct {
	stuck map[api.Address]int // how many pods of a workload stay where they are for want of room elsewhere
	kept  map[api.Address]int // of these, those that were met in this attempt
	left  map[api.Address]int // pods that are given up

	removed map[api.Address][]graph.Step // the removals of those that were given up before, by owner
}

func newLostPods(stuck map[api.Address]int) lostPods {
	if stuck == nil {
		stuck = map[api.Address]int{}
	}
	return lostPods{stuck, map[api.Address]int{}, map[api.Address]int{}, map[api.Address][]graph.Step{}}
}

// evicts reports whether a pod of a host that cannot be worked on is given up because the host is lost.
func (d *draft) evicts(w *workload, p *pod) bool {
	l := p.host.lost
	if l == nil || w.object == nil || w.frozen || p.spec == nil || p.over || d.Now.IsZero() {
		return false
	}
	if at, ok := l.Leaves(p.spec.Tolerations); !ok || d.Now.Before(at) {
		return false
	}
	if w.onlyOne() && !p.leaseOver() {
		return false
	}
	if d.lost.kept[w.address] < d.lost.stuck[w.address] {
		d.lost.kept[w.address]++
		return false
	}
	d.lost.left[w.address]++
	return true
}

// onlyOne reports whether no two pods of one identity may run.
func (w *workload) onlyOne() bool {
	return w.want != nil && w.want.OnePerIdentity || w.object != nil && w.object.AtMostOne
}

// withAtMostOne adds the difference in whether a second pod may run. It changes nothing about running ones.
func withAtMostOne(diffs []api.AttributeDiff, prior, o *api.Object) []api.AttributeDiff {
	before := prior != nil && prior.AtMostOne
	if before == o.AtMostOne {
		return diffs
	}
	c := api.AttributeDiff{Path: "at_most_one", After: api.RawJSON(strconv.FormatBool(o.AtMostOne)), Effect: api.EffectNone}
	if prior != nil {
		c.Before = api.RawJSON(strconv.FormatBool(before))
	}
	diffs = append(diffs, c)
	slices.SortFunc(diffs, func(a, b api.AttributeDiff) int { return strings.Compare(a.Path, b.Path) })
	return diffs
}

// checkAtMostOne refuses several pods where there may be one, whoever asks for them.
func (d *draft) checkAtMostOne(w *workload) {
	if w.object.AtMostOne && !w.want.OnePerIdentity && w.want.Replicas > 1 {
		d.errorAt(w.object, "spec.replicas", "Too many pods", "%s has at_most_one = true, so it has one pod at most; it is to have %d.", w.address, w.want.Replicas)
	}
}

// leaseOver reports whether the pod's host has certainly stopped it: its lease has run out.
func (p *pod) leaseOver() bool { return p.leased && p.host.lost != nil && p.host.lost.LeaseOver }

// waitsForRoom has some pods of lost nodes stay where they are, because what would be made in their place fits nowhere; false when there are no
// more such. The plan is made once more.
func (d *draft) waitsForRoom(w *workload) bool {
	given := d.lost.left[w.address]
	if given == 0 {
		return false
	}
	stuck := d.lost.stuck[w.address]
	d.lost.stuck[w.address] = min(max(2*stuck, 1), stuck+given)
	d.again = true
	return true
}

// sayStuck tells of these.
func (d *draft) sayStuck() {
	for _, w := range d.workloads {
		if n := d.lost.kept[w.address]; n > 0 && w.object != nil {
			d.warnAt(w.object, "", "Pods wait for room", "%s: %s of lost nodes cannot be made elsewhere, because no other node has room for them. Add nodes, or free room on them.", w.address, plural(n, "pod"))
		}
	}
}

// clearLeft removes what was given up while its host could not be reached, before anything else is done there, and takes back what was
// concluded of hosts that answer.
func (d *draft) clearLeft() {
	for _, h := range d.hosts {
		if h.reach != up {
			continue
		}
		var gone []string
		for i := range d.prior.Left {
			l := &d.prior.Left[i]
			if l.Node == h.name && !slices.ContainsFunc(h.left, func(p *pod) bool { return p.uid == l.UID }) {
				gone = append(gone, l.UID)
			}
		}
		var first []graph.Step
		for _, p := range h.left {
			step := d.removePod(p)
			d.graph.At(step).Delta = api.Delta{DropLeft: []string{p.uid}}
			first = append(first, step)
			d.lost.removed[p.address.Owner()] = append(d.lost.removed[p.address.Owner()], step)
		}
		h.first = d.graph.Join(h.address(), "what was given up is removed", first)
		if !h.leaves && (h.lost != nil || len(gone) > 0) { // with the node all that is forgotten
			delta := api.Delta{DropLeft: gone}
			if h.lost != nil {
				delta.DropLost = h.name
			}
			d.graph.Add(api.Step{Op: api.OpRecord, Address: h.address(), Reason: "the node answers again", Delta: delta})
		}
	}
}

// leftPod is what the state remembers of a pod that is given up and may still run.
func (p *pod) leftPod() *api.LeftPod {
	if p.host.leaves || p.over {
		return nil
	}
	return &api.LeftPod{UID: p.uid, Address: p.address, Namespace: p.namespace, Node: p.host.name, SandboxID: p.sandbox, Hash: p.hash}
}

// Back plans nothing but the removal of what was given up on some nodes while they could not be reached, now that they are back. It
// follows from the state alone, so that nothing has to be asked before.
func Back(s *api.State, nodes []string) (*api.Plan, api.Diagnostics) {
	d := begin(Input{Config: Applied(s), Prior: s, Observed: asApplied(s, func(string) bool { return true }), Options: Options{Applied: true}}, nil)
	d.diags = nil
	for i := range s.Left {
		l := &s.Left[i]
		h := d.byHost[l.Node]
		if h == nil || !slices.Contains(nodes, l.Node) {
			continue
		}
		p := &pod{address: l.Address, namespace: l.Namespace, uid: l.UID, host: h, hash: l.Hash, sandbox: l.SandboxID, reason: leftReason(h)}
		d.graph.At(d.removePod(p)).Delta = api.Delta{DropLeft: []string{l.UID}}
	}
	d.changes = map[api.Address]*api.Change{}
	d.plan.Outputs = nil
	plan, diags := d.order()
	if diags.HasErrors() {
		return nil, diags
	}
	plan.Pods, plan.Facts, plan.Unreachable, plan.Warnings = nil, nil, nil, nil
	return plan, nil
}

func leftReason(h *host) string { return "given up while " + h.name + " could not be reached" }

// evictions makes due what lost nodes give up: pods whose tolerations have run out, of those of which no second one may run only where their lease
// has. What cannot go for another reason makes no second round.
func (t *Timetable) evictions(s *api.State, now time.Time) {
	if len(s.Lost) == 0 {
		return
	}
	counts := map[string]int{}
	for i := range s.Pods {
		p := &s.Pods[i]
		l := s.LostNode(p.Node)
		if l == nil || p.Spec == nil || p.Ended != "" || onlyOneOf(s, p) && (p.LeaseSeconds == 0 || !l.LeaseOver) {
			continue
		}
		if at, ok := l.Leaves(p.Spec.Tolerations); ok && at.After(now) {
			t.next(at)
		} else if ok {
			counts[p.Node]++
		}
	}
	for _, l := range s.Lost {
		if n := counts[l.Name]; n > 0 {
			t.Overdue = append(t.Overdue, fmt.Sprintf("the eviction of %s from node %s", plural(n, "pod"), l.Name))
		}
	}
}

// onlyOneOf reports whether no second one of a pod's identity may run, as far as the state tells.
func onlyOneOf(s *api.State, p *api.PodState) bool {
	o := s.Object(p.Address.Owner())
	return p.Address.Kind == api.KindStatefulSet || o != nil && o.AtMostOne
}

// lostText says of a lost node what it is and what becomes of its pods.
func lostText(l *api.LostNode) string {
	if l.Evict == nil {
		return strings.TrimSuffix(l.Message, ".") + "; none of its pods is moved yet"
	}
	return strings.TrimSuffix(l.Message, ".") + "; its pods are made elsewhere as their tolerations run out"
}
