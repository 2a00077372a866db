package api

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// families are those of the cluster IPs that a service gets, its primary first: what Kubernetes' initIPFamilyFields decides, with its words
// for what cannot be. A service that says PreferDualStack gets a second address as soon as the cluster has a second range.
func (a *Allocations) families(svc *corev1.Service) ([]corev1.IPFamily, error) {
	spec := &svc.Spec
	selectorless := Headless(svc) && len(spec.Selector) == 0
	policy := corev1.IPFamilyPolicySingleStack
	switch {
	case spec.IPFamilyPolicy != nil:
		policy = *spec.IPFamilyPolicy
	case selectorless:
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	ips := slices.Clone(spec.ClusterIPs)
	if len(ips) == 0 && spec.ClusterIP != "" {
		ips = []string{spec.ClusterIP}
	}
	if policy == corev1.IPFamilyPolicySingleStack {
		for _, many := range []struct {
			what string
			n    int
		}{{"cluster IPs", len(ips)}, {"IP families", len(spec.IPFamilies)}} {
			if many.n > 1 {
				return nil, familyError("spec.ipFamilyPolicy", "ipFamilyPolicy: Invalid value: %q: must be 'RequireDualStack' or 'PreferDualStack' when multiple %s are specified", policy, many.what)
			}
		}
	}
	out := slices.Clone(spec.IPFamilies)
	for i, ip := range ips {
		f := FamilyOf(ip)
		if ip == corev1.ClusterIPNone || f == "" {
			break
		}
		switch {
		case i < len(out) && out[i] != f:
			return nil, familyError("spec.ipFamilies", "clusterIPs[%d]: Invalid value: %q: expected an %s value as indicated by `ipFamilies[%d]`", i, ip, out[i], i)
		case i >= len(out) && !a.nets[f].IsValid():
			return nil, familyError(pathOfIP(spec, i), "clusterIPs[%d]: Invalid value: %q: %s is not configured on this cluster", i, ip, f)
		case i >= len(out):
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		out = []corev1.IPFamily{a.order[0]}
	}
	if !selectorless {
		if policy == corev1.IPFamilyPolicyRequireDualStack && len(a.order) < 2 {
			return nil, familyError("spec.ipFamilyPolicy", "ipFamilyPolicy: Invalid value: %q: this cluster is not configured for dual-stack services (it is with two ranges each in pod_cidrs and service_cidrs)", policy)
		}
		for i, f := range out {
			if !a.nets[f].IsValid() {
				return nil, familyError("spec.ipFamilies", "ipFamilies[%d]: Invalid value: %q: not configured on this cluster", i, f)
			}
		}
	}
	if other := OtherFamily(out[0]); policy != corev1.IPFamilyPolicySingleStack && len(out) == 1 && (selectorless || a.nets[other].IsValid()) {
		out = append(out, other)
	}
	return out, nil
}

// familiesOf are those of a service that has its addresses.
func (a *Allocations) familiesOf(svc *corev1.Service) []corev1.IPFamily {
	var out []corev1.IPFamily
	for _, ip := range ClusterIPs(svc) {
		out = append(out, FamilyOf(ip))
	}
	return out
}

func pathOfIP(spec *corev1.ServiceSpec, i int) string {
	if len(spec.ClusterIPs) == 0 {
		return "spec.clusterIP"
	}
	return fmt.Sprintf("spec.clusterIPs[%d]", i)
}

func familyError(path, format string, args ...any) error {
	return &AllocationError{path, fmt.Errorf(format, args...)}
}

// clusterIPs gives a service an address of each of its families.
func (a *Allocations) clusterIPs(id string, svc *corev1.Service) error {
	if len(svc.Spec.ClusterIPs) > 0 && svc.Spec.ClusterIP == "" {
		svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	}
	families, err := a.families(svc)
	if err != nil || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return err
	}
	wanted := svc.Spec.ClusterIPs
	if len(wanted) == 0 && svc.Spec.ClusterIP != "" {
		wanted = []string{svc.Spec.ClusterIP}
	}
	ips := make([]string, len(families))
	copy(ips, wanted)
	for i, f := range families {
		if ips[i], err = a.clusterIP(id, f, ips[i]); err != nil {
			return &AllocationError{pathOfIP(&svc.Spec, i), err}
		}
	}
	svc.Spec.ClusterIP = ips[0]
	if len(ips) > 1 || len(svc.Spec.ClusterIPs) > 0 {
		svc.Spec.ClusterIPs = ips
	}
	return nil
}

// clusterIP claims the address that is wanted, or chooses one.
func (a *Allocations) clusterIP(id string, f corev1.IPFamily, wanted string) (string, error) {
	net := a.nets[f]
	if wanted != "" {
		ip, err := netip.ParseAddr(wanted)
		if err != nil || !net.Contains(ip) {
			return "", fmt.Errorf("clusterIP %s: provided IP is not in the valid range. The range of valid IPs is %s", wanted, net)
		}
		if owner, taken := a.claimed.ips[ip]; taken && owner != id {
			return "", fmt.Errorf("clusterIP %s: provided IP is already allocated (service %s has it)", wanted, owner)
		}
		a.claimed.ips[ip] = id
		return ip.String(), nil
	}
	if old := a.prior[id]; old != nil {
		if ip, err := netip.ParseAddr(OfFamily(f, ClusterIPs(old)...)); err == nil && net.Contains(ip) && a.claimed.ips[ip] == "" {
			a.claimed.ips[ip] = id
			return ip.String(), nil
		}
	}
	ip, err := a.probeIP(id, net)
	if err != nil {
		return "", err
	}
	a.claimed.ips[ip] = id
	return ip.String(), nil
}

// maxServiceBits bounds how much of a range is chosen from: 2^31 addresses, the first ones.
const maxServiceBits = 31

// probeIP searches the upper band from a start that the name decides, then the static band.
func (a *Allocations) probeIP(id string, net netip.Prefix) (netip.Addr, error) {
	size := uint32(1) << min(net.Addr().BitLen()-net.Bits(), maxServiceBits)
	if size < 4 {
		return netip.Addr{}, fmt.Errorf("service_cidr %s is too small", net)
	}
	first, last := uint32(2), size-2 // .1 is reserved, network and broadcast are unused
	band := min(max(16, size/16), 256)
	if band > last {
		band = first
	}
	n := last - band + 1
	start := hash32(id) % n
	for i := range n {
		if ip := offset(net.Addr(), band+(start+i)%n); a.freeIP(ip, id) {
			return ip, nil
		}
	}
	for off := first; off < band; off++ {
		if ip := offset(net.Addr(), off); a.freeIP(ip, id) {
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no cluster IP is left in %s", net)
}

// offset is the n-th address after the first of a range, which has at least as many zero bits at its end.
func offset(base netip.Addr, n uint32) netip.Addr {
	b := base.AsSlice()
	tail := b[len(b)-4:]
	binary.BigEndian.PutUint32(tail, binary.BigEndian.Uint32(tail)+n)
	ip, _ := netip.AddrFromSlice(b)
	return ip
}
