package planner

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/diff"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/schedule"
)

// reach says what can be done on a host.
type reach int

const (
	up     reach = iota // it was seen and takes work
	ill                 // it was seen, and something keeps it from taking work
	silent              // it could not be seen: nothing may be concluded about it
)

// host is one machine: as the inventory wants it, as the state knows it, as it was seen.
type host struct {
	name   string
	node   *api.Node            // of the inventory; of the state when it leaves
	state  *api.NodeState       // nil before it joined
	seen   *api.NodeObservation // nil when it was not asked
	reach  reach
	why    string        // it is not up
	leaves bool          // no longer in the inventory, or everything is destroyed
	dead   string        // the proof that it runs nothing any more; "" when there is none
	fence  bool          // the proof is its fencing command, which has yet to succeed
	lost   *api.LostNode // what a watchdog has concluded; nil for nothing
	left   []*pod        // that were given up while it could not be reached, and are there
	first  []graph.Step  // their removals, which come first
	rests  []*pod        // of which a removal that was cut short has left files
	kept   bool          // has left the inventory, but is outside the targets: it stays and takes nothing new

	facts            api.NodeFacts
	podCIDR, mac, ip string
	publicKey        string // of WireGuard; "" where it has none yet
	// Of the cluster's second family; "" where it has one.
	secondPodCIDR, secondIP string

	network *api.NodeNetwork // as it should be in the end; nil when it is no member then
	interim *api.NodeNetwork // the same while nodes that leave still serve; equal to network when none does

	steps    []graph.Step // all on this host
	forgets  []graph.Step // of pods that were on it
	fencing  []graph.Step // the step that switches it off, if any
	set      []graph.Step // its first node.set, if any
	records  []graph.Step // of services that its DNS server lacks
	answers  []graph.Step // after which its first DNS server answers
	pulled   map[string]graph.Step
	volumes  map[api.Address]graph.Step
	jobs     bool         // a job makes pods on it while it runs
	recorded bool         // a step records what a command has changed about it
	mended   bool         // a pod is made to run again: its boot id is to be remembered
	handed   []graph.Step // by which others take over the addresses that it holds
	cleared  map[string]bool
	podsSeen map[string]bool // uids
}

// member reports whether the host belongs to the cluster after the plan and can be worked on now.
func (h *host) member() bool { return h.reach == up && !h.leaves }

func (h *host) rebooted() bool {
	return h.state != nil && h.seen != nil && h.state.BootID != "" && h.seen.BootID != h.state.BootID
}

func (h *host) address() api.Address { return api.Address{Kind: api.KindNode, Name: h.name} }

// survey makes a host of every node of the inventory and of the state.
func (d *draft) survey() {
	names := map[string]bool{}
	wanted := map[string]*api.Node{}
	for _, n := range d.Config.Nodes {
		names[n.Name], wanted[n.Name] = true, n
	}
	for _, n := range d.prior.Nodes {
		names[n.Name] = true
	}
	for _, p := range d.prior.Pods {
		names[p.Node] = true // normally one of the above
	}
	seen := map[string]*api.NodeObservation{}
	if d.Observed != nil {
		for _, n := range d.Observed.Nodes {
			seen[n.Name] = n
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		h := &host{
			name: name, node: wanted[name], state: d.prior.Node(name), seen: seen[name],
			pulled: map[string]graph.Step{}, volumes: map[api.Address]graph.Step{}, cleared: map[string]bool{}, podsSeen: map[string]bool{},
		}
		h.leaves, h.lost = h.node == nil || d.Destroy, d.prior.LostNode(name)
		if !h.leaves {
			h.node = d.overrideNode(h.node)
		}
		h.reach, h.why = reachOf(h.seen)
		switch {
		case h.node == nil && h.state != nil:
			h.node = h.state.Node
		case h.node == nil:
			h.node = &api.Node{Name: name}
			h.reach, h.why = silent, "neither the inventory nor the state knows it"
		}
		if h.reach == up || h.state == nil {
			if h.seen != nil {
				h.facts = h.seen.Facts
			}
		} else {
			h.facts = h.state.Facts
		}
		d.hostAddresses(h)
		h.publicKey = publicKeyOf(h)
		d.hosts = append(d.hosts, h)
		d.byHost[name] = h
	}
}

// hostAddresses are those at which other nodes reach the host: one of each family of the cluster.
func (d *draft) hostAddresses(h *host) {
	families := d.Config.Cluster.Families()
	own := []string{h.facts.InternalIP, h.facts.OtherIP}
	if h.reach != up {
		own = nil
	}
	for i, to := range []*string{&h.ip, &h.secondIP} {
		if i < len(families) {
			*to = api.OfFamily(families[i], own...)
		}
		if h.state != nil && *to == "" && (i == 0 || len(families) > 1) {
			*to = []string{h.state.IP, h.state.SecondIP}[i]
		}
	}
}

// ips are the host's addresses, the primary first.
func (h *host) ips() []string {
	return slices.DeleteFunc([]string{h.ip, h.secondIP}, func(s string) bool { return s == "" })
}

// checkAddresses refuses a host without an address of each of the cluster's families.
func (d *draft) checkAddresses(h *host) {
	families := d.Config.Cluster.Families()
	if slices.Contains(families, corev1.IPv6Protocol) && lacks(h, api.LacksIPv6) {
		d.errorOn(h, "Host has no IPv6", "The cluster has IPv6 ranges, and on %s the kernel has no IPv6, or it is switched off (net.ipv6.conf.all.disable_ipv6), or ip6tables is missing. "+
			"Switch it on, or give the cluster IPv4 ranges only.", h.name)
		return
	}
	for i, ip := range []string{h.ip, h.secondIP} {
		if i < len(families) && (ip == "" || api.FamilyOf(ip) != families[i]) {
			d.errorOn(h, "Host has no address", "%s did not tell an %s address under which other nodes reach it, and the cluster's pod_cidr %s needs one. Check its addresses and its default route.",
				h.name, families[i], d.Config.Cluster.PodCIDRs()[i])
		}
	}
}

func reachOf(o *api.NodeObservation) (reach, string) {
	switch {
	case o == nil:
		return silent, "it was not asked"
	case o.Unreachable != "":
		return silent, o.Unreachable
	case o.Problems.HasErrors():
		i := slices.IndexFunc(o.Problems, func(p api.Diagnostic) bool { return p.Severity == api.SeverityError })
		return ill, o.Problems[i].Summary
	}
	return up, ""
}

// checkHosts refuses hosts that belong to another cluster and says which hosts nothing is planned on.
func (d *draft) checkHosts() {
	byIP := map[string]*host{}
	for _, h := range d.hosts {
		if h.seen != nil {
			for _, p := range h.seen.Problems {
				if p.Severity == api.SeverityWarning {
					d.diags = append(d.diags, about(p, h))
				}
			}
		}
		d.checkLineage(h)
		d.checkDevices(h)
		switch h.reach {
		case silent:
			if d.checkRefused(h) {
				continue
			}
			if h.leaves && !h.kept {
				continue // said where it leaves
			}
			d.plan.Unreachable = append(d.plan.Unreachable, api.NodeReason{Node: h.name, Reason: h.why})
			if h.dead != "" {
				d.warnOn(h, "Host counts as dead", "Pods of %s are made elsewhere (%s%s). When the host comes back, the next apply removes what is left of them there.", h.name, h.dead, h.fenceText())
				continue
			}
			if h.lost != nil {
				d.warnOn(h, "Host is lost", "%s is %s, as %s says: %s. When it comes back, what was made elsewhere is removed there first.", h.name, h.lost, h.lost.Who, lostText(h.lost))
				continue
			}
			d.warnOn(h, "Host cannot be reached", "Nothing is planned on %s (%s), and pods there count as running. Plan again when it is back, or take it out of the inventory to have its pods made elsewhere.", h.name, h.why)
		case ill:
			d.checkIll(h)
		case up:
			if !h.leaves {
				d.checkAddresses(h)
				d.checkWireGuard(h)
			}
			if other := byIP[h.ip]; other != nil && h.ip != "" && !h.leaves && !other.leaves {
				d.errorOn(h, "Two nodes are one host", "Nodes %s and %s both have the address %s. Keep one of them in the inventory.", other.name, h.name, h.ip)
			}
			byIP[h.ip] = h
		}
	}
	d.checkDirect()
}

func about(p api.Diagnostic, h *host) api.Diagnostic {
	p.Node = h.name
	return p
}

// checkDirect refuses hosts that cannot reach each other without a router, where the pod network's routes lead straight from one to the other.
func (d *draft) checkDirect() {
	if d.Config.Cluster.Network != api.NetworkHostGW {
		return
	}
	for _, h := range d.hosts {
		var direct []netip.Prefix
		for text := range strings.FieldsSeq(h.facts.Direct) {
			if p, err := netip.ParsePrefix(text); err == nil {
				direct = append(direct, p)
			}
		}
		if !h.member() || len(direct) == 0 {
			continue
		}
		var apart []string
		for _, other := range d.hosts {
			if other == h || other.leaves {
				continue
			}
			for _, text := range other.ips() {
				ip, err := netip.ParseAddr(text)
				if err == nil && !slices.ContainsFunc(direct, func(p netip.Prefix) bool { return p.Contains(ip) }) {
					apart = append(apart, other.name+" ("+text+")")
				}
			}
		}
		if len(apart) > 0 {
			d.errorOn(h, "Nodes do not share a network", "In mode \"host-gw\" nodes send each other the packets of pods without a router, and one stands between %s (%s) and %s. Use network = \"vxlan\".",
				h.name, strings.Join(h.ips(), ", "), strings.Join(apart, ", "))
		}
	}
}

// checkLineage compares the host's mark with the state. A host that has left and joined another cluster is none
// of our business any more.
func (d *draft) checkLineage(h *host) {
	if h.seen == nil || h.reach == silent {
		return
	}
	foreign := h.seen.Lineage
	if foreign == "" || foreign == d.prior.Lineage {
		foreign = ""
		for _, p := range h.seen.Pods {
			if p.Lineage != d.prior.Lineage {
				foreign = p.Lineage
				break
			}
		}
	}
	if foreign == "" {
		return
	}
	if h.leaves {
		h.reach, h.why = silent, "it belongs to another cluster now"
		return
	}
	d.errorOn(h, "Host belongs to another cluster",
		"%s carries the mark of the cluster with lineage %s; this state has lineage %s. Destroy that cluster first, take the node out of the inventory, or use the state that belongs to it.",
		h.name, foreign, quoteEmpty(d.prior.Lineage))
}

func quoteEmpty(s string) string {
	if s == "" {
		return "none yet"
	}
	return s
}

// checkIll lets a host with problems stay as it is, with a warning, but not join or change.
func (d *draft) checkIll(h *host) {
	severity := api.SeverityWarning
	if h.state == nil {
		severity = api.SeverityError
	}
	d.problems(h, severity)
	if h.state != nil {
		d.plan.Unreachable = append(d.plan.Unreachable, api.NodeReason{Node: h.name, Reason: h.why, Ill: true})
	}
}

// checkRefused refuses to go on when a host of the inventory does not let Berth in and will not by itself: a changed host
// key is no host that is down, and one that is destroyed with the wrong SSH key would be forgotten with all its pods.
func (d *draft) checkRefused(h *host) bool {
	if h.seen == nil || !h.seen.Problems.HasErrors() || !d.listed(h) {
		return false
	}
	for _, p := range h.seen.Problems {
		if p.Severity == api.SeverityError {
			d.on(p.Severity, h, p.Summary, p.Detail)
		}
	}
	return true
}

func (d *draft) problems(h *host, severity api.Severity) {
	for _, p := range h.seen.Problems {
		if p.Severity == api.SeverityError {
			p = about(p, h)
			p.Severity = severity
			d.diags = append(d.diags, p)
		}
	}
}

// escalate makes errors of what checkIll warned of: something would have to be done on that host.
func (d *draft) escalate(h *host) {
	for i, said := range d.diags {
		if said.Node == h.name && slices.ContainsFunc(h.seen.Problems, func(p api.Diagnostic) bool {
			return p.Severity == api.SeverityError && p.Summary == said.Summary && p.Detail == said.Detail
		}) {
			d.diags[i].Severity = api.SeverityError
		}
	}
}

// schedulable returns the inventory as the scheduler sees it.
func (d *draft) schedulable() []schedule.Node {
	var out []schedule.Node
	for _, h := range d.hosts {
		if h.leaves || h.kept {
			continue
		}
		out = append(out, schedule.Node{
			Name: h.name, Labels: nodeLabels(h), Taints: h.node.Taints, Unschedulable: h.node.Unschedulable,
			Allocatable: allocatable(h), NotAvailable: h.why,
		})
	}
	return out
}

// nodeLabels are the inventory's with the well-known ones that the host's facts give (semantics.md 2.4).
func nodeLabels(h *host) map[string]string {
	labels := map[string]string{corev1.LabelHostname: h.name, corev1.LabelOSStable: "linux"}
	if h.facts.Arch != "" {
		labels[corev1.LabelArchStable] = h.facts.Arch
	}
	maps.Copy(labels, h.node.Labels)
	return labels
}

func allocatable(h *host) schedule.Resources {
	r := schedule.Resources{MilliCPU: int64(h.facts.CPUs) * 1000, Memory: h.facts.MemoryBytes, Pods: h.facts.MaxPods}
	if r.Pods == 0 {
		r.Pods = 110
	}
	if q, ok := h.node.Reserved[corev1.ResourceCPU]; ok {
		r.MilliCPU -= q.MilliValue()
	}
	if q, ok := h.node.Reserved[corev1.ResourceMemory]; ok {
		r.Memory -= q.Value()
	}
	r.Other = h.others()
	return r
}

// diffHosts says which nodes join, leave or change.
func (d *draft) diffHosts() {
	for _, h := range d.hosts {
		switch {
		case h.leaves && d.ours(h):
			d.leave(h)
		case h.leaves || h.kept:
		case h.reach != up && d.changes[h.address()] != nil: // an override of it comes or ends, which is only recorded
			d.diffHost(h)
		case h.reach != up:
		case h.state == nil:
			*d.change(h.address()) = api.Change{Address: h.address(), Action: api.Create, Reason: "joins the cluster", Diffs: d.joinDiffs(h)}
		default:
			d.diffHost(h)
		}
	}
}

// ours reports whether a host is in the state or, after an apply that was killed, carries this cluster's mark.
func (d *draft) ours(h *host) bool {
	return h.state != nil || h.reach == up && h.seen.Lineage != "" && h.seen.Lineage == d.prior.Lineage
}

func (d *draft) leave(h *host) {
	c := api.Change{Address: h.address(), Action: api.Delete, Reason: "not in configuration"}
	if d.Destroy {
		c.Reason = ""
	}
	if h.reach == silent {
		because(&c, "only forgotten: "+h.why)
		d.warnOn(h, "Host is forgotten, not cleaned", "%s leaves the cluster but nothing can be removed from it (%s): its pods, rules and files stay until someone removes them.", h.name, h.why)
	}
	if h.reach == ill {
		d.escalate(h)
	}
	*d.change(h.address()) = c
}

func (d *draft) diffHost(h *host) {
	diffs, err := diff.Values(h.state.Node, h.node)
	if err != nil {
		d.errorOn(h, "Node cannot be compared", "%s. This is a bug in Berth: please report it.", err)
		return
	}
	c := &api.Change{Address: h.address(), Action: api.Update, Diffs: diffs, Disruption: api.DisruptionNone}
	if overridden := d.changes[h.address()]; overridden != nil {
		c.Reason = overridden.Reason
	}
	if h.reach != up {
		d.changes[h.address()] = c
		return
	}
	if h.state.IP != "" && h.ip != h.state.IP {
		because(c, "its address is now "+h.ip)
	}
	if h.secondIP != "" && h.state.SecondIP != "" && h.secondIP != h.state.SecondIP {
		because(c, "its second address is now "+h.secondIP)
	}
	if d.encrypted() && h.newKey() {
		because(c, "its key has changed")
	}
	if now := api.NetworkHash(h.network); h.seen.Network != now {
		switch was := d.networkBefore(h); {
		case h.seen.Network == "":
			because(c, "pod network is not in force")
		case d.prior.Cluster.Network != d.Config.Cluster.Network:
			because(c, "cluster network "+d.prior.Cluster.Network+" → "+d.Config.Cluster.Network)
		case d.prior.Cluster.SecondPodCIDR != d.Config.Cluster.SecondPodCIDR:
			because(c, "second pod_cidr "+cmp.Or(d.prior.Cluster.SecondPodCIDR, "none")+" → "+cmp.Or(d.Config.Cluster.SecondPodCIDR, "none"))
		case h.seen.Network != was && h.seen.Network != api.NetworkHash(h.interim):
			because(c, "pod network is not as it was left")
		}
	}
	if len(c.Diffs) > 0 || c.Reason != "" {
		d.changes[h.address()] = c
	}
}

// joinDiffs shows a new node: what the inventory says of it, and the pod network that it gets.
func (d *draft) joinDiffs(h *host) []api.AttributeDiff {
	diffs, err := diff.Values(nil, struct {
		*api.Node
		PodCIDR       string `json:"pod_cidr,omitempty"`
		SecondPodCIDR string `json:"second_pod_cidr,omitempty"`
	}{h.node, h.podCIDR, h.secondPodCIDR})
	if err != nil {
		d.errorOn(h, "Node cannot be compared", "%s. This is a bug in Berth: please report it.", err)
	}
	return diffs
}

// nodeNames returns the names of some hosts for people.
func nodeNames(hosts []*host) string {
	var names []string
	for _, h := range hosts {
		names = append(names, h.name)
	}
	return strings.Join(names, ", ")
}
