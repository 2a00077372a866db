package api

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What Kubernetes makes of policies, families and addresses, in clusters of one family and of two.
func TestServiceFamilies(t *testing.T) {
	t.Parallel()
	four := DefaultCluster
	dual := DefaultCluster
	dual.SecondPodCIDR, dual.SecondServiceCIDR = "fd00:10:244::/56", "fd00:10:96::/108"
	six := DefaultCluster
	six.PodCIDR, six.ServiceCIDR = "fd00:10:244::/56", "fd00:10:96::/108"
	single, prefer, require := corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack
	v4, v6 := corev1.IPv4Protocol, corev1.IPv6Protocol
	selector := map[string]string{"app": "web"}
	for _, tt := range []struct {
		name    string
		cluster Cluster
		spec    corev1.ServiceSpec
		want    string // families with blanks between, or part of the error
	}{
		{"default", four, corev1.ServiceSpec{Selector: selector}, "IPv4"},
		{"default of dual", dual, corev1.ServiceSpec{Selector: selector}, "IPv4"},
		{"default of IPv6", six, corev1.ServiceSpec{Selector: selector}, "IPv6"},
		{"single", dual, corev1.ServiceSpec{Selector: selector, IPFamilyPolicy: &single}, "IPv4"},
		{"single of the other", dual, corev1.ServiceSpec{Selector: selector, IPFamilies: []corev1.IPFamily{v6}}, "IPv6"},
		{"prefer", dual, corev1.ServiceSpec{Selector: selector, IPFamilyPolicy: &prefer}, "IPv4 IPv6"},
		{"prefer of one", four, corev1.ServiceSpec{Selector: selector, IPFamilyPolicy: &prefer}, "IPv4"},
		{"prefer the other first", dual, corev1.ServiceSpec{Selector: selector, IPFamilyPolicy: &prefer, IPFamilies: []corev1.IPFamily{v6}}, "IPv6 IPv4"},
		{"require", dual, corev1.ServiceSpec{Selector: selector, IPFamilyPolicy: &require}, "IPv4 IPv6"},
		{"require of one", four, corev1.ServiceSpec{Selector: selector, IPFamilyPolicy: &require}, "this cluster is not configured for dual-stack services"},
		{"family that is not there", four, corev1.ServiceSpec{Selector: selector, IPFamilies: []corev1.IPFamily{v6}}, `ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`},
		{"two without policy", dual, corev1.ServiceSpec{Selector: selector, IPFamilies: []corev1.IPFamily{v4, v6}}, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"},
		{"two addresses without policy", dual, corev1.ServiceSpec{Selector: selector, ClusterIPs: []string{"10.96.0.20", "fd00:10:96::20"}}, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"},
		{"two addresses", dual, corev1.ServiceSpec{Selector: selector, ClusterIPs: []string{"fd00:10:96::20", "10.96.0.20"}, IPFamilyPolicy: &require}, "IPv6 IPv4"},
		{"address of the other", dual, corev1.ServiceSpec{Selector: selector, ClusterIP: "fd00:10:96::20"}, "IPv6"},
		{"address that is not there", four, corev1.ServiceSpec{Selector: selector, ClusterIP: "fd00:10:96::20"}, "IPv6 is not configured on this cluster"},
		{"headless", dual, corev1.ServiceSpec{Selector: selector, ClusterIP: "None"}, "IPv4"},
		{"headless prefer", dual, corev1.ServiceSpec{Selector: selector, ClusterIP: "None", IPFamilyPolicy: &prefer}, "IPv4 IPv6"},
		{"headless without selector", four, corev1.ServiceSpec{ClusterIP: "None"}, "IPv4 IPv6"},
		{"balanced without IPv4", six, corev1.ServiceSpec{Selector: selector, Type: corev1.ServiceTypeLoadBalancer}, "the cluster has none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
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
			var got []string
			for _, f := range ServiceFamilies(svc, &tt.cluster) {
				got = append(got, string(f))
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %v, want %s", got, tt.want)
			}
			for i, ip := range ClusterIPs(svc) {
				if string(FamilyOf(ip)) != got[i] {
					t.Errorf("address %d is %s", i, ip)
				}
			}
			// The same again with what was given out: nothing moves.
			b, err := NewAllocations(tt.cluster, &State{Objects: []*Object{{Address: Address{Kind: KindService, Name: "web"}, Value: svc}}})
			if err != nil {
				t.Fatal(err)
			}
			again := &corev1.Service{ObjectMeta: svc.ObjectMeta, Spec: tt.spec}
			if err := b.Complete(again); err != nil {
				t.Fatal(err)
			}
			if x, y := strings.Join(ClusterIPs(svc), " "), strings.Join(ClusterIPs(again), " "); x != y {
				t.Errorf("the addresses %s become %s", x, y)
			}
		})
	}
}

// A state that nothing was applied to has no ranges, and its services no families.
func TestServiceFamiliesOfNoCluster(t *testing.T) {
	t.Parallel()
	if got := ServiceFamilies(&corev1.Service{}, &Cluster{}); len(got) != 0 {
		t.Errorf("they are %v", got)
	}
}
