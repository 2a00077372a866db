package api

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestParseAddressRange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text, want string // first, last and size, or part of the error
		size       uint32
	}{
		{"192.0.2.1", "192.0.2.1 192.0.2.1", 1},
		{"192.0.2.10-192.0.2.20", "192.0.2.10 192.0.2.20", 11},
		{"192.0.2.32/28", "192.0.2.32 192.0.2.47", 16},
		{"198.51.0.0/16", "198.51.0.0 198.51.255.255", 65536},
		{"fd00:10::1", "fd00:10::1 fd00:10::1", 1},
		{"fd00:10::f0 - fd00:10::1:f", "fd00:10::f0 fd00:10::1:f", 65312},
		{"fd00:10:0:1::/120", "fd00:10:0:1:: fd00:10:0:1::ff", 256},
		{"fd00:10::ffff:ffff:ffff:fff0-fd00:10:0:1::f", "fd00:10::ffff:ffff:ffff:fff0 fd00:10:0:1::f", 32},
		{"fd00:10::/112", "fd00:10:: fd00:10::ffff", 65536},
		{"fd00:10::/64", "write /112 or longer", 0},
		{"10.0.0.0/8", "write /16 or longer", 0},
		{"fd00:10::1/120", "write fd00:10::/120", 0},
		{"fd00:10::2-fd00:10::1", "ends before it begins", 0},
		{"fd00:10::-fd00:11::", "it can hold 65536 addresses at most", 0},
		{"fd00:10::-fd00:10::1:0", "it can hold 65536 addresses at most", 0},
		{"0.0.0.0-255.255.255.255", "it can hold 65536 addresses at most", 0},
		{"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "it can hold 65536 addresses at most", 0},
		{"192.0.2.1-fd00:10::1", "is not an address", 0},
		{"::ffff:192.0.2.1", "is not an address", 0},
		{"fe80::1%eth0", "is not an address", 0},
		{"x", "is not an address", 0},
	} {
		r, err := ParseAddressRange(tt.text)
		switch {
		case err != nil && (tt.size > 0 || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %s", tt.text, err, tt.want)
		case err == nil && (r.First.String()+" "+r.Last.String() != tt.want || r.size() != tt.size || r.at(r.size()-1) != r.Last):
			t.Errorf("%s: %s %s with %d addresses, want %s with %d", tt.text, r.First, r.Last, r.size(), tt.want, tt.size)
		}
	}
}

// A service has an address of each of its families that the pools have, and keeps them.
func TestLoadBalancerFamilies(t *testing.T) {
	t.Parallel()
	dual := DefaultCluster
	dual.SecondPodCIDR, dual.SecondServiceCIDR = "fd00:10:244::/56", "fd00:10:96::/108"
	six := DefaultCluster
	six.PodCIDR, six.ServiceCIDR = dual.SecondPodCIDR, dual.SecondServiceCIDR
	prefer := corev1.IPFamilyPolicyPreferDualStack
	v6 := []corev1.IPFamily{corev1.IPv6Protocol}
	for _, tt := range []struct {
		name      string
		cluster   Cluster
		addresses []string
		spec      corev1.ServiceSpec
		want      string
	}{
		{"one family", dual, []string{"192.0.2.1", "fd00:10::1"}, corev1.ServiceSpec{}, "192.0.2.1"},
		{"the other", dual, []string{"192.0.2.1", "fd00:10::1"}, corev1.ServiceSpec{IPFamilies: v6}, "fd00:10::1"},
		{"both", dual, []string{"192.0.2.1", "fd00:10::1"}, corev1.ServiceSpec{IPFamilyPolicy: &prefer}, "192.0.2.1,fd00:10::1"},
		{"both, the other first", dual, []string{"192.0.2.1", "fd00:10::1"}, corev1.ServiceSpec{IPFamilyPolicy: &prefer, IPFamilies: v6}, "fd00:10::1,192.0.2.1"},
		{"both where the pool has one", dual, []string{"fd00:10::1"}, corev1.ServiceSpec{IPFamilyPolicy: &prefer}, "fd00:10::1"},
		{"IPv6 only", six, []string{"fd00:10::/120"}, corev1.ServiceSpec{LoadBalancerIP: "fd00:10::7"}, "fd00:10::7"},
		{"one chosen, one not", dual, []string{"192.0.2.0/30", "fd00:10::1"}, corev1.ServiceSpec{IPFamilyPolicy: &prefer, LoadBalancerIP: "192.0.2.2"}, "192.0.2.2,fd00:10::1"},
		{"both chosen", dual, []string{"192.0.2.0/30", "fd00:10::/120"}, corev1.ServiceSpec{IPFamilyPolicy: &prefer, LoadBalancerIP: "192.0.2.2,fd00:10::9"}, "192.0.2.2,fd00:10::9"},
		{"none of its family", dual, []string{"fd00:10::1"}, corev1.ServiceSpec{}, "the service has IPv4 only"},
		{"not in the pool", dual, []string{"fd00:10::1"}, corev1.ServiceSpec{IPFamilies: v6, LoadBalancerIP: "fd00:10::2"}, "loadBalancerIP fd00:10::2: provided IP is in no pool"},
		{"not of its family", dual, []string{"192.0.2.1", "fd00:10::1"}, corev1.ServiceSpec{LoadBalancerIP: "fd00:10::1"}, "loadBalancerIP fd00:10::1: the service has no IPv6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.cluster.LoadBalancers = []LoadBalancerPool{{Name: "p", Addresses: tt.addresses}}
			tt.spec.Type, tt.spec.Selector = corev1.ServiceTypeLoadBalancer, map[string]string{"app": "web"}
			a, err := NewAllocations(tt.cluster, nil)
			if err != nil {
				t.Fatal(err)
			}
			svc := &corev1.Service{Spec: tt.spec}
			svc.Namespace, svc.Name = "default", "web"
			if err := a.Complete(svc); err != nil {
				if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				return
			}
			if svc.Spec.LoadBalancerIP != tt.want {
				t.Errorf("got %s, want %s", svc.Spec.LoadBalancerIP, tt.want)
			}
			// Another one takes none of them, and the same one keeps them.
			b, err := NewAllocations(tt.cluster, &State{Objects: []*Object{{Address: Address{Kind: KindService, Name: "web"}, Value: svc}}})
			if err != nil {
				t.Fatal(err)
			}
			other, again := &corev1.Service{Spec: tt.spec}, &corev1.Service{ObjectMeta: svc.ObjectMeta, Spec: tt.spec}
			other.Namespace, other.Name, other.Spec.LoadBalancerIP = "default", "other", ""
			if err := b.Complete(other); err == nil && len(LoadBalancerIPs(other)) > 0 {
				for _, ip := range LoadBalancerIPs(other) {
					if strings.Contains(","+tt.want+",", ","+ip+",") {
						t.Errorf("another service gets %s, too", ip)
					}
				}
			}
			if err := b.Complete(again); err != nil || again.Spec.LoadBalancerIP != tt.want {
				t.Errorf("again %s, %v", again.Spec.LoadBalancerIP, err)
			}
		})
	}
}
