package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// AddressRange is a range of IPv4 addresses with both ends.
type AddressRange struct{ First, Last netip.Addr }

// Contains reports whether an address lies in the range.
func (r AddressRange) Contains(ip netip.Addr) bool {
	return r.First.Compare(ip) <= 0 && ip.Compare(r.Last) <= 0
}

// Overlaps reports whether two ranges have an address in common.
func (r AddressRange) Overlaps(o AddressRange) bool {
	return r.First.Compare(o.Last) <= 0 && o.First.Compare(r.Last) <= 0
}

func (r AddressRange) size() uint32 { return number4(r.Last) - number4(r.First) + 1 }
func (r AddressRange) at(i uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], number4(r.First)+i)
	return netip.AddrFrom4(b)
}

func number4(ip netip.Addr) uint32 { return binary.BigEndian.Uint32(ip.AsSlice()) }

// ParseAddressRange reads "192.0.2.1", "192.0.2.10-192.0.2.20" or "192.0.2.32/28". A network means all its addresses. The errors are those of
// somebody who typed it.
func ParseAddressRange(s string) (AddressRange, error) {
	bad := fmt.Errorf("%q is not an IPv4 address, a range such as 192.0.2.10-192.0.2.20, or a network such as 192.0.2.32/28", s)
	if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() {
		if p != p.Masked() {
			return AddressRange{}, fmt.Errorf("%s has bits set beyond its prefix; write %s", s, p.Masked())
		}
		if p.Bits() < 16 {
			return AddressRange{}, fmt.Errorf("%s is too large for a pool; write /16 or longer", s)
		}
		last := AddressRange{First: p.Addr()}.at(1<<(32-p.Bits()) - 1)
		return AddressRange{p.Addr(), last}, nil
	}
	from, to, both := strings.Cut(s, "-")
	if !both {
		to = from
	}
	first, err1 := netip.ParseAddr(strings.TrimSpace(from))
	last, err2 := netip.ParseAddr(strings.TrimSpace(to))
	if err1 != nil || err2 != nil || !first.Is4() || !last.Is4() {
		return AddressRange{}, bad
	}
	r := AddressRange{first, last}
	if last.Less(first) {
		return AddressRange{}, fmt.Errorf("%s ends before it begins", s)
	}
	if r.size() > 1<<16 {
		return AddressRange{}, fmt.Errorf("%s is too large for a pool: it can hold 65536 addresses at most", s)
	}
	return r, nil
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
	if !slices.Contains(families, corev1.IPv4Protocol) {
		return &AllocationError{"spec.type", errors.New("load_balancer pools are IPv4, and the service is IPv6 only: give it both families, or use a NodePort")}
	}
	if len(pools) == 0 {
		return &AllocationError{"spec.type", errors.New(
			`a service of type LoadBalancer takes its address from a pool, and the cluster has none: write berth { cluster { load_balancer "pool" { addresses = [...] } } }`)}
	}
	if text := svc.Spec.LoadBalancerIP; text != "" {
		ip, err := netip.ParseAddr(text)
		switch owner := a.claimed.lbs[ip]; {
		case err != nil || !contains(pools, ip):
			return &AllocationError{"spec.loadBalancerIP", fmt.Errorf("loadBalancerIP %s: provided IP is in no pool that the service may use", text)}
		case owner != "" && owner != id:
			return &AllocationError{"spec.loadBalancerIP", fmt.Errorf("loadBalancerIP %s: provided IP is already allocated (service %s has it)", text, owner)}
		}
		a.claimed.lbs[ip] = id
		return nil
	}
	ip, ok := a.freeLB(id, pools)
	if !ok {
		return &AllocationError{"spec.type", fmt.Errorf("no address is left in the load_balancer pools that the service may use")}
	}
	a.claimed.lbs[ip] = id
	svc.Spec.LoadBalancerIP = ip.String()
	return nil
}

// freeLB is the address that a service has, or one that its name decides in the first pool with room.
func (a *Allocations) freeLB(id string, pools []pool) (netip.Addr, bool) {
	if old := a.prior[id]; old != nil {
		if ip, err := netip.ParseAddr(old.Spec.LoadBalancerIP); err == nil && contains(pools, ip) && a.claimed.lbs[ip] == "" {
			return ip, true
		}
	}
	for _, p := range pools {
		var n uint32
		for _, r := range p.ranges {
			n += r.size()
		}
		start := hash32(id) % n
		for i := range n {
			ip := p.at((start + i) % n)
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

func (p pool) at(i uint32) netip.Addr {
	for _, r := range p.ranges {
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
