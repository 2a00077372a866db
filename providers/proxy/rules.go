package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/iptables"
)

// The dispatch chains, which the provider network makes in both tables: of services by cluster IP, of services by node port.
const (
	services  = "BERTH-SERVICES"
	nodePorts = "BERTH-NODEPORTS"
	markMasq  = "-j BERTH-MARK-MASQ"
)

// defaultAffinitySeconds is how long a client stays with its pod when the service does not say.
const defaultAffinitySeconds = 10800

// servicePort is one port of a service as the rules of one node need it.
type servicePort struct {
	id       string // "namespace/name" or "namespace/name:port", for comments and chain names
	protocol string // lower case
	vip      string
	port     int32
	nodePort int32
	podCIDR  string // of the cluster
	affinity int32  // seconds; 0 for none

	all, local []target // endpoints, sorted; local is the part on this node
	internal   policy
	external   policy
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

func (t target) String() string { return t.ip + ":" + strconv.Itoa(int(t.port)) }

// Render makes the rules of a service for one node. Equal services and endpoints give equal text, whatever their order.
// A headless service and one of type ExternalName have no rules.
func Render(w *api.ServiceWork, endpoints []providers.Endpoint, node, podCIDR string) (*iptables.Rules, error) {
	svc := w.Service
	r := &iptables.Rules{Name: svc.Namespace + "/" + svc.Name, Hash: api.ServiceHash(w, addresses(endpoints))}
	if err := supported(svc); err != nil {
		return nil, fmt.Errorf("service %s: %w", r.Name, err)
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return r, nil
	}
	if ip, err := netip.ParseAddr(svc.Spec.ClusterIP); err != nil || !ip.Is4() {
		return nil, fmt.Errorf("service %s: cluster IP %q: not an IPv4 address", r.Name, svc.Spec.ClusterIP)
	}
	for _, p := range svc.Spec.Ports {
		sp, err := portOf(svc, p, endpoints, node, podCIDR)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", r.Name, err)
		}
		sp.render(r)
	}
	return r, nil
}

// supported refuses by name what these rules would not do.
func supported(svc *corev1.Service) error {
	switch svc.Spec.Type {
	case "", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeExternalName:
	default:
		return fmt.Errorf("type %q is not supported", svc.Spec.Type)
	}
	if len(svc.Spec.ExternalIPs) > 0 {
		return fmt.Errorf("externalIPs are not supported")
	}
	return nil
}

func addresses(endpoints []providers.Endpoint) []string {
	ips := make([]string, len(endpoints))
	for i, e := range endpoints {
		ips[i] = e.IP
	}
	return ips
}

func portOf(svc *corev1.Service, p corev1.ServicePort, endpoints []providers.Endpoint, node, podCIDR string) (*servicePort, error) {
	sp := &servicePort{
		id:       svc.Namespace + "/" + svc.Name,
		protocol: strings.ToLower(string(cmp.Or(p.Protocol, corev1.ProtocolTCP))),
		vip:      svc.Spec.ClusterIP,
		port:     p.Port,
		podCIDR:  podCIDR,
		internal: policyCluster,
		external: policyCluster,
	}
	if p.Name != "" {
		sp.id += ":" + p.Name
	}
	switch sp.protocol {
	case "tcp", "udp", "sctp":
	default:
		return nil, fmt.Errorf("port %d: protocol %q is not supported", p.Port, p.Protocol)
	}
	if svc.Spec.Type == corev1.ServiceTypeNodePort {
		sp.nodePort = p.NodePort
	}
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
		sp.external = policyLocal
	}
	if err := sp.addEndpoints(p.Name, endpoints, node); err != nil {
		return nil, err
	}
	if d := svc.Spec.TrafficDistribution; d != nil && *d == corev1.ServiceTrafficDistributionPreferSameNode && len(sp.local) > 0 {
		sp.all = sp.local // the others are for nodes that have none
	}
	return sp, nil
}

func (sp *servicePort) addEndpoints(name string, endpoints []providers.Endpoint, node string) error {
	for _, e := range endpoints {
		port, ok := e.Ports[name]
		if !ok || e.IP == "" {
			continue // a pod without a port of that name, or without an address yet
		}
		if ip, err := netip.ParseAddr(e.IP); err != nil || !ip.Is4() {
			return fmt.Errorf("endpoint %s: %q is not an IPv4 address", e.Pod, e.IP)
		}
		t := target{e.IP, port}
		sp.all = append(sp.all, t)
		if e.Node == node {
			sp.local = append(sp.local, t)
		}
	}
	for _, list := range []*[]target{&sp.all, &sp.local} {
		slices.SortFunc(*list, compareTargets)
		*list = slices.Compact(*list)
	}
	return nil
}

func compareTargets(a, b target) int {
	return cmp.Or(netip.MustParseAddr(a.ip).Compare(netip.MustParseAddr(b.ip)), cmp.Compare(a.port, b.port))
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
		sp.refuse(r, sp.vip, "REJECT --reject-with icmp-port-unreachable", " has no endpoints")
		if sp.nodePort != 0 {
			sp.refuse(r, "", "REJECT --reject-with icmp-port-unreachable", " has no endpoints")
		}
		return
	}
	for _, t := range sp.used() {
		chain := sp.endpointChain(t)
		r.Own(iptables.NAT, chain)
		r.Add(iptables.NAT, chain, "-s "+t.ip+"/32 "+sp.comment("")+" "+markMasq) // a pod that reaches itself
		recent := ""
		if sp.affinity > 0 {
			recent = " -m recent --set --name " + chain + " --mask 255.255.255.255 --rsource"
		}
		r.Add(iptables.NAT, chain, "-p "+sp.protocol+" "+sp.comment("")+recent+" -m "+sp.protocol+" -j DNAT --to-destination "+t.String())
	}
	if sp.internal == policyCluster || sp.nodePort != 0 {
		sp.spread(r, sp.chain("SVC"), sp.all)
	}
	if (sp.internal == policyLocal || sp.external == policyLocal && sp.nodePort != 0) && len(sp.local) > 0 {
		sp.spread(r, sp.chain("SVL"), sp.local)
	}
	sp.clusterIP(r)
	if sp.nodePort != 0 {
		sp.node(r)
	}
}

// used are the endpoints that some chain of this port leads to.
func (sp *servicePort) used() []target {
	if sp.internal == policyLocal && sp.nodePort == 0 {
		return sp.local
	}
	return sp.all
}

// spread fills a chain that chooses among targets with equal chances.
func (sp *servicePort) spread(r *iptables.Rules, chain string, targets []target) {
	r.Own(iptables.NAT, chain)
	if chain == sp.chain(sp.internalKind()) {
		r.Add(iptables.NAT, chain, "! -s "+sp.podCIDR+" -d "+sp.vip+"/32 "+sp.to(sp.port, sp.comment(" cluster IP"))+" "+markMasq)
	}
	if sp.affinity > 0 {
		for _, t := range targets {
			c := sp.endpointChain(t)
			r.Add(iptables.NAT, chain, sp.comment("")+" -m recent --rcheck --seconds "+strconv.Itoa(int(sp.affinity))+
				" --reap --name "+c+" --mask 255.255.255.255 --rsource -j "+c)
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
	r.Add(iptables.NAT, services, "-d "+sp.vip+"/32 "+sp.to(sp.port, sp.comment(" cluster IP"))+" -j "+sp.chain(sp.internalKind()))
}

// node makes the port reachable on every address of the node but loopback.
func (sp *servicePort) node(r *iptables.Rules) {
	ext := sp.chain("EXT")
	r.Own(iptables.NAT, ext)
	if sp.external == policyCluster {
		r.Add(iptables.NAT, ext, sp.comment("")+" "+markMasq)
		r.Add(iptables.NAT, ext, sp.comment("")+" -j "+sp.chain("SVC"))
	} else {
		// Pods and the node itself may go anywhere; others only to pods here, so that these see who asks.
		r.Add(iptables.NAT, ext, "-s "+sp.podCIDR+" "+sp.comment(" from pods")+" -j "+sp.chain("SVC"))
		r.Add(iptables.NAT, ext, sp.comment(" from the node")+" -m addrtype --src-type LOCAL "+markMasq)
		r.Add(iptables.NAT, ext, sp.comment(" from the node")+" -m addrtype --src-type LOCAL -j "+sp.chain("SVC"))
		if len(sp.local) > 0 {
			r.Add(iptables.NAT, ext, sp.comment("")+" -j "+sp.chain("SVL"))
		} else {
			sp.refuse(r, "", "DROP", " has no local endpoints")
		}
	}
	r.Add(iptables.NAT, nodePorts, sp.to(sp.nodePort, sp.comment(" node port"))+" -j "+ext)
}

// refuse answers what nobody would answer: packets to the cluster IP, or with none to the node port.
func (sp *servicePort) refuse(r *iptables.Rules, vip, verdict, why string) {
	if vip != "" {
		r.Add(iptables.Filter, services, "-d "+vip+"/32 "+sp.to(sp.port, sp.comment(why))+" -j "+verdict)
		return
	}
	r.Add(iptables.Filter, nodePorts, sp.to(sp.nodePort, sp.comment(why))+" -j "+verdict)
}

// note tells the script which answers to UDP packets are still right: the kernel would go on sending those of a
// known sender to an endpoint that is gone.
func (sp *servicePort) note(r *iptables.Rules) {
	if sp.protocol != "udp" {
		return
	}
	var ends []string
	for _, t := range sp.used() {
		ends = append(ends, t.ip)
	}
	slices.Sort(ends)
	list := strings.Join(slices.Compact(ends), " ")
	r.Note(strings.TrimRight(fmt.Sprintf("udp %s %d %s", sp.vip, sp.port, list), " "))
	if sp.nodePort != 0 {
		r.Note(strings.TrimRight(fmt.Sprintf("udp node %d %s", sp.nodePort, list), " "))
	}
}
