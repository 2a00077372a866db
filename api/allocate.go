package api

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Allocations hands out cluster IPs and node ports: those a service already has stay its own, explicit ones are
// taken as they are, the rest follow from the service's name by a hash and a linear probe, so that plans
// can show them (semantics.md 4.3). Not safe for concurrent use.
type Allocations struct {
	nets      map[corev1.IPFamily]netip.Prefix // the ranges of cluster IPs
	order     []corev1.IPFamily                // of these, the primary first
	low, high int32                            // node ports, inclusive
	pools     []pool                           // of load balancer addresses
	held      holders                          // by services of the prior state: left alone while others can be had
	claimed   holders                          // in this evaluation: taken
	prior     map[string]*corev1.Service       // "namespace/name"
	answers   bool                             // nodes have a DNS server, which answers health checks
}

// holders says which service, "namespace/name", has an address or a port.
type holders struct {
	ips   map[netip.Addr]string
	lbs   map[netip.Addr]string // load balancer addresses
	ports map[portKey]string
}

func newHolders() holders {
	return holders{map[netip.Addr]string{}, map[netip.Addr]string{}, map[portKey]string{}}
}

// AllocationError says which field of a service asks for an address or a port that cannot be given.
type AllocationError struct {
	Path string // "spec.clusterIP", or `spec.ports[http].nodePort`: by name, or by index where ports have no names
	Err  error
}

func (e *AllocationError) Error() string { return e.Err.Error() }

// Unwrap returns the error without the field.
func (e *AllocationError) Unwrap() error { return e.Err }

type portKey struct {
	port     int32
	protocol corev1.Protocol
}

// NewAllocations starts from the cluster's ranges and the services of the prior state (nil for none).
func NewAllocations(c Cluster, prior *State) (*Allocations, error) {
	nets := map[corev1.IPFamily]netip.Prefix{}
	var order []corev1.IPFamily
	for _, text := range c.ServiceCIDRs() {
		net, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("service_cidr: %w", err)
		}
		order = append(order, FamilyOf(text))
		nets[FamilyOf(text)] = net.Masked()
	}
	if len(order) == 0 {
		return nil, errors.New("service_cidr: there is none")
	}
	low, high, err := ParsePortRange(c.NodePorts)
	if err != nil {
		return nil, fmt.Errorf("node_ports: %w", err)
	}
	pools, err := readPools(c)
	if err != nil {
		return nil, err
	}
	a := &Allocations{nets, order, low, high, pools, newHolders(), newHolders(), map[string]*corev1.Service{}, c.DNS != ""}
	if ip, err := netip.ParseAddr(c.DNS); err == nil {
		a.claimed.ips[ip] = SystemNamespace + "/" + DNSServiceName
		if second, err := ClusterDNSAddress(c.SecondServiceCIDR); err == nil {
			a.claimed.ips[second] = SystemNamespace + "/" + DNSServiceName
		}
	}
	if prior == nil {
		return a, nil
	}
	for _, o := range prior.Objects {
		svc, ok := o.Value.(*corev1.Service)
		if !ok {
			continue
		}
		id := svc.Namespace + "/" + svc.Name
		a.prior[id] = svc
		for _, text := range ClusterIPs(svc) {
			if ip, err := netip.ParseAddr(text); err == nil && a.nets[FamilyOf(text)].Contains(ip) {
				a.held.ips[ip] = id
			}
		}
		for _, text := range LoadBalancerIPs(svc) {
			if ip, err := netip.ParseAddr(text); err == nil {
				a.held.lbs[ip] = id
			}
		}
		for _, p := range svc.Spec.Ports {
			if p.NodePort != 0 {
				a.held.ports[portKey{p.NodePort, protocolOf(p)}] = id
			}
		}
		if n := svc.Spec.HealthCheckNodePort; n != 0 {
			a.held.ports[portKey{n, corev1.ProtocolTCP}] = id
		}
	}
	return a, nil
}

// ParsePortRange reads "30000-32767".
func ParsePortRange(s string) (low, high int32, err error) {
	l, h, ok := strings.Cut(s, "-")
	a, err1 := strconv.ParseUint(strings.TrimSpace(l), 10, 16)
	b, err2 := strconv.ParseUint(strings.TrimSpace(h), 10, 16)
	if !ok || err1 != nil || err2 != nil || a == 0 || b < a {
		return 0, 0, fmt.Errorf("%q is not a port range such as 30000-32767", s)
	}
	return int32(a), int32(b), nil
}

func protocolOf(p corev1.ServicePort) corev1.Protocol {
	if p.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return p.Protocol
}

// Complete fills in the cluster IP, the load balancer's address and the node ports that svc needs and does not set. It returns an error
// in Kubernetes' words, an *[AllocationError], when an explicit one is taken or out of range, or none is left.
func (a *Allocations) Complete(svc *corev1.Service) error {
	id := svc.Namespace + "/" + svc.Name
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if err := a.clusterIPs(id, svc); err != nil {
		return err
	}
	if svc.Spec.Type != corev1.ServiceTypeNodePort && svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	balanced := svc.Spec.Type == corev1.ServiceTypeLoadBalancer
	if balanced {
		if err := a.loadBalancer(id, svc, a.familiesOf(svc)); err != nil {
			return err
		}
	}
	for i := range svc.Spec.Ports {
		if no := svc.Spec.AllocateLoadBalancerNodePorts; balanced && no != nil && !*no && svc.Spec.Ports[i].NodePort == 0 {
			continue
		}
		if err := a.nodePort(id, &svc.Spec.Ports[i]); err != nil {
			key := svc.Spec.Ports[i].Name
			if key == "" {
				key = strconv.Itoa(i)
			}
			return &AllocationError{"spec.ports[" + key + "].nodePort", err}
		}
	}
	if err := a.healthCheckNodePort(id, svc); err != nil {
		return &AllocationError{"spec.healthCheckNodePort", err}
	}
	return nil
}

// healthCheckNodePort gives a port to a service of whose nodes others have to know which have ready pods. It is answered by the nodes'
// DNS servers: where there are none, it has none.
func (a *Allocations) healthCheckNodePort(id string, svc *corev1.Service) error {
	if !HasHealthCheck(svc) {
		return nil
	}
	asked := corev1.ServicePort{NodePort: svc.Spec.HealthCheckNodePort, Protocol: corev1.ProtocolTCP}
	if !a.answers {
		if asked.NodePort != 0 {
			return errors.New("the nodes' DNS servers answer health checks, and the cluster block switches them off")
		}
		return nil
	}
	if old := a.prior[id]; old != nil && asked.NodePort == 0 {
		if k := (portKey{old.Spec.HealthCheckNodePort, corev1.ProtocolTCP}); k.port != 0 && a.claimed.ports[k] == "" {
			a.claimed.ports[k] = id
			svc.Spec.HealthCheckNodePort = k.port
			return nil
		}
	}
	if err := a.portByName(id, "healthCheckNodePort", "health check", &asked); err != nil {
		return err
	}
	svc.Spec.HealthCheckNodePort = asked.NodePort
	return nil
}

// HasHealthCheck reports whether a service is one of whose nodes a load balancer of others has to know which have ready pods.
func HasHealthCheck(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func (a *Allocations) freeIP(ip netip.Addr, id string) bool {
	h := a.held.ips[ip]
	return a.claimed.ips[ip] == "" && (h == "" || h == id)
}

func (a *Allocations) freePort(k portKey, id string) bool {
	h := a.held.ports[k]
	return a.claimed.ports[k] == "" && (h == "" || h == id)
}

func (a *Allocations) nodePort(id string, p *corev1.ServicePort) error {
	proto := protocolOf(*p)
	if old := a.prior[id]; old != nil && p.NodePort == 0 {
		i := slices.IndexFunc(old.Spec.Ports, func(o corev1.ServicePort) bool {
			return o.Name == p.Name && o.Port == p.Port && protocolOf(o) == proto
		})
		if i >= 0 && old.Spec.Ports[i].NodePort != 0 {
			if k := (portKey{old.Spec.Ports[i].NodePort, proto}); a.claimed.ports[k] == "" {
				a.claimed.ports[k] = id
				p.NodePort = k.port
				return nil
			}
		}
	}
	return a.portByName(id, "nodePort", p.Name, p)
}

// portByName takes the port that the field asks for, or else searches from a start that the service's name and the key decide.
func (a *Allocations) portByName(id, field, key string, p *corev1.ServicePort) error {
	proto := protocolOf(*p)
	if p.NodePort != 0 {
		if p.NodePort < a.low || p.NodePort > a.high {
			return fmt.Errorf("%s: Invalid value: %d: provided port is not in the valid range. The range of valid ports is %d-%d", field, p.NodePort, a.low, a.high)
		}
		k := portKey{p.NodePort, proto}
		if owner, taken := a.claimed.ports[k]; taken {
			return fmt.Errorf("%s: Invalid value: %d: provided port is already allocated (service %s has it)", field, p.NodePort, owner)
		}
		a.claimed.ports[k] = id
		return nil
	}
	size := uint32(a.high - a.low + 1)
	band := min(max(16, size/32), 128)
	if band >= size {
		band = 0
	}
	n := size - band
	start := hash32(id+"/"+key+string(proto)) % n
	for i := range n {
		k := portKey{a.low + int32(band+(start+i)%n), proto}
		if a.freePort(k, id) {
			a.claimed.ports[k] = id
			p.NodePort = k.port
			return nil
		}
	}
	return fmt.Errorf("no node port is left in %d-%d", a.low, a.high)
}

func hash32(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}
