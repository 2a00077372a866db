package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// AddressRange is a range of addresses of one family with both ends.
type AddressRange struct{ First, Last netip.Addr }

// Contains reports whether an address lies in the range.
func (r AddressRange) Contains(ip netip.Addr) bool {
	return r.First.Compare(ip) <= 0 && ip.Compare(r.Last) <= 0
}

// Overlaps reports whether two ranges have an address in common.
func (r AddressRange) Overlaps(o AddressRange) bool {
	return r.First.Compare(o.Last) <= 0 && o.First.Compare(r.Last) <= 0
}

// Family is that of the addresses.
func (r AddressRange) Family() corev1.IPFamily { return FamilyOf(r.First.String()) }

// maxRange is how many addresses a range of a pool may have: those of a /16, or of IPv6 a /112.
const maxRange = 1 << 16

// size is at most maxRange of ranges that were read; a larger number of a larger range.
func (r AddressRange) size() uint32 {
	high1, low1 := numbers(r.First)
	high2, low2 := numbers(r.Last)
	low, borrow := bits.Sub64(low2, low1, 0)
	if high, _ := bits.Sub64(high2, high1, borrow); high > 0 || low > maxRange {
		return maxRange + 1
	}
	return uint32(low) + 1
}

func (r AddressRange) at(i uint32) netip.Addr {
	high, low := numbers(r.First)
	low, carry := bits.Add64(low, uint64(i), 0)
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], high+carry)
	binary.BigEndian.PutUint64(b[8:], low)
	if r.First.Is4() {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16(b)
}

// numbers are the halves of an address as a number.
func numbers(ip netip.Addr) (high, low uint64) {
	if ip.Is4() {
		return 0, uint64(binary.BigEndian.Uint32(ip.AsSlice()))
	}
	b := ip.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// ParseAddressRange reads "192.0.2.1", "192.0.2.10-192.0.2.20" or "192.0.2.32/28", and the same of IPv6. A network means all its addresses. The errors
// are those of somebody who typed it.
func ParseAddressRange(s string) (AddressRange, error) {
	bad := fmt.Errorf("%q is not an address, a range such as 192.0.2.10-192.0.2.20, or a network such as 192.0.2.32/28 or fd00:10::/120", s)
	if p, err := netip.ParsePrefix(s); err == nil && FamilyOf(s) != "" {
		longest := p.Addr().BitLen()
		if p != p.Masked() {
			return AddressRange{}, fmt.Errorf("%s has bits set beyond its prefix; write %s", s, p.Masked())
		}
		if longest-p.Bits() > 16 {
			return AddressRange{}, fmt.Errorf("%s is too large for a pool; write /%d or longer", s, longest-16)
		}
		return AddressRange{p.Addr(), AddressRange{First: p.Addr()}.at(1<<(longest-p.Bits()) - 1)}, nil
	}
	from, to, both := strings.Cut(s, "-")
	if !both {
		to = from
	}
	from, to = strings.TrimSpace(from), strings.TrimSpace(to)
	if f := FamilyOf(from); f == "" || f != FamilyOf(to) || strings.Contains(s, "/") {
		return AddressRange{}, bad
	}
	r := AddressRange{netip.MustParseAddr(from), netip.MustParseAddr(to)}
	if r.Last.Less(r.First) {
		return AddressRange{}, fmt.Errorf("%s ends before it begins", s)
	}
	if r.size() > maxRange {
		return AddressRange{}, fmt.Errorf("%s is too large for a pool: it can hold %d addresses at most", s, maxRange)
	}
	return r, nil
}

// LoadBalancerIPs are the addresses of a service of type LoadBalancer, that of its first family first; none before it has been allocated.
func LoadBalancerIPs(svc *corev1.Service) []string {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.Spec.LoadBalancerIP == "" {
		return nil
	}
	return strings.Split(svc.Spec.LoadBalancerIP, ",")
}

// loadBalancer gives a service of type LoadBalancer its address.
func (a *Allocations) loadBalancer(id string, svc *corev1.Service, families []corev1.IPFamily) error {
	pools := a.pools
	if class := svc.Spec.LoadBalancerClass; class != nil {
		pools = nil
		for _, p := range a.pools {
			if p.Name == *class {
				pools = []pool{p}
			}
		}
		if pools == nil {
			return &AllocationError{"spec.loadBalancerClass", fmt.Errorf("the cluster has no load_balancer pool %q", *class)}
		}
	}
	if len(pools) == 0 {
		return &AllocationError{"spec.type", errors.New(
			`a service of type LoadBalancer takes its address from a pool, and the cluster has none: write berth { cluster { load_balancer "pool" { addresses = [...] } } }`)}
	}
	asked := map[corev1.IPFamily]netip.Addr{}
	for _, text := range LoadBalancerIPs(svc) {
		ip, err := netip.ParseAddr(text)
		switch owner := a.claimed.lbs[ip]; {
		case err != nil || !contains(pools, ip):
			return &AllocationError{"spec.loadBalancerIP", fmt.Errorf("loadBalancerIP %s: provided IP is in no pool that the service may use", text)}
		case !slices.Contains(families, FamilyOf(text)):
			return &AllocationError{"spec.loadBalancerIP", fmt.Errorf("loadBalancerIP %s: the service has no %s", text, FamilyOf(text))}
		case owner != "" && owner != id:
			return &AllocationError{"spec.loadBalancerIP", fmt.Errorf("loadBalancerIP %s: provided IP is already allocated (service %s has it)", text, owner)}
		}
		asked[FamilyOf(text)] = ip
	}
	var ips []string
	for _, f := range families {
		ip, ok := asked[f]
		if !ok && !offer(pools, f) {
			continue
		}
		if !ok {
			if ip, ok = a.freeLB(id, pools, f); !ok {
				return &AllocationError{"spec.type", fmt.Errorf("no %s address is left in the load_balancer pools that the service may use", f)}
			}
		}
		a.claimed.lbs[ip] = id
		ips = append(ips, ip.String())
	}
	if len(ips) == 0 {
		return &AllocationError{"spec.type", fmt.Errorf("the service has %s only, and no load_balancer pool that it may use has such an address: add some to a pool, or use a NodePort", families[0])}
	}
	svc.Spec.LoadBalancerIP = strings.Join(ips, ",")
	return nil
}

// offer reports whether pools have addresses of a family.
func offer(pools []pool, f corev1.IPFamily) bool {
	return slices.ContainsFunc(pools, func(p pool) bool { return p.size(f) > 0 })
}

// freeLB is the address of a family that a service has, or one that its name decides in the first pool with room.
func (a *Allocations) freeLB(id string, pools []pool, f corev1.IPFamily) (netip.Addr, bool) {
	if old := a.prior[id]; old != nil {
		if ip, err := netip.ParseAddr(OfFamily(f, LoadBalancerIPs(old)...)); err == nil && contains(pools, ip) && a.claimed.lbs[ip] == "" {
			return ip, true
		}
	}
	for _, p := range pools {
		n := p.size(f)
		if n == 0 {
			continue
		}
		start := hash32(id) % n
		for i := range n {
			ip := p.at(f, (start+i)%n)
			if h := a.held.lbs[ip]; a.claimed.lbs[ip] == "" && (h == "" || h == id) {
				return ip, true
			}
		}
	}
	return netip.Addr{}, false
}

// pool is a pool of the cluster, read.
type pool struct {
	LoadBalancerPool
	ranges []AddressRange
}

// size is how many addresses of a family the pool has.
func (p pool) size(f corev1.IPFamily) uint32 {
	var n uint32
	for _, r := range p.ranges {
		if r.Family() == f {
			n += r.size()
		}
	}
	return n
}

func (p pool) at(f corev1.IPFamily, i uint32) netip.Addr {
	for _, r := range p.ranges {
		if r.Family() != f {
			continue
		}
		if i < r.size() {
			return r.at(i)
		}
		i -= r.size()
	}
	return netip.Addr{}
}

func contains(pools []pool, ip netip.Addr) bool {
	for _, p := range pools {
		for _, r := range p.ranges {
			if r.Contains(ip) {
				return true
			}
		}
	}
	return false
}

func readPools(c Cluster) ([]pool, error) {
	var out []pool
	for _, p := range c.LoadBalancers {
		q := pool{LoadBalancerPool: p}
		for _, text := range p.Addresses {
			r, err := ParseAddressRange(text)
			if err != nil {
				return nil, fmt.Errorf("load_balancer %q: %w", p.Name, err)
			}
			q.ranges = append(q.ranges, r)
		}
		if len(q.ranges) == 0 {
			return nil, fmt.Errorf("load_balancer %q: a pool needs at least one address", p.Name)
		}
		out = append(out, q)
	}
	return out, nil
}
