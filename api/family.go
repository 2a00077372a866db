package api

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// A cluster has one family of addresses or two. As in Kubernetes, the first one is the primary: it is that of the pods' own address
// (status.podIP), of services that do not say more, and of cluster DNS.

// FamilyOf returns the family of an address or a range; "" for what is neither, for one with a zone, and for an IPv4 address written as IPv6.
func FamilyOf(text string) corev1.IPFamily {
	a, err := netip.ParseAddr(text)
	if err != nil {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return ""
		}
		a = p.Addr()
	}
	switch {
	case a.Is4():
		return corev1.IPv4Protocol
	case a.Is4In6() || a.Zone() != "":
		return ""
	}
	return corev1.IPv6Protocol
}

// OtherFamily returns the one of the two that is not f.
func OtherFamily(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv6Protocol {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// OfFamily returns the first of some addresses or ranges that is of a family; "" when none is.
func OfFamily(f corev1.IPFamily, texts ...string) string {
	for _, t := range texts {
		if t != "" && FamilyOf(t) == f {
			return t
		}
	}
	return ""
}

// both drops what is empty.
func both(first, second string) []string {
	return slices.DeleteFunc([]string{first, second}, func(s string) bool { return s == "" })
}

// JoinIPs writes the addresses of one endpoint as one text, with a comma between two.
func JoinIPs(first, second string) string { return strings.Join(both(first, second), ",") }

// PodCIDRs are the cluster's pod ranges, the primary first.
func (c *Cluster) PodCIDRs() []string { return both(c.PodCIDR, c.SecondPodCIDR) }

// ServiceCIDRs are the cluster's service ranges, the primary first.
func (c *Cluster) ServiceCIDRs() []string { return both(c.ServiceCIDR, c.SecondServiceCIDR) }

// Families are those of the cluster, the primary first.
func (c *Cluster) Families() []corev1.IPFamily {
	out := []corev1.IPFamily{}
	for _, r := range c.PodCIDRs() {
		out = append(out, FamilyOf(r))
	}
	return out
}

// PrimaryFirst puts the addresses of one pod or host, of whatever order, into the cluster's: one of each of its families. What has none of
// the primary family keeps its first one.
func (c *Cluster) PrimaryFirst(ips ...string) (first, second string) {
	families := c.Families()
	if len(families) > 0 {
		first = OfFamily(families[0], ips...)
	}
	if len(families) > 1 {
		second = OfFamily(families[1], ips...)
	}
	if first == "" && len(ips) > 0 && ips[0] != second {
		first = ips[0]
	}
	return first, second
}

// PodCIDRs are the node's parts of the pod ranges, the primary first.
func (n *NodeState) PodCIDRs() []string { return both(n.PodCIDR, n.SecondPodCIDR) }

// IPs are the node's addresses, the primary first.
func (n *NodeState) IPs() []string { return both(n.IP, n.SecondIP) }

// IPs are the pod's addresses, the primary first.
func (p *PodState) IPs() []string { return both(p.IP, p.SecondIP) }

// ServiceFamilies are the families of a service that has been allocated, its primary first. A cluster's first family is that of services
// which do not say more; before the cluster has ranges, they have none.
func ServiceFamilies(svc *corev1.Service, c *Cluster) []corev1.IPFamily {
	if ips := ClusterIPs(svc); len(ips) > 0 {
		out := []corev1.IPFamily{}
		for _, ip := range ips {
			out = append(out, FamilyOf(ip))
		}
		return out
	}
	out := slices.Clone(svc.Spec.IPFamilies)
	if len(out) == 0 {
		families := c.Families()
		if len(families) == 0 {
			return nil
		}
		out = families[:1]
	}
	policy := svc.Spec.IPFamilyPolicy
	// A name without a selector has whatever its endpoints have, unless it says otherwise: Kubernetes' default for it is dual-stack.
	dual := policy == nil && Headless(svc) && len(svc.Spec.Selector) == 0 || policy != nil && *policy != corev1.IPFamilyPolicySingleStack
	if other := OtherFamily(out[0]); dual && len(out) == 1 && (slices.Contains(c.Families(), other) || len(svc.Spec.Selector) == 0) {
		out = append(out, other)
	}
	return out
}

// ClusterIPs are the addresses of a service, the primary first; none for a headless one and one that is a name.
func ClusterIPs(svc *corev1.Service) []string {
	if svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if len(svc.Spec.ClusterIPs) > 0 {
		return svc.Spec.ClusterIPs
	}
	return []string{svc.Spec.ClusterIP}
}
