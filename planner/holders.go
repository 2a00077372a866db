package planner

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/rollout"
)

// Which node holds the address of a service of type LoadBalancer: one that can, for as long as it can.

// hold chooses the holder of a service's address. It stays where it is while that host belongs to the cluster and is not known to be dead, and,
// where packets do not leave the node that they arrive at, has pods to send them to.
func (d *draft) hold(s *service) {
	if s.value.Spec.Type != corev1.ServiceTypeLoadBalancer {
		s.holder = ""
		return
	}
	s.holder = cmp.Or(s.holder, s.held)
	now := d.byHost[s.holder]
	stays := now != nil && !now.leaves && now.dead == "" && (now.reach != up || !lacks(now, api.LacksAnnounce))
	var with map[string]bool // nodes of endpoints, where that matters
	if rollout.ExternalLocal(s.value) {
		with = map[string]bool{}
		for _, m := range s.members {
			with[m.host.name] = true
		}
		for _, m := range s.manual {
			with[m.Node] = true
		}
		if len(with) == 0 && stays || now != nil && now.reach != up && stays {
			return
		}
		stays = stays && with[s.holder]
	}
	if stays {
		return
	}
	var best *host
	for _, h := range d.hosts {
		if h.member() && !lacks(h, api.LacksAnnounce) && (best == nil || holderRank(s, h, with) > holderRank(s, best, with)) {
			best = h
		}
	}
	s.holder = ""
	if best != nil {
		s.holder = best.name
	}
}

func addressesMove(svc *corev1.Service) string {
	if len(api.LoadBalancerIPs(svc)) > 1 {
		return "its addresses move"
	}
	return "its address moves"
}

// holderRank orders nodes: those that have endpoints first, then by a hash, so that addresses spread over the nodes and few move when one
// comes or goes.
func holderRank(s *service, h *host, with map[string]bool) uint64 {
	f := fnv.New64a()
	f.Write([]byte(s.value.Spec.LoadBalancerIP + "@" + h.name))
	rank := f.Sum64() >> 1
	if with[h.name] {
		rank |= 1 << 63
	}
	return rank
}

// holderFirst lists the members with the new holder of a service's address in front of the old one.
func (d *draft) holderFirst(s *service) []*host {
	var out []*host
	for _, h := range d.hosts {
		if h.member() {
			out = append(out, h)
		}
	}
	if s.holder != "" && s.holder != s.held {
		slices.SortStableFunc(out, func(a, b *host) int { return cmp.Compare(order(a, s), order(b, s)) })
	}
	return out
}

func order(h *host, s *service) int {
	if h.name == s.holder {
		return 0
	}
	return 1
}

// handOver remembers who holds a service's address when its rules are set there, and has the one that held it wait for that: for a moment
// both answer, and no packet finds nobody.
func (d *draft) handOver(s *service, h *host, step graph.Step) {
	if s.holder == "" || h.name != s.holder || s.holder == s.held {
		return
	}
	_, ip := d.prior.HolderOf(s.value)
	d.graph.At(step).Delta.PutHolder = &api.Holder{IP: cmp.Or(ip, api.LoadBalancerIPs(s.value)[0]), Node: s.holder}
	if s.held != "" && s.prior != nil {
		because(d.change(s.object.Address), addressesMove(s.value)+" from "+s.held+" to "+s.holder)
	}
	if old := d.byHost[s.held]; old != nil {
		if old.leaves {
			old.handed = append(old.handed, step)
		}
		s.before[old] = append(s.before[old], step)
	}
	s.held = s.holder
}

// unheld is the address that an object no longer has and no other service takes over, "" for none.
func (d *draft) unheld(prior, o *api.Object) string {
	old := priorService(prior)
	if old == nil {
		return ""
	}
	_, key := d.prior.HolderOf(old)
	if now := priorService(o); key == "" || now != nil && slices.Contains(api.LoadBalancerIPs(now), key) {
		return ""
	}
	for _, s := range d.services {
		if slices.Contains(api.LoadBalancerIPs(s.value), key) {
			return ""
		}
	}
	return key
}

func lacks(h *host, what string) bool { return slices.Contains(strings.Fields(h.facts.Lacks), what) }

// checkServices refuses what some host cannot do, by its name, and addresses that are taken.
func (d *draft) checkServices() {
	for _, s := range d.services {
		if s.frozen || !s.rules {
			continue
		}
		for i, p := range s.value.Spec.Ports {
			if p.Protocol == corev1.ProtocolSCTP {
				path := "spec.ports[" + cmp.Or(p.Name, strconv.Itoa(i)) + "].protocol"
				d.refuseWhereLacking(s, path, api.LacksSCTP, "No SCTP on a host",
					"the kernel of %s does not know SCTP, so its pods could neither serve nor use this port. Install the kernel's module sctp there, or use TCP or UDP.")
			}
		}
		if s.value.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
			d.refuseWhereLacking(s, "spec.sessionAffinity", api.LacksAffinity, "No session affinity on a host",
				"the kernel of %s cannot remember clients: it has no module xt_recent. Install it there, or leave session_affinity out.")
		}
		d.checkBalanced(s)
	}
}

func (d *draft) refuseWhereLacking(s *service, path, what, summary, detail string) {
	var names []string
	for _, h := range d.hosts {
		if !h.leaves && lacks(h, what) {
			names = append(names, h.name)
		}
	}
	if len(names) > 0 {
		d.errorAt(s.object, path, summary, "%s cannot be had: "+detail, s.object.Address, strings.Join(names, ", "))
	}
}

func (d *draft) checkBalanced(s *service) {
	if s.value.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	ips := api.LoadBalancerIPs(s.value)
	ip := strings.Join(ips, " and ")
	able, members := 0, 0
	for _, h := range d.hosts {
		if h.member() {
			members++
			if !lacks(h, api.LacksAnnounce) {
				able++
			}
		}
		for _, own := range h.ips() {
			if slices.Contains(ips, own) && !h.leaves {
				d.errorAt(s.object, "spec.loadBalancerIP", "Address is a host's", "%s would get the address %s, which is that of %s. Take it out of the pool.", s.object.Address, own, h.name)
			}
		}
	}
	if members > 0 && able == 0 {
		d.errorAt(s.object, "spec.type", "No host can hold the address", "The address %s of %s is held by a host that tells its network so, with perl or python3, and no host has one of them. Install either.", ip, s.object.Address)
	}
	if h := d.byHost[s.held]; h != nil && h.reach == silent && h.dead == "" && !h.leaves {
		d.warnAt(s.object, "spec.type", "Load balancer address may be out of reach",
			"%s is held by %s, which cannot be reached. It moves to another node when %s is confirmed dead or taken out of the inventory.", ip, h.name, h.name)
	}
}
