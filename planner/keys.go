package planner

import (
	"slices"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
)

// Of the keys of a cluster whose network is WireGuard. A private key is made on its node and stays there; the plan and the state have the public ones.

// publicKeyOf is the one that lies on the host, or of one that takes no work now the one that is remembered.
func publicKeyOf(h *host) string {
	if h.seen != nil && (h.reach == up || h.seen.PublicKey != "") {
		return h.seen.PublicKey
	}
	if h.state != nil {
		return h.state.PublicKey
	}
	return ""
}

func (d *draft) encrypted() bool { return d.Config.Cluster.Network == api.NetworkWireGuard }

// keyless reports whether nothing can be encrypted for a host: it has no key, and none can be made there now. It becomes a peer when it is back.
func (d *draft) keyless(h *host) bool {
	return d.encrypted() && h.publicKey == "" && !(h.member() && !h.kept)
}

// checkWireGuard refuses a host that cannot encrypt.
func (d *draft) checkWireGuard(h *host) {
	if !d.encrypted() {
		return
	}
	var lacking, todo []string
	if lacks(h, api.LacksWireGuard) {
		lacking, todo = append(lacking, "its kernel has no WireGuard"), append(todo, "boot a kernel of 5.6 or later that has its module")
	}
	if lacks(h, api.LacksWG) {
		lacking, todo = append(lacking, "the program wg is not installed"), append(todo, "install the package wireguard-tools")
	}
	if len(lacking) > 0 {
		d.errorOn(h, "No WireGuard on a host", "%s cannot encrypt what it sends to other nodes: %s. On %s %s, or use network = \"vxlan\".",
			h.name, strings.Join(lacking, ", and "), h.name, strings.Join(todo, ", and "))
	}
}

// makeKeys has every member without a key make one: the others are told of it in the one script that brings their network about.
func (d *draft) makeKeys() {
	if !d.encrypted() {
		return
	}
	var all []graph.Step
	for _, h := range d.hosts {
		if !h.member() || h.kept || h.publicKey != "" || h.network == nil {
			continue
		}
		reason := "it has none"
		if h.state != nil && h.state.PublicKey != "" {
			reason = "the key that it had is gone"
		}
		step := d.onHost(h, api.Step{Op: api.OpNodeKey, Address: h.address(), Reason: reason, Delta: api.Delta{PutNode: h.nodeState()}})
		all = append(all, step)
	}
	d.keys = d.graph.Join(api.Address{}, "keys are made", all)
}

// rekeyed names the hosts whose key is not the one that is remembered.
func (d *draft) rekeyed() string {
	if !d.encrypted() {
		return ""
	}
	var names []string
	for _, h := range d.hosts {
		if h.newKey() {
			names = append(names, h.name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (h *host) newKey() bool {
	return h.member() && h.state != nil && h.state.PublicKey != "" && h.publicKey != h.state.PublicKey
}
