package planner

import (
	"maps"
	"slices"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
)

// joinHosts sets the pod network of every member where it is not in force yet, before anything else happens there.
func (d *draft) joinHosts() {
	if !d.prior.Cluster.Equal(d.Config.Cluster) {
		cluster := d.Config.Cluster
		d.graph.Add(api.Step{Op: api.OpRecord, Reason: "the cluster's settings", Delta: api.Delta{Cluster: &cluster}})
	}
	d.makeKeys()
	for _, h := range d.hosts {
		d.recordOverrides(h)
		if !h.member() || h.kept {
			continue
		}
		inForce := h.seen.Network
		if inForce != api.NetworkHash(h.network) && inForce != api.NetworkHash(h.interim) || h.state == nil || d.changedIP(h) {
			d.setNetwork(h, h.interim)
			h.set = slices.Clone(h.steps)
		}
	}
}

// recordOverrides remembers first of all what a command has changed about a host, as that it is cordoned: a drain that fails leaves
// its node cordoned. The host itself has no part in it.
func (d *draft) recordOverrides(h *host) {
	if h.state == nil || h.leaves {
		return
	}
	var delta api.Delta
	d.overrideDelta(h.address(), &delta)
	if len(delta.PutOverrides)+len(delta.DropOverrides) == 0 {
		return
	}
	state := *h.state
	state.Node = h.node
	delta.PutNode = &state
	d.graph.Add(api.Step{Op: api.OpRecord, Address: h.address(), Reason: d.changes[h.address()].Reason, Delta: delta})
	h.recorded = true
}

func (d *draft) changedIP(h *host) bool { return h.state.IP != "" && h.state.IP != h.ip }

func (d *draft) setNetwork(h *host, n *api.NodeNetwork, after ...graph.Step) {
	reason := ""
	if c := d.changes[h.address()]; c != nil {
		reason = c.Reason
	}
	if names := d.rekeyed(); reason == "" && names != "" {
		reason = "the key of " + names + " has changed"
	}
	if reason == "" {
		reason = "other nodes come or go"
	}
	d.onHost(h, api.Step{Op: api.OpNodeSet, Address: h.address(), Network: n, Reason: reason, Delta: api.Delta{PutNode: h.nodeState()}}, slices.Concat(d.keys, after)...)
}

// leaveHosts cleans hosts that leave when nothing is left to do there, tells the others, and remembers what else
// changed about hosts.
func (d *draft) leaveHosts() {
	for _, h := range d.hosts {
		if h.leaves && d.ours(h) {
			d.leaveHost(h)
		}
	}
	for _, h := range d.hosts {
		if !h.member() || h.kept {
			continue
		}
		final := api.NetworkHash(h.network)
		now := h.seen.Network
		if len(h.set) > 0 {
			now = api.NetworkHash(h.interim)
		}
		if now != final {
			d.setNetwork(h, h.network, slices.Concat(h.set, d.drained())...)
		} else if c := d.changes[h.address()]; len(h.set) == 0 && (c != nil && !h.recorded || h.mended) {
			d.graph.Add(api.Step{Op: api.OpRecord, Address: h.address(), Node: "", Delta: api.Delta{PutNode: h.nodeState()}}, slices.Clone(h.steps)...)
		}
	}
}

// drained are the removals of pods on hosts that leave: only then may the others forget the way there.
func (d *draft) drained() []graph.Step {
	if d.drains == nil {
		var all []graph.Step
		for _, h := range d.hosts {
			if h.leaves {
				for _, s := range h.steps {
					if d.graph.At(s).Op == api.OpPodRemove {
						all = append(all, s)
					}
				}
			}
		}
		d.drains = d.graph.Join(api.Address{}, "hosts that leave are drained", all)
	}
	return d.drains
}

// leaveHost takes everything of ours from a host after all else there; one that cannot be worked on is only forgotten.
func (d *draft) leaveHost(h *host) {
	reason := d.reasonToEnd()
	if c := d.changes[h.address()]; c != nil {
		reason = firstOf(c.Reason, reason)
	}
	delta := api.Delta{DropNode: h.name}
	if h.reach != up {
		d.graph.Add(api.Step{Op: api.OpForget, Address: h.address(), Reason: reason, Delta: delta}, h.forgets...)
		return
	}
	for _, key := range sortedKeys(h.seen.Services) {
		d.removeKey(h, key, slices.Concat(h.steps, h.handed))
	}
	images := d.onHost(h, api.Step{Op: api.OpImageRemove, Address: h.address(), Reason: reason}, slices.Clone(h.steps)...)
	d.onHost(h, api.Step{Op: api.OpNodeRemove, Address: h.address(), Reason: reason, Delta: delta}, images)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
