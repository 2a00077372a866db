package api

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// DNSRecords is what cluster DNS knows of one service: names, addresses, nothing derived. Its JSON is the content of one file on every
// node, from which the node's server answers (semantics.md 4.7). Equal records have equal bytes.
type DNSRecords struct {
	Namespace    string        `json:"namespace"`
	Name         string        `json:"name"`
	ClusterIPs   []string      `json:"cluster_ips,omitempty"`   // none: headless, or another name
	ExternalName string        `json:"external_name,omitempty"` // the name that it stands for
	Ports        []DNSPort     `json:"ports,omitempty"`         // those with names, in the order of the service
	Endpoints    []DNSEndpoint `json:"endpoints,omitempty"`     // of a headless service; sorted by address, then hostname
}

// DNSPort is a named port of a service.
type DNSPort struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"` // "tcp", "udp", "sctp"
	Port     int32  `json:"port"`
}

// DNSEndpoint is a pod behind a headless service.
type DNSEndpoint struct {
	IP       string           `json:"ip"`
	Hostname string           `json:"hostname,omitempty"` // where the pod has one and the service is its subdomain; else its name follows from the address
	Ports    map[string]int32 `json:"ports,omitempty"`    // by the service port's name
}

// Key is "namespace/name".
func (r *DNSRecords) Key() string { return r.Namespace + "/" + r.Name }

// Text is the file's content: JSON without spaces.
func (r *DNSRecords) Text() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic("api: DNS records are not JSON: " + err.Error()) // our own types: cannot happen
	}
	return b
}

// Hash names the content. It is the start of the SHA-256 of Text, so that a host can tell it of its file.
func (r *DNSRecords) Hash() string { return contentHash(r) }

// DNSRecordsOf are the records of a service without endpoints.
func DNSRecordsOf(svc *corev1.Service) DNSRecords {
	r := DNSRecords{Namespace: svc.Namespace, Name: svc.Name}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		r.ExternalName = strings.ToLower(strings.TrimSuffix(svc.Spec.ExternalName, "."))
		return r
	}
	if !Headless(svc) {
		r.ClusterIPs = slices.Clone(ClusterIPs(svc))
	}
	for _, p := range svc.Spec.Ports {
		if p.Name != "" {
			r.Ports = append(r.Ports, DNSPort{p.Name, strings.ToLower(string(protocolOf(p))), p.Port})
		}
	}
	return r
}

// Headless reports whether a service has no cluster IP on purpose: it is a name for its pods and nothing else.
func Headless(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName && svc.Spec.ClusterIP == corev1.ClusterIPNone
}

// DNSWork changes what a node's DNS server knows.
type DNSWork struct {
	Put  []DNSEntry `json:"put,omitempty"`  // sorted by key
	Drop []string   `json:"drop,omitempty"` // keys, sorted
}

// DNSEntry is a service's records with links to pods instead of their addresses.
type DNSEntry struct {
	Records   DNSRecords     `json:"records"`
	Endpoints []EndpointLink `json:"endpoints,omitempty"`
	// Version, where it is not 0, is that of the endpoints in Plan.Endpoints of the service at the step's address. Then Endpoints is empty
	// until the step is carried out.
	Version int `json:"version,omitempty"`
	// Families are those of the endpoints' addresses that the name has; none for all.
	Families []corev1.IPFamily `json:"families,omitempty"`
}

// Resolve returns the records with the addresses of the entry's endpoints, in their order, as [JoinIPs] writes two. An endpoint without an
// address of the entry's families is none.
func (e *DNSEntry) Resolve(ips []string) DNSRecords {
	r := e.Records
	r.Endpoints = slices.Clone(r.Endpoints)
	for i, l := range e.Endpoints {
		for ip := range strings.SplitSeq(ips[i], ",") {
			if ip != "" && (len(e.Families) == 0 || slices.Contains(e.Families, FamilyOf(ip))) {
				r.Endpoints = append(r.Endpoints, DNSEndpoint{IP: ip, Hostname: l.Hostname, Ports: l.Ports})
			}
		}
	}
	slices.SortStableFunc(r.Endpoints, func(a, b DNSEndpoint) int {
		return cmp.Or(compareIPs(a.IP, b.IP), strings.Compare(a.Hostname, b.Hostname))
	})
	return r
}

func compareIPs(a, b string) int {
	x, err1 := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	if err1 != nil || err2 != nil {
		return strings.Compare(a, b)
	}
	return x.Compare(y)
}

// EndpointHostname is the name that a pod has behind a service: its hostname where the service is its subdomain (semantics.md 4.2).
func EndpointHostname(spec *corev1.PodSpec, service string) string {
	if spec == nil || spec.Subdomain != service {
		return ""
	}
	return strings.ToLower(spec.Hostname)
}

// WantsClusterDNS reports whether a pod asks the cluster's DNS server (semantics.md 1.16).
func WantsClusterDNS(spec *corev1.PodSpec) bool {
	switch spec.DNSPolicy {
	case corev1.DNSDefault, corev1.DNSNone:
		return false
	case corev1.DNSClusterFirstWithHostNet:
		return true
	}
	return !spec.HostNetwork
}

// ClusterDNSAddress is where cluster DNS answers in a range of service addresses: the tenth (semantics.md 4.3).
func ClusterDNSAddress(serviceCIDR string) (netip.Addr, error) {
	p, err := netip.ParsePrefix(serviceCIDR)
	if err != nil {
		return netip.Addr{}, err
	}
	a := p.Masked().Addr()
	for range 10 {
		a = a.Next()
	}
	return a, nil
}
