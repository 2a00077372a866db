package proxy

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/iptables"
)

// The dispatch chains, which the provider network makes: of services by cluster IP and by node port in both tables; of health checks, which
// leads to the node's DNS server, in the table nat.
const (
	services  = "BERTH-SERVICES"
	nodePorts = "BERTH-NODEPORTS"
	health    = "BERTH-HEALTH"
	markMasq  = "-j BERTH-MARK-MASQ"
)

// defaultAffinitySeconds is how long a client stays with its pod when the service does not say.
const defaultAffinitySeconds = 10800

// On is the node that rules are for, with what it has of one family of addresses.
type On struct {
	Node    string          // its name
	IP      string          // its address; "" when it is not known
	PodCIDR string          // of the cluster
	Family  corev1.IPFamily // of the rules; "" is IPv4
}

// servicePort is one port of a service as the rules of one node need it.
type servicePort struct {
	id       string // "namespace/name" or "namespace/name:port", for comments and chain names
	protocol string // lower case
	vip      string
	port     int32
	nodePort int32
	external []string // other addresses from outside, sorted
	balancer string   // the load balancer's address
	sources  []string // networks that may use it, where closed says that not all may
	closed   bool
	on       On
	affinity int32 // seconds; 0 for none

	all, local []target // endpoints to send to, sorted; local is the part for packets that do not leave the node
	internal   policy
	outside    policy
}

type policy string

const (
	policyCluster policy = "Cluster"
	policyLocal   policy = "Local"
)

type target struct {
	ip   string
	port int32
}

func (t target) String() string { return net.JoinHostPort(t.ip, strconv.Itoa(int(t.port))) }

// Render makes the rules of a service for one node. Equal services and endpoints give equal text, whatever their order.
// A headless service and one of type ExternalName have no rules.
func Render(w *api.ServiceWork, endpoints []providers.Endpoint, on On) (*iptables.Rules, error) {
	svc := w.Service
	r := &iptables.Rules{Name: svc.Namespace + "/" + svc.Name, Hash: api.ServiceHash(w, addresses(endpoints))}
	for _, name := range []string{svc.Namespace, svc.Name} { // of files, and part of the rules' text
		if !nameShape.MatchString(name) {
			return nil, fmt.Errorf("service %q: %q is not a name", r.Name, name)
		}
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return r, nil
	}
	if err := checkAddresses(svc); err != nil {
		return nil, fmt.Errorf("service %s: %w", r.Name, err)
	}
	if on.Family == "" {
		on.Family = corev1.IPv4Protocol
	}
	if api.OfFamily(on.Family, api.ClusterIPs(svc)...) == "" {
		return none(r.Name), nil
	}
	if len(api.ClusterIPs(svc)) > 1 {
		r.Note(iptables.NoteBoth)
	}
	if err := checkHealth(r, w, endpoints, on); err != nil {
		return nil, fmt.Errorf("service %s: %w", r.Name, err)
	}
	for _, p := range svc.Spec.Ports {
		sp, err := portOf(svc, p, on)
		if err == nil {
			err = sp.addEndpoints(p.Name, w, endpoints)
		}
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", r.Name, err)
		}
		sp.render(r)
	}
	if ip := balancerOf(svc, on.Family); ip != "" {
		hold(r, ip, on.Family, w.Holder == on.Node)
	}
	return r, nil
}

// hold notes who holds a load balancer's address. Where it is held, nothing else of the node is reached through it.
func hold(r *iptables.Rules, ip string, f corev1.IPFamily, here bool) {
	if !here {
		r.Note(iptables.NoteLeave + " " + ip)
		return
	}
	r.Note(iptables.NoteHold + " " + ip)
	bits, control := "/32", "icmp"
	if f == corev1.IPv6Protocol { // what nodes find each other by is part of the latter
		bits, control = "/128", "ipv6-icmp"
	}
	r.Add(iptables.Filter, nodePorts, "-d "+ip+bits+" ! -p "+control+" -m comment --comment \""+r.Name+" no such port\" -j "+rejectOf(f))
}

// none is the text of a service that is to have no rules.
func none(name string) *iptables.Rules { return &iptables.Rules{Name: name, Hash: hashOfNone} }

func balancerOf(svc *corev1.Service, f corev1.IPFamily) string {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return ""
	}
	return api.OfFamily(f, api.LoadBalancerIPs(svc)...)
}

// checkAddresses refuses addresses that are none: they become part of the rules' text.
func checkAddresses(svc *corev1.Service) error {
	for _, a := range []struct {
		what string
		ips  []string
	}{{"cluster IP", append([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs...)}, {"external IP", svc.Spec.ExternalIPs}, {"load balancer address", strings.FieldsFunc(svc.Spec.LoadBalancerIP, func(r rune) bool { return r == ',' })}} {
		for _, text := range a.ips {
			if ip, err := netip.ParseAddr(text); err != nil || api.FamilyOf(ip.String()) == "" {
				return fmt.Errorf("%s %q: not an address", a.what, text)
			}
		}
	}
	return nil
}

func addresses(endpoints []providers.Endpoint) []string {
	ips := make([]string, len(endpoints))
	for i, e := range endpoints {
		ips[i] = api.JoinIPs(e.IP, e.SecondIP)
	}
	return ips
}

var nameShape = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

func portOf(svc *corev1.Service, p corev1.ServicePort, on On) (*servicePort, error) {
	sp := &servicePort{
		id:       svc.Namespace + "/" + svc.Name,
		protocol: strings.ToLower(string(cmp.Or(p.Protocol, corev1.ProtocolTCP))),
		vip:      api.OfFamily(on.Family, api.ClusterIPs(svc)...),
		port:     p.Port,
		balancer: balancerOf(svc, on.Family),
		on:       on,
		internal: policyCluster,
		outside:  policyCluster,
	}
	if p.Name != "" {
		sp.id += ":" + p.Name
	}
	if p.Name != "" && !nameShape.MatchString(p.Name) {
		return nil, fmt.Errorf("%q is not a name", p.Name)
	}
	switch sp.protocol {
	case "tcp", "udp", "sctp":
	default:
		return nil, fmt.Errorf("port %d: protocol %q is not supported", p.Port, p.Protocol)
	}
	for _, n := range []int32{p.Port, max(p.NodePort, 1)} {
		if n < 1 || n > 65535 {
			return nil, fmt.Errorf("port %d: out of range", n)
		}
	}
	if svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		sp.nodePort = p.NodePort
	}
	for _, ip := range svc.Spec.ExternalIPs {
		if api.FamilyOf(ip) == on.Family {
			sp.external = append(sp.external, netip.MustParseAddr(ip).String()) // as iptables prints it
		}
	}
	slices.Sort(sp.external)
	sp.external = slices.DeleteFunc(slices.Compact(sp.external), func(ip string) bool { return ip == sp.balancer })
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		sp.affinity = defaultAffinitySeconds
		if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			sp.affinity = *c.ClientIP.TimeoutSeconds
		}
	}
	if t := svc.Spec.InternalTrafficPolicy; t != nil && *t == corev1.ServiceInternalTrafficPolicyLocal {
		sp.internal = policyLocal
	}
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		sp.outside = policyLocal
	}
	return sp, sp.addSources(svc.Spec.LoadBalancerSourceRanges)
}

// addSources takes the networks that may use the load balancer's address. One that is all of them is no restriction.
func (sp *servicePort) addSources(ranges []string) error {
	everybody := false
	for _, text := range ranges {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || api.FamilyOf(p.String()) == "" {
			return fmt.Errorf("source range %q: not a network", text)
		}
		if api.FamilyOf(p.String()) != sp.on.Family {
			continue
		}
		everybody = everybody || p.Bits() == 0
		sp.sources = append(sp.sources, p.Masked().String())
		if ip, err := netip.ParseAddr(sp.on.IP); err == nil && p.Contains(ip) && sp.balancer != "" {
			sp.sources = append(sp.sources, sp.alone(sp.balancer)) // as which a node that holds the address asks itself
		}
	}
	slices.Sort(sp.sources)
	sp.sources = slices.Compact(sp.sources)
	sp.closed = len(ranges) > 0 && !everybody // networks of one family keep all of the other out
	if everybody {
		sp.sources = nil
	}
	return nil
}

// addEndpoints chooses whom the port sends to (semantics.md 4.2): those that are ready, and where none is, those that are about to go.
func (sp *servicePort) addEndpoints(name string, w *api.ServiceWork, endpoints []providers.Endpoint) error {
	var all, local [2][]target // ready, terminating
	for i, e := range endpoints {
		port, ok := e.Ports[name]
		if !ok || e.IP == "" {
			continue // a pod without a port of that name, or without an address yet
		}
		for _, text := range []string{e.IP, e.SecondIP} {
			if text != "" && api.FamilyOf(text) == "" {
				return fmt.Errorf("endpoint %s: %q is not an address", e.Pod, text)
			}
		}
		ip := api.OfFamily(sp.on.Family, e.IP, e.SecondIP)
		if ip == "" {
			continue // it has none of this family
		}
		if port < 1 || port > 65535 {
			return fmt.Errorf("endpoint %s: port %d: out of range", e.Pod, port)
		}
		k := 0
		if w.Endpoints[i].Terminating {
			k = 1
		}
		t := target{netip.MustParseAddr(ip).String(), port}
		all[k] = append(all[k], t)
		if e.Node == sp.on.Node {
			local[k] = append(local[k], t)
		}
	}
	sp.all, sp.local = chosen(all), chosen(local)
	if d := w.Service.Spec.TrafficDistribution; d != nil && *d == corev1.ServiceTrafficDistributionPreferSameNode && len(local[0]) > 0 {
		sp.all = sp.local // the others are for nodes that have none
	}
	return nil
}

func chosen(of [2][]target) []target {
	out := of[0]
	if len(out) == 0 {
		out = of[1]
	}
	slices.SortFunc(out, compareTargets)
	return slices.Compact(out)
}

func compareTargets(a, b target) int {
	return cmp.Or(netip.MustParseAddr(a.ip).Compare(netip.MustParseAddr(b.ip)), cmp.Compare(a.port, b.port))
}

// alone is one address as a rule has it.
func (sp *servicePort) alone(ip string) string {
	if sp.six() {
		return ip + "/128"
	}
	return ip + "/32"
}

func (sp *servicePort) six() bool { return sp.on.Family == corev1.IPv6Protocol }

// wholeMask is the mask under which each address is remembered for itself.
func (sp *servicePort) wholeMask() string {
	if sp.six() {
		return "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	}
	return "255.255.255.255"
}

func (sp *servicePort) rejection() string {
	return rejectOf(sp.on.Family)
}

func rejectOf(f corev1.IPFamily) string {
	if f == corev1.IPv6Protocol {
		return "REJECT --reject-with icmp6-port-unreachable"
	}
	return reject
}

func (sp *servicePort) chain(kind string) string {
	return iptables.ChainName("BERTH-"+kind+"-", sp.id+sp.protocol)
}

func (sp *servicePort) endpointChain(t target) string {
	return iptables.ChainName("BERTH-SEP-", sp.id+sp.protocol+t.String())
}

// comment is a match that every rule carries. The scripts tell by it whose a line in a dispatch chain is.
func (sp *servicePort) comment(more string) string {
	return `-m comment --comment "` + sp.id + more + `"`
}

// to matches packets to a port: "-p tcp COMMENT -m tcp --dport 80".
func (sp *servicePort) to(port int32, comment string) string {
	return "-p " + sp.protocol + " " + comment + " -m " + sp.protocol + " --dport " + strconv.Itoa(int(port))
}

// render adds the port's rules: semantics.md 4.4.
func (sp *servicePort) render(r *iptables.Rules) {
	sp.note(r)
	if len(sp.all) == 0 {
		for _, to := range append([]string{sp.vip}, sp.entries()...) {
			sp.refuse(r, to, sp.rejection(), " has no endpoints")
		}
		return
	}
	for _, t := range sp.used() {
		chain := sp.endpointChain(t)
		r.Own(iptables.NAT, chain)
		r.Add(iptables.NAT, chain, "-s "+sp.alone(t.ip)+" "+sp.comment("")+" "+markMasq) // a pod that reaches itself
		recent := ""
		if sp.affinity > 0 {
			recent = " -m recent --set --name " + chain + " --mask " + sp.wholeMask() + " --rsource"
		}
		r.Add(iptables.NAT, chain, "-p "+sp.protocol+" "+sp.comment("")+recent+" -m "+sp.protocol+" -j DNAT --to-destination "+t.String())
	}
	if sp.spreadsAll() {
		sp.spread(r, sp.chain("SVC"), sp.all)
	}
	if sp.spreadsLocal() {
		sp.spread(r, sp.chain("SVL"), sp.local)
	}
	sp.clusterIP(r)
	if entries := sp.entries(); len(entries) > 0 {
		sp.fromOutside(r, entries)
	}
}

// nodeEntry stands for the node port among the entries.
const nodeEntry = "node"

// entries are the ways in from outside: addresses, and [nodeEntry].
func (sp *servicePort) entries() []string {
	out := slices.Clone(sp.external)
	if sp.balancer != "" {
		out = append(out, sp.balancer)
	}
	if sp.nodePort != 0 {
		out = append(out, nodeEntry)
	}
	return out
}

func (sp *servicePort) spreadsAll() bool {
	return sp.internal == policyCluster || len(sp.entries()) > 0
}

func (sp *servicePort) spreadsLocal() bool {
	return len(sp.local) > 0 && (sp.internal == policyLocal || sp.outside == policyLocal && len(sp.entries()) > 0)
}

// used are the endpoints that some chain of this port leads to.
func (sp *servicePort) used() []target {
	var out []target
	if sp.spreadsAll() {
		out = append(out, sp.all...)
	}
	if sp.spreadsLocal() {
		out = append(out, sp.local...)
	}
	slices.SortFunc(out, compareTargets)
	return slices.Compact(out)
}

// spread fills a chain that chooses among targets with equal chances.
func (sp *servicePort) spread(r *iptables.Rules, chain string, targets []target) {
	r.Own(iptables.NAT, chain)
	if chain == sp.chain(sp.internalKind()) {
		r.Add(iptables.NAT, chain, "! -s "+sp.on.PodCIDR+" -d "+sp.alone(sp.vip)+" "+sp.to(sp.port, sp.comment(" cluster IP"))+" "+markMasq)
	}
	if sp.affinity > 0 {
		for _, t := range targets {
			c := sp.endpointChain(t)
			r.Add(iptables.NAT, chain, sp.comment("")+" -m recent --rcheck --seconds "+strconv.Itoa(int(sp.affinity))+
				" --reap --name "+c+" --mask "+sp.wholeMask()+" --rsource -j "+c)
		}
	}
	for i, t := range targets {
		choice := ""
		if left := len(targets) - i; left > 1 {
			choice = " -m statistic --mode random --probability " + iptables.Probability(1/float64(left))
		}
		r.Add(iptables.NAT, chain, sp.comment("")+choice+" -j "+sp.endpointChain(t))
	}
}

func (sp *servicePort) internalKind() string {
	if sp.internal == policyLocal {
		return "SVL"
	}
	return "SVC"
}

func (sp *servicePort) clusterIP(r *iptables.Rules) {
	if sp.internal == policyLocal && len(sp.local) == 0 {
		sp.refuse(r, sp.vip, "DROP", " has no local endpoints")
		return
	}
	r.Add(iptables.NAT, services, "-d "+sp.alone(sp.vip)+" "+sp.to(sp.port, sp.comment(" cluster IP"))+" -j "+sp.chain(sp.internalKind()))
}

// fromOutside makes the port reachable by its entries.
func (sp *servicePort) fromOutside(r *iptables.Rules, entries []string) {
	ext := sp.chain("EXT")
	r.Own(iptables.NAT, ext)
	if sp.outside == policyCluster {
		r.Add(iptables.NAT, ext, sp.comment("")+" "+markMasq)
		r.Add(iptables.NAT, ext, sp.comment("")+" -j "+sp.chain("SVC"))
	} else {
		// Pods and the node itself may go anywhere; others only to pods here, so that these see who asks.
		r.Add(iptables.NAT, ext, "-s "+sp.on.PodCIDR+" "+sp.comment(" from pods")+" -j "+sp.chain("SVC"))
		r.Add(iptables.NAT, ext, sp.comment(" from the node")+" -m addrtype --src-type LOCAL "+markMasq)
		r.Add(iptables.NAT, ext, sp.comment(" from the node")+" -m addrtype --src-type LOCAL -j "+sp.chain("SVC"))
		if len(sp.local) > 0 {
			r.Add(iptables.NAT, ext, sp.comment("")+" -j "+sp.chain("SVL"))
		}
	}
	for _, to := range entries {
		switch {
		case to == nodeEntry:
			r.Add(iptables.NAT, nodePorts, sp.to(sp.nodePort, sp.comment(" node port"))+" -j "+ext)
		case to == sp.balancer:
			sp.balance(r, ext)
		default:
			r.Add(iptables.NAT, services, "-d "+sp.alone(to)+" "+sp.to(sp.port, sp.comment(" external IP"))+" -j "+ext)
		}
		if sp.outside == policyLocal && len(sp.local) == 0 {
			sp.refuse(r, to, "DROP", " has no local endpoints")
		}
	}
}

// balance leads packets for the load balancer's address on, of those who may use it.
func (sp *servicePort) balance(r *iptables.Rules, ext string) {
	next := ext
	if sp.closed {
		next = sp.chain("FW")
		r.Own(iptables.NAT, next)
		for _, s := range sp.sources {
			r.Add(iptables.NAT, next, "-s "+s+" "+sp.comment("")+" -j "+ext)
		}
		sp.refuse(r, sp.balancer, "DROP", " not for this source")
	}
	r.Add(iptables.NAT, services, "-d "+sp.alone(sp.balancer)+" "+sp.to(sp.port, sp.comment(" load balancer"))+" -j "+next)
}

const reject = "REJECT --reject-with icmp-port-unreachable"

// refuse answers what nobody would answer: packets to an address, or to the node port. One that comes from outside may be the node's own.
func (sp *servicePort) refuse(r *iptables.Rules, to, verdict, why string) {
	if to == nodeEntry {
		r.Add(iptables.Filter, nodePorts, sp.to(sp.nodePort, sp.comment(why))+" -j "+verdict)
		return
	}
	rule := "-d " + sp.alone(to) + " " + sp.to(sp.port, sp.comment(why)) + " -j " + verdict
	r.Add(iptables.Filter, services, rule)
	if to != sp.vip {
		r.Add(iptables.Filter, nodePorts, rule)
	}
}

// note tells the script where packets to a port are led: the kernel would go on sending those of a UDP sender that it
// knows, and those of a TCP connection that nobody has answered, to an endpoint that is gone.
func (sp *servicePort) note(r *iptables.Rules) {
	if sp.protocol != "udp" && sp.protocol != "tcp" {
		return
	}
	var ends []string
	for _, t := range sp.used() {
		ends = append(ends, t.ip)
	}
	slices.Sort(ends)
	ips := strings.Join(slices.Compact(ends), " ")
	for _, to := range append([]string{sp.vip}, sp.entries()...) {
		port := sp.port
		if to == nodeEntry {
			port = sp.nodePort
		}
		r.Note(strings.TrimRight(sp.protocol+" "+to+" "+strconv.Itoa(int(port))+" "+ips, " "))
	}
}
