package planner

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/schedule"
)

// draft is a plan in the making: what the moves hand to each other.
type draft struct {
	Input
	prior *api.State // never nil
	plan  *api.Plan
	diags api.Diagnostics
	graph graph.Graph

	hosts  []*host // of the inventory and of the state, sorted by name
	byHost map[string]*host

	desired   []*api.Object // what should exist after this plan, sorted by address
	byAddress map[api.Address]*api.Object
	named     map[string]*api.Object // desired ones by kindName
	deleted   []*api.Object          // of the state and no longer desired, sorted by address
	dropped   map[api.Address]string // claims that go, and why
	frozen    map[api.Address]bool   // outside the targets: left as they are
	chosen    func(api.Address) bool // within the targets
	remade    map[api.Address]bool   // asked to be made anew

	pods      map[api.Address][]*pod // existing ones by owner; each list sorted by node, then uid
	workloads []*workload            // desired and deleted ones, by address
	work      map[api.Address]*workload
	services  []*service // by address
	latest    time.Time  // the latest moment that the hosts told of, once it was asked for
	asked     bool
	lines     *linkage            // how the desired objects wait for each other
	room      *room               // what pods take on nodes
	nodes     *schedule.Scheduler // what nodes declare, without pods; nil before it is asked for
	line      []*api.Object       // desired ones, each after what it depends on
	last      []*api.Object       // those of them that need the room of pods that go

	budgets []*budget            // by address
	held    map[string]*holdings // of namespaces with quotas

	lost        lostPods
	preemptions []preemption // that were found out so far
	again       bool         // the plan is to be made once more with them

	autoscalers []*api.Object // of the configuration; nil before they are asked for

	changes map[api.Address]*api.Change
	volumes map[api.Address]*volume
	adopted map[api.Address]bool   // old addresses of volumes that have a new one
	images  map[string]*api.Object // image blocks by the references that they give

	done     map[api.Address][]graph.Step // steps after which an object is as wanted
	ended    map[api.Address][]graph.Step // steps after which a deleted object is gone
	unwaited map[link]bool                // dependencies that would close a ring
	leaving  *linkage                     // of the deleted objects
	strays   []graph.Step                 // removals of rules that nobody asked for
	drains   []graph.Step
	keys     []graph.Step         // after which every member has a key
	needed   map[api.Address]bool // config maps, secrets and services that steps refer to
	linked   map[string]bool      // namespaces whose services are needed
}

// begin normalises the input and surveys the hosts.
func begin(in Input, found []preemption) *draft {
	d := &draft{
		Input: in, prior: in.Prior, plan: &api.Plan{}, preemptions: found,
		byHost: map[string]*host{}, byAddress: map[api.Address]*api.Object{}, named: map[string]*api.Object{},
		dropped: map[api.Address]string{},
		frozen:  map[api.Address]bool{}, remade: map[api.Address]bool{},
		pods: map[api.Address][]*pod{}, work: map[api.Address]*workload{},
		changes: map[api.Address]*api.Change{}, volumes: map[api.Address]*volume{}, adopted: map[api.Address]bool{}, done: map[api.Address][]graph.Step{},
		ended: map[api.Address][]graph.Step{}, needed: map[api.Address]bool{}, linked: map[string]bool{},
	}
	if d.prior == nil {
		d.prior = &api.State{}
	}
	d.lost = newLostPods(nil)
	d.plan.Lineage, d.plan.Serial = d.prior.Lineage, d.prior.Serial
	d.plan.Destroy, d.plan.Targets, d.plan.Cluster = in.Destroy, in.Targets, in.Config.Cluster
	d.survey()
	d.keepServers()
	d.selectObjects()
	d.proveDeaths()
	d.checkHosts()
	return d
}

// errorAt appends an error about an object at one of its attributes.
func (d *draft) errorAt(o *api.Object, path, summary, format string, args ...any) {
	d.at(api.SeverityError, o, path, summary, fmt.Sprintf(format, args...))
}

func (d *draft) warnAt(o *api.Object, path, summary, format string, args ...any) {
	d.at(api.SeverityWarning, o, path, summary, fmt.Sprintf(format, args...))
}

func (d *draft) at(s api.Severity, o *api.Object, path, summary, detail string) {
	diag := api.Diagnostic{Severity: s, Summary: summary, Detail: detail, Address: o.Address.String()}
	if r := o.RangeOf(path); !r.IsZero() {
		diag.Range = &r
	}
	d.diags = append(d.diags, diag)
}

// errorOn appends an error about a host.
func (d *draft) errorOn(h *host, summary, format string, args ...any) {
	d.on(api.SeverityError, h, summary, fmt.Sprintf(format, args...))
}

func (d *draft) warnOn(h *host, summary, format string, args ...any) {
	d.on(api.SeverityWarning, h, summary, fmt.Sprintf(format, args...))
}

func (d *draft) on(s api.Severity, h *host, summary, detail string) {
	diag := api.Diagnostic{Severity: s, Summary: summary, Detail: detail, Node: h.name}
	if h.node != nil && !h.node.Range.IsZero() {
		diag.Range = &h.node.Range
	}
	d.diags = append(d.diags, diag)
}

// sorted returns the diagnostics, errors in front, each once.
func (d *draft) sorted() api.Diagnostics {
	d.diags.Sort()
	slices.SortStableFunc(d.diags, func(a, b api.Diagnostic) int {
		return strings.Compare(string(a.Severity), string(b.Severity)) // "error" < "warning"
	})
	return slices.CompactFunc(d.diags, func(a, b api.Diagnostic) bool {
		return a.Severity == b.Severity && a.Summary == b.Summary && a.Detail == b.Detail && a.Address == b.Address && a.Node == b.Node
	})
}

// change returns the change of an object, made when it has none yet.
func (d *draft) change(a api.Address) *api.Change {
	c := d.changes[a]
	if c == nil {
		c = &api.Change{Address: a, Action: api.Update, Before: d.prior.Object(a), After: d.byAddress[a]}
		d.changes[a] = c
	}
	return c
}

// because adds a reason to a change, once.
func because(c *api.Change, reason string) {
	switch {
	case reason == "" || slices.Contains(strings.Split(c.Reason, "; "), reason):
	case c.Reason == "":
		c.Reason = reason
	default:
		c.Reason += "; " + reason
	}
}

// kindName is the name that two objects of a kind must not share.
func kindName(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name }

func nameOf(o *api.Object) string { return kindName(o.Address.Kind, o.Namespace(), o.Name()) }
