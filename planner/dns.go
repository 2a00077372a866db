package planner

import (
	"fmt"
	"slices"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
)

// What each node's DNS server knows lies as one file per service on the node (api.DNSRecords). The records of most services follow from
// themselves: what a node lacks of them is written at once, before any pod is made there. Those of headless services are the addresses
// of pods, and change as rules do: services.go.

// entry is what DNS is to know of a service with the pods behind it now.
func (s *service) entry() api.DNSEntry {
	e := api.DNSEntry{Records: api.DNSRecordsOf(s.value)}
	if s.headless {
		for _, p := range s.members {
			e.Endpoints = append(e.Endpoints, s.linkTo(p))
		}
		e.Endpoints = append(e.Endpoints, s.manual...)
		e.Families = s.families
	}
	return e
}

// hasDNS reports whether the cluster has DNS of its own.
func (d *draft) hasDNS() bool { return d.Config.Cluster.DNS != "" }

// writeRecords tells every node's server of the services whose records it lacks, in one step.
func (d *draft) writeRecords() {
	if !d.hasDNS() {
		return
	}
	for _, h := range d.hosts {
		if !h.member() || h.kept {
			continue
		}
		work := &api.DNSWork{}
		var of []*service
		for _, s := range d.services {
			if s.headless || s.frozen {
				continue
			}
			if e := s.entry(); h.seen.DNS[s.key] != e.Records.Hash() {
				work.Put, of = append(work.Put, e), append(of, s)
			}
		}
		if len(of) == 0 {
			continue
		}
		step := d.onHost(h, api.Step{Op: api.OpDNSSet, Address: h.address(), DNS: work}, h.set...)
		h.records = []graph.Step{step}
		for _, s := range of {
			s.recorded = append(s.recorded, step)
		}
	}
}

// recordDrift notes hosts whose DNS server does not know of a service what it was told.
func (d *draft) recordDrift(s *service) {
	if s.prior == nil || d.changes[s.object.Address] != nil || d.prior.Cluster.DNS == "" || !d.hasDNS() {
		return
	}
	e := s.entry()
	var hosts []*host
	for _, h := range d.hosts {
		if h.member() && h.state != nil && (h.seen.DNS[s.key] == "" || !s.headless && h.seen.DNS[s.key] != e.Records.Hash()) {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) > 0 {
		because(d.change(s.object.Address), "DNS records are missing or changed on "+nodeNames(hosts))
	}
}

// dropRecords has the servers forget services that are no longer there, when nothing is left of them.
func (d *draft) dropRecords() []graph.Step {
	known := map[string]bool{}
	for _, s := range d.services {
		known[s.key] = d.hasDNS()
	}
	var after, out []graph.Step
	for _, o := range d.deleted {
		if o.Address.Kind == api.KindService {
			after = append(after, d.ended[o.Address]...)
		}
	}
	for _, h := range d.hosts {
		if !h.member() || h.kept {
			continue
		}
		var drop []string
		for _, key := range sortedKeys(h.seen.DNS) {
			if !known[key] {
				drop = append(drop, key)
			}
		}
		if len(drop) > 0 {
			step := api.Step{Op: api.OpDNSSet, Address: h.address(), DNS: &api.DNSWork{Drop: drop}, Reason: "names that are no longer there"}
			out = append(out, d.onHost(h, step, slices.Concat(after, h.set)...))
		}
	}
	return out
}

// answering are the service at whose address pods ask for names, and what makes it answer: these come before all else.
func (d *draft) answering() map[api.Address]bool {
	out := map[api.Address]bool{}
	s := d.dnsService()
	if s == nil {
		return out
	}
	var add func(a api.Address)
	add = func(a api.Address) {
		if o := d.byAddress[a]; o != nil && !out[a] {
			out[a] = true
			for _, dep := range o.DependsOn {
				add(dep)
			}
		}
	}
	add(s.object.Address)
	for _, w := range d.workloads {
		if w.object != nil && slices.Contains(w.services, s) {
			add(w.address)
		}
	}
	return out
}

func (d *draft) dnsService() *service {
	for _, s := range d.services {
		if s.rules && d.hasDNS() && s.value.Spec.ClusterIP == d.Config.Cluster.DNS {
			return s
		}
	}
	return nil
}

// awaitAnswers has the pods of nodes whose first DNS server is made in this plan wait for it: a program that asks for a
// name as it starts is answered. A node that has one already is not waited for.
func (d *draft) awaitAnswers() {
	s := d.dnsService()
	if s == nil || s.frozen {
		return
	}
	first, waits := map[*host][]*pod{}, false
	there := map[*host]bool{}
	for _, w := range d.workloads {
		if w.object == nil || !slices.Contains(w.services, s) {
			continue
		}
		for _, p := range w.pods {
			if p.serves() && !p.mend {
				there[p.host] = true
			}
		}
		for _, list := range append(slices.Clone(w.fresh), w.pods) {
			for _, p := range list {
				if len(p.readied) > 0 {
					first[p.host] = append(first[p.host], p)
				}
				waits = waits || len(p.waits) > 0 // for the room of others, which must not wait for it
			}
		}
	}
	if waits {
		return
	}
	for _, h := range d.hosts {
		if len(first[h]) > 0 && !there[h] {
			h.answers = d.ownServer(s, h, first[h])
		}
	}
}

// ownServer leads a node to its own first server as soon as that is ready, and returns the steps after which it answers there. Rules that lead to
// others as well come later: one node whose server does not become ready would hold back all others.
func (d *draft) ownServer(s *service, h *host, pods []*pod) []graph.Step {
	var ready []graph.Step
	work := &api.ServiceWork{Service: s.value}
	for _, p := range pods {
		ready = append(ready, p.readied...)
		work.Endpoints = append(work.Endpoints, s.linkTo(p))
	}
	last, set := s.last[h]
	if !set {
		return ready
	}
	if len(work.Endpoints) == len(s.members) && len(s.ending) == 0 {
		return append(ready, last)
	}
	own := d.onHost(h, api.Step{Op: api.OpServiceSet, Address: s.object.Address, Service: s.on(h, work), Reason: "names are answered here"}, slices.Concat(ready, h.set, s.before[h])...)
	// Steps are made wave by wave: those of this service on this host from before the server was made come first, the others later.
	for _, step := range h.steps {
		switch at := d.graph.At(step); {
		case step == own || at.Op != api.OpServiceSet || at.Address != s.object.Address:
		case step < slices.Min(ready):
			d.graph.Wait(own, step)
		default:
			d.graph.Wait(step, own)
		}
	}
	return append(ready, own)
}

// named are the steps after which names are answered on a host, for pods that ask.
func (h *host) named(asks bool) []graph.Step {
	if !asks {
		return nil
	}
	return slices.Concat(h.records, h.answers)
}

// warnResolvers says that pods keep the resolver with which they were made, when the cluster's changes.
func (d *draft) warnResolvers() {
	was, is := d.prior.Cluster, d.Config.Cluster
	if d.Destroy || d.prior.Serial == 0 || was.DNS == is.DNS && was.Domain == is.Domain {
		return
	}
	n := 0
	for _, w := range d.workloads {
		for _, p := range w.pods {
			if !p.removed && !p.mend && p.spec != nil && api.WantsClusterDNS(p.spec) {
				n++
			}
		}
	}
	if n == 0 {
		return
	}
	asks := "the resolvers of their nodes"
	if was.DNS != "" {
		asks = was.DNS + ", in the domain " + was.Domain
	}
	what := "where their names are not answered any more"
	if was.DNS == "" {
		what = "and do not find names of the cluster"
	}
	d.diags = append(d.diags, api.Diagnostic{
		Severity: api.SeverityWarning, Summary: "Pods keep their resolver",
		Detail: fmt.Sprintf("The cluster's DNS changes, and a pod is told of it when it is made. Those that stay (%s) go on asking %s, %s. `berth rollout restart` makes them anew.", plural(n, "pod"), asks, what),
	})
}
