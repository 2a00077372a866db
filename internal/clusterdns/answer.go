package clusterdns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/miekg/dns"
)

// ttl is how long others may remember an answer, in seconds; also one that there is none.
const ttl = 5

// specification is the version of Kubernetes' DNS specification that is followed (semantics.md 4.7).
const specification = "1.1.0"

// answer is what is known about a question. Where nothing is, and the name is not ours, others are asked.
type answer struct {
	zone    string // whose authority it is; "" when the name is none of ours
	exists  bool   // the name does, with records of this type or without
	records []dns.RR
	extra   []dns.RR
	follow  string // the name that the one asked for stands for, to be looked up for its addresses
}

// zone answers for the names of the cluster.
type zone struct {
	store   *store
	custom  custom
	domain  string         // fully qualified, lower case
	address netip.Addr     // of the name server; invalid when it is not known
	ranges  []netip.Prefix // of pods and services
}

// question is a name in lower case, and as it was asked.
type question struct {
	name, asked string
	qtype       uint16
}

// find answers a question.
func (z *zone) find(q question) answer {
	if a, ok := z.custom.find(q); ok {
		return a
	}
	if rest, ok := below(q.name, z.domain); ok {
		a := z.inDomain(q, rest)
		a.zone = z.domain
		return a
	}
	return z.reverse(q)
}

// below returns the labels of a name below a domain, the nearest to it last; "" for the domain itself.
func below(name, domain string) ([]string, bool) {
	if name == domain {
		return nil, true
	}
	rest, ok := strings.CutSuffix(name, "."+domain)
	if !ok {
		return nil, false
	}
	return dns.SplitDomainName(rest + "."), true
}

func (z *zone) inDomain(q question, labels []string) answer {
	if len(labels) == 0 {
		return z.apex(q)
	}
	rest := labels[:len(labels)-1]
	switch last := labels[len(labels)-1]; {
	case last == "svc":
		return z.inServices(q, rest)
	case last == "pod":
		return pods(q, rest)
	case last == "dns-version" && len(rest) == 0:
		return of(q, dns.TypeTXT, &dns.TXT{Txt: []string{specification}})
	case last == "dns" && len(rest) == 0:
		return answer{exists: true}
	case last == "dns" && len(rest) == 1 && rest[0] == "ns" && z.address.IsValid():
		return addresses(q, z.address)
	}
	return answer{}
}

// apex answers for the domain itself.
func (z *zone) apex(q question) answer {
	switch q.qtype {
	case dns.TypeSOA:
		soa := z.soa(z.domain)
		soa.Hdr.Name = q.asked
		return answer{exists: true, records: []dns.RR{soa}}
	case dns.TypeNS:
		a := of(q, dns.TypeNS, &dns.NS{Ns: "ns.dns." + z.domain})
		if z.address.IsValid() {
			a.extra = addressRecords("ns.dns."+z.domain, z.address, 0)
		}
		return a
	}
	return answer{exists: true}
}

// inServices answers for names below svc.
func (z *zone) inServices(q question, labels []string) answer {
	switch len(labels) {
	case 0:
		return answer{exists: true}
	case 1:
		return answer{exists: z.store.hasNamespace(labels[0])}
	}
	namespace, name := labels[len(labels)-1], labels[len(labels)-2]
	s := z.store.service(namespace, name)
	if s == nil {
		return answer{}
	}
	full := s.name + "." + s.namespace + ".svc." + z.domain
	switch rest := labels[:len(labels)-2]; {
	case len(rest) == 0:
		return s.itself(q)
	case len(rest) == 1 && strings.HasPrefix(rest[0], "_"):
		return answer{exists: slices.ContainsFunc(s.ports, s.answersFor("", rest[0]))}
	case len(rest) == 1:
		return s.endpoint(q, rest[0])
	case len(rest) == 2 && strings.HasPrefix(rest[0], "_") && strings.HasPrefix(rest[1], "_"):
		return s.srv(q, rest[0], rest[1], full)
	}
	return answer{}
}

// itself answers for a service's name.
func (s *service) itself(q question) answer {
	switch {
	case s.cname != "":
		a := of(q, dns.TypeCNAME, &dns.CNAME{Target: s.cname})
		if q.qtype != dns.TypeCNAME {
			a.records = []dns.RR{named(q, dns.TypeCNAME, &dns.CNAME{Target: s.cname})}
			a.follow = s.cname
		}
		return a
	case len(s.ips) > 0:
		return addresses(q, s.ips...)
	case len(s.endpoints) == 0:
		return answer{}
	}
	var ips []netip.Addr
	for _, e := range s.endpoints {
		if !slices.Contains(ips, e.ip) {
			ips = append(ips, e.ip)
		}
	}
	return addresses(q, ips...)
}

// endpoint answers for the name of one pod of a headless service.
func (s *service) endpoint(q question, host string) answer {
	var ips []netip.Addr
	for _, e := range s.endpoints {
		if e.host == host {
			ips = append(ips, e.ip)
		}
	}
	if len(ips) == 0 {
		return answer{}
	}
	return addresses(q, ips...)
}

// answersFor tells the port that "_name" and "_protocol" mean; no name means any.
func (s *service) answersFor(name, protocol string) func(p portRecord) bool {
	return func(p portRecord) bool {
		return "_"+p.Protocol == protocol && (name == "" || "_"+p.Name == name)
	}
}

// srv answers for a named port: the service's, or with a headless service those of its pods.
func (s *service) srv(q question, name, protocol, full string) answer {
	i := slices.IndexFunc(s.ports, s.answersFor(name, protocol))
	if i < 0 {
		return answer{}
	}
	port := s.ports[i]
	a := answer{exists: len(s.ips) > 0 || len(s.endpoints) > 0}
	if len(s.ips) > 0 {
		if q.qtype == dns.TypeSRV {
			a.records = []dns.RR{named(q, dns.TypeSRV, &dns.SRV{Weight: 100, Port: uint16(port.Port), Target: full})}
			for _, ip := range s.ips {
				a.extra = append(a.extra, addressRecords(full, ip, 0)...)
			}
		}
		return a
	}
	if q.qtype != dns.TypeSRV {
		return a
	}
	weight := uint16(max(1, 100/max(1, len(s.endpoints))))
	for _, e := range s.endpoints {
		n, ok := e.ports[port.Name]
		if !ok {
			continue // a pod without a port of that name
		}
		target := e.host + "." + full
		rr := named(q, dns.TypeSRV, &dns.SRV{Weight: weight, Port: uint16(n), Target: target})
		if !slices.ContainsFunc(a.records, func(o dns.RR) bool { return dns.IsDuplicate(o, rr) }) {
			a.records = append(a.records, rr)
		}
		a.extra = append(a.extra, addressRecords(target, e.ip, 0)...)
	}
	return a
}

// pods answers for the names that pods have by their address, whether or not there is one: "10-244-1-5.default.pod".
func pods(q question, labels []string) answer {
	switch len(labels) {
	case 0, 1:
		return answer{exists: true}
	case 2:
		if ip, ok := undashed(labels[0]); ok {
			return addresses(q, ip)
		}
	}
	return answer{}
}

// reverse answers for the names of addresses. Those of pods and services without one have none: nobody else is asked.
func (z *zone) reverse(q question) answer {
	ip, err := netip.ParseAddr(dnsutil.ExtractAddressFromReverse(q.name))
	if err != nil {
		return answer{}
	}
	names := z.store.names(ip)
	ours := slices.ContainsFunc(z.ranges, func(p netip.Prefix) bool { return p.Contains(ip) })
	if len(names) == 0 && !ours {
		return answer{}
	}
	a := answer{zone: "in-addr.arpa.", exists: len(names) > 0}
	if ip.Is6() {
		a.zone = "ip6.arpa."
	}
	if q.qtype == dns.TypePTR {
		for _, n := range names {
			a.records = append(a.records, named(q, dns.TypePTR, &dns.PTR{Ptr: n + z.domain}))
		}
	}
	return a
}

// addresses answers with those of the family that was asked for.
func addresses(q question, ips ...netip.Addr) answer {
	a := answer{exists: true}
	for _, ip := range ips {
		a.records = append(a.records, addressRecords(q.asked, ip, q.qtype)...)
	}
	return a
}

// addressRecords is the address of a name, if it is of the type wanted; 0 wants any.
func addressRecords(name string, ip netip.Addr, want uint16) []dns.RR {
	ip = ip.Unmap()
	hdr := dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
	if ip.Is6() {
		hdr.Rrtype = dns.TypeAAAA
	}
	if want != 0 && want != hdr.Rrtype {
		return nil
	}
	if ip.Is6() {
		return []dns.RR{&dns.AAAA{Hdr: hdr, AAAA: ip.AsSlice()}}
	}
	return []dns.RR{&dns.A{Hdr: hdr, A: ip.AsSlice()}}
}

// of answers with one record if its type was asked for.
func of(q question, qtype uint16, rr dns.RR) answer {
	a := answer{exists: true}
	if q.qtype == qtype {
		a.records = []dns.RR{named(q, qtype, rr)}
	}
	return a
}

// named gives a record the name that was asked for.
func named(q question, qtype uint16, rr dns.RR) dns.RR {
	*rr.Header() = dns.RR_Header{Name: q.asked, Rrtype: qtype, Class: dns.ClassINET, Ttl: ttl}
	return rr
}

// soa says for how long it may be remembered that there is nothing.
func (z *zone) soa(owner string) *dns.SOA {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  "ns.dns." + z.domain, Mbox: "hostmaster." + z.domain,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
}
