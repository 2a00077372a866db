package planner

import (
	"fmt"
	"slices"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
)

// A host that does not answer may still run its pods. Where pods of one name must never run twice, nothing takes the place of
// one there without a proof that it is dead:
//
//   - the host answers, and has no such pod: then it is missing, and made again (see statePod);
//   - a fencing command has succeeded, which switches the host off or cuts it from everything;
//   - somebody has made sure of it, and says so with --confirm-dead.
//
// A host with a proof counts as dead: its pods are forgotten and made elsewhere. When it comes back, what is left of them is
// what its workload takes away first.

// howToProve says what to do about a pod that is not replaced.
const howToProve = "Bring the host back, so that it can be asked. Or make sure that it is switched off, and say so with --confirm-dead=%[1]s. Or have it switched off: give the node a fence { command = [...] } block and use --fence=%[1]s."

// proveDeaths takes in the proofs that the options give.
func (d *draft) proveDeaths() {
	for _, name := range d.ConfirmDead {
		if h := d.namedHost(name, "--confirm-dead"); h != nil {
			h.dead = "confirmed with --confirm-dead"
		}
	}
	for _, name := range d.Fence {
		h := d.namedHost(name, "--fence")
		switch {
		case h == nil || h.dead != "":
		case h.node.Fence == nil:
			d.errorOn(h, "No fencing command", "--fence: node %s has no fence { command = [...] } block, and the cluster has none either. Add one, or make sure yourself that the host is off and use --confirm-dead=%s.", name, name)
		default:
			h.fenced()
		}
	}
}

// fenced has the host count as dead once its fencing command has succeeded.
func (h *host) fenced() {
	h.dead, h.fence = "proved by its fencing command", true
}

// namedHost finds the host that an option names as dead. One that answers is not.
func (d *draft) namedHost(name, option string) *host {
	h := d.byHost[name]
	switch {
	case h == nil:
		d.diags.Errorf(api.Range{}, "No such node", "%s: there is no node %q in the inventory or the state.", option, name)
		return nil
	case h.reach == up:
		d.errorOn(h, "Host is not dead", "%s: %s answers, so nothing has to be proved: what runs there can be seen. Leave the option out.", option, name)
		return nil
	}
	return h
}

// buried reports whether a pod is on a host that counts as dead, or that leaves without being seen again. A pod whose data
// lies on the dead host waits for it: nothing could be made of it elsewhere.
func (d *draft) buried(w *workload, p *pod) bool {
	if p.host.reach == up {
		return false
	}
	if p.host.leaves {
		return true
	}
	if p.host.dead == "" && !d.evicts(w, p) {
		return false
	}
	if w.object == nil {
		return true
	}
	for _, v := range d.volumesIn(w, p.spec) {
		if v.host == p.host {
			d.warnAt(w.object, "", "Pod waits for its data", "%s stays assigned to %s, because %s keeps its data there. Bring the host back; or give up the data with `berth destroy -target=%s`, and the pod starts empty elsewhere.",
				p.address, p.host.name, v.object.Address, v.object.Address)
			return false
		}
	}
	return true
}

// demandProof refuses to replace pods of which no two may run while nobody knows whether the old ones are dead.
func (d *draft) demandProof() {
	for _, w := range d.workloads {
		if w.want == nil || !w.onlyOne() || w.frozen {
			continue
		}
		for _, p := range w.lost {
			if p.leaseOver() {
				continue
			}
			if p.host.dead == "" && p.host.node.Fence != nil {
				p.host.fenced()
			}
			if p.host.dead == "" {
				d.errorAt(w.object, "", "Pod may still run", "%s may still run on node %s, which leaves the inventory and cannot be reached (%s). Two pods of one name must never run, so it is not replaced without a proof that it is dead. %s",
					p.address, p.host.name, p.host.why, fmt.Sprintf(howToProve, p.host.name))
			}
		}
		d.sayUnproved(w)
	}
}

// sayUnproved names the pods on hosts that cannot be reached and that nothing takes the place of.
func (d *draft) sayUnproved(w *workload) {
	var hosts []*host
	names := map[*host][]string{}
	for _, p := range w.pods {
		if !p.fixed || p.host.reach != silent || p.host.dead != "" {
			continue
		}
		if !slices.Contains(hosts, p.host) {
			hosts = append(hosts, p.host)
		}
		names[p.host] = append(names[p.host], p.address.Pod)
	}
	for _, h := range hosts {
		d.warnAt(w.object, "", "Pod is not replaced without proof", "%s: nothing takes the place of %s on %s, which cannot be reached, as long as it may still run there. %s",
			w.address, strings.Join(names[h], ", "), h.name, fmt.Sprintf(howToProve, h.name))
	}
}

// fenceStep switches a host off, once, before anything of it is forgotten.
func (d *draft) fenceStep(h *host) []graph.Step {
	if !h.fence {
		return nil
	}
	if h.fencing == nil {
		f := h.node.Fence
		h.fencing = []graph.Step{d.graph.Add(api.Step{
			Op: api.OpFence, Address: h.address(), Reason: "switch it off before its pods are made elsewhere",
			Fence: &api.FenceWork{Node: h.name, Host: h.node.Address, Command: f.Command, TimeoutSeconds: f.TimeoutSeconds},
		})}
	}
	return h.fencing
}

// troubleIn is why a pod does not run as it should; where it may be made again only with a proof that it is dead, with this.
func troubleIn(w *workload, p *pod) string {
	if p.missing && w.want != nil && w.want.OnePerIdentity {
		return p.host.name + " answers and has no such pod"
	}
	return p.trouble
}

// fenceText names the command that runs on the workstation.
func (h *host) fenceText() string {
	if !h.fence {
		return ""
	}
	return ", which runs here first: " + strings.Join(h.node.Fence.Command, " ")
}

// deathOf says why a pod on a host that cannot be reached is given up, with the proof.
func (h *host) deathOf() string {
	if h.dead != "" {
		return "node " + h.name + " is dead: " + h.dead
	}
	if !h.leaves && h.lost != nil {
		return "node " + h.name + " is " + h.lost.String()
	}
	return "node " + h.name + " left"
}
