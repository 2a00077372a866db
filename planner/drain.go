package planner

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/rollout"
)

// Drain asks for the pods of some nodes to be evicted: their controllers make others elsewhere, before the old ones go where they
// may, and never more of them at a time than disruption budgets allow. What it takes along and what stops it is as kubectl drain
// has it (semantics.md 8.10). The nodes have to be cordoned by the same plan or before.
type Drain struct {
	Nodes []string
	Pods  labels.Selector // only pods with such labels; nil for all
	// Force takes pods along that nobody makes again, IgnoreDaemonSets leaves those where they are of which every node has one,
	// DeleteEmptyDir takes those along whose volumes go with them. Where there are such pods and it is not set, nothing is drained.
	Force, IgnoreDaemonSets, DeleteEmptyDir bool
	// DisableEviction passes disruption budgets over.
	DisableEviction bool
}

// drainTargets are the objects that a drain is about: the nodes, and the owners of the pods there.
func (d *draft) drainTargets() []api.Address {
	if d.Drain == nil {
		return nil
	}
	var out []api.Address
	for _, name := range d.Drain.Nodes {
		h := d.byHost[name]
		if h == nil {
			d.diags.Errorf(api.Range{}, "No such node", "There is no node %q in the inventory.", name)
			continue
		}
		out = append(out, h.address())
		if h.seen != nil {
			for _, p := range h.seen.Pods {
				out = append(out, p.Address.Owner())
			}
		}
	}
	for _, p := range d.prior.Pods {
		if slices.Contains(d.Drain.Nodes, p.Node) {
			out = append(out, p.Address.Owner())
		}
	}
	slices.SortFunc(out, api.Address.Compare)
	return slices.Compact(out)
}

// drainGroups are the kinds of pods that stop a drain, in the order in which kubectl looks, each with what is said when it does and
// when it is taken along or left alone.
var drainGroups = []struct {
	refuses, warns string
	summary        string
	unless         func(*Drain) bool
	stays          bool // the pods are left alone
	todo           string
}{
	{"cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)", "ignoring DaemonSet-managed Pods", "Pods stay",
		func(o *Drain) bool { return o.IgnoreDaemonSets }, true, ""},
	{"cannot delete Pods with local storage (use --delete-emptydir-data to override)", "deleting Pods with local storage", "What these pods have written is lost",
		func(o *Drain) bool { return o.DeleteEmptyDir }, false, ""},
	{"cannot delete Pods that declare no controller (use --force to override)", "deleting Pods that declare no controller", "These pods are not made again",
		func(o *Drain) bool { return o.Force }, false, ""},
	{"cannot move Pods whose volumes lie on the node", "", "",
		func(*Drain) bool { return false }, false, " Berth does not move data. Scale their workloads down first, or leave these pods where they are with --pod-selector."},
	{"cannot move Pods whose node_name is this node", "", "",
		func(*Drain) bool { return false }, false, " Take node_name away first, or leave these pods where they are with --pod-selector."},
}

// The indices of drainGroups.
const (
	groupDaemon = iota
	groupLocal
	groupBare
	groupBound
	groupNamed
	groupCount
)

// markDrained finds the pods that a drain evicts, and refuses it where there are such that it must not touch.
func (d *draft) markDrained() {
	if d.Drain == nil {
		return
	}
	for _, name := range d.Drain.Nodes {
		h := d.byHost[name]
		switch {
		case h == nil:
		case h.reach != up:
			d.errorOn(h, "Node cannot be drained", "%s cannot be worked on (%s), so its pods cannot be stopped. Bring it back, or take it out of the inventory to have its pods made elsewhere.", h.name, h.why)
		case !h.node.Unschedulable:
			d.errorOn(h, "Node cannot be drained", "%s is not cordoned: new pods would come to it.", h.name)
		default:
			d.markOn(h)
		}
	}
}

func (d *draft) markOn(h *host) {
	var found [groupCount][]string
	for _, w := range d.workloads {
		for _, p := range w.pods {
			if p.host != h || p.over || d.Drain.Pods != nil && !d.Drain.Pods.Matches(labels.Set(p.labels)) {
				continue
			}
			p.drained = true
			for _, g := range d.groupsOf(w, p) {
				what := p.namespace + "/" + p.address.Pod
				if g == groupBound {
					what += " (" + d.boundBy(w, p) + ")"
				}
				found[g] = append(found[g], what)
				p.drained = p.drained && !drainGroups[g].stays
			}
		}
	}
	for g, pods := range found {
		group := drainGroups[g]
		switch {
		case len(pods) == 0:
		case group.unless(d.Drain):
			d.warnOn(h, group.summary, "%s: %s.", group.warns, strings.Join(pods, ", "))
		default:
			d.errorOn(h, "Node cannot be drained", "%s: %s.%s", group.refuses, strings.Join(pods, ", "), group.todo)
		}
	}
}

// groupsOf says what a drain has to know about a pod. A daemon set's pod stays, so nothing else matters of it.
func (d *draft) groupsOf(w *workload, p *pod) []int {
	if w.address.Kind == api.KindDaemonSet {
		return []int{groupDaemon}
	}
	var out []int
	if p.spec != nil {
		for _, v := range p.spec.Volumes {
			if v.EmptyDir != nil {
				out = append(out, groupLocal)
				break
			}
		}
	}
	if w.object == nil || w.want.Once {
		out = append(out, groupBare)
	}
	switch {
	case w.object == nil || w.want.Once:
	case d.boundBy(w, p) != "":
		out = append(out, groupBound)
	case w.want.Template.Spec.NodeName == p.host.name:
		out = append(out, groupNamed)
	}
	return out
}

// boundBy names the volumes that bind a pod to its node.
func (d *draft) boundBy(w *workload, p *pod) string {
	var names []string
	for _, v := range d.volumesIn(w, p.spec) {
		if v.host == nil || v.host == p.host {
			names = append(names, v.object.Address.String())
		}
	}
	return strings.Join(names, ", ")
}

// evicted are the pods of a workload that a drain evicts.
func (w *workload) evicted() []*pod {
	var out []*pod
	for _, p := range w.pods {
		if p.drained {
			out = append(out, p)
		}
	}
	return out
}

// easeOut has a workload's controller replace evicted pods as disruption budgets allow.
func (d *draft) easeOut(w *workload) {
	pods := w.evicted()
	if len(pods) == 0 {
		return
	}
	if _, ok := w.want.Order.(rollout.BlueGreen); ok && len(w.want.Slots) > 1 {
		d.errorOn(pods[0].host, "Node cannot be drained", "%s is between the two sides of a rollout, where pods are not moved. End that first, with `berth rollout promote %[1]s` or `berth rollout abort %[1]s`.", w.address)
	}
	least := 0
	if !d.Drain.DisableEviction {
		least = d.floor(w, pods)
	}
	w.want.Order = w.want.Order.Evicting(least)
}

// checkEvicted refuses a drain that budgets forbid: a pod that is not evicted by the waves, or must not be however.
func (d *draft) checkEvicted(w *workload) {
	if d.Drain == nil {
		return
	}
	goes := map[*pod]bool{}
	for _, wave := range w.waves {
		for _, i := range wave.Remove {
			goes[w.pods[i]] = true
		}
	}
	allowed := map[*budget]int{}
	for _, p := range w.evicted() {
		budgets := d.budgetsFor(p)
		why := ""
		switch {
		case d.Drain.DisableEviction || len(budgets) == 0:
		case len(budgets) > 1 || !w.budgetPod(p).Ready:
			why = w.mayEvict(p, budgets)
		case w.isJob(): // it replaces them by itself, and has no waves
			b := budgets[0]
			if allowed[b]++; allowed[b] > b.now.DisruptionsAllowed {
				why = b.violated()
			}
		case !goes[p]:
			why = budgets[0].violated()
		}
		if why == "" && !goes[p] {
			why = "It is not replaced while " + w.want.Order.String() + " goes on: end that first, with berth rollout promote or abort"
		}
		if why != "" {
			d.errorOn(p.host, "Node cannot be drained", "error when evicting pods/%q -n %q: %s.%s", p.address.Pod, p.namespace, strings.TrimSuffix(why, "."), declaredBy(budgets))
			return
		}
	}
}

// violated is the refusal to evict one more pod.
func (b *budget) violated() string {
	return fmt.Sprintf("Cannot evict pod as it would violate the pod's disruption budget. The disruption budget %s needs %d healthy pods and has %d currently", b.now.Name, b.now.Desired, b.now.Healthy)
}

// declaredBy says where budgets are declared, for the end of an error.
func declaredBy(budgets []*budget) string {
	text := ""
	for _, b := range budgets {
		if !b.object.Range.IsZero() {
			text += " " + b.object.Address.String() + " is at " + b.object.Range.String() + "."
		}
	}
	return text
}

// checkLeft refuses a drain after which new pods are on its node: they tolerate the cordon.
func (d *draft) checkLeft() {
	if d.Drain == nil {
		return
	}
	for _, w := range d.workloads {
		for _, list := range w.fresh {
			for _, p := range list {
				if w.address.Kind != api.KindDaemonSet && slices.Contains(d.Drain.Nodes, p.host.name) {
					d.errorOn(p.host, "Node cannot be drained", "The pods of %s tolerate that a node is cordoned, and would come back to %s. Take that toleration away first, or leave them there with --pod-selector.", w.address, p.host.name)
					return
				}
			}
		}
	}
}

// afterBudgets is what the removal of a workload's evicted pods waits for: those of other workloads under the same budget have their
// successors.
func (d *draft) afterBudgets(w *workload) []graph.Step {
	var out []graph.Step
	for _, b := range d.budgetsOf(w) {
		out = append(out, b.gate...)
	}
	return out
}

// passBudgets has whoever comes next under the same budgets wait for these steps.
func (d *draft) passBudgets(w *workload, own []graph.Step) {
	for _, b := range d.budgetsOf(w) {
		b.gate = d.graph.Join(w.address, "evicted pods are replaced", slices.Concat(b.gate, own))
	}
}

// budgetsOf are the budgets of a workload's evicted pods.
func (d *draft) budgetsOf(w *workload) []*budget {
	var out []*budget
	if d.Drain == nil || d.Drain.DisableEviction {
		return nil
	}
	for _, p := range w.evicted() {
		for _, b := range d.budgetsFor(p) {
			if !slices.Contains(out, b) {
				out = append(out, b)
			}
		}
	}
	return out
}
