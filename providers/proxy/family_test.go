package proxy_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/providers"
	"berth.dev/berth/providers/proxy"
)

// The rules of a family know only its addresses, and have the shape of the other's.
func TestRenderFamilies(t *testing.T) {
	t.Parallel()
	dual := func(s *corev1.Service) {
		balanced(s)
		s.Spec.ClusterIPs = []string{"10.96.0.10", "fd00:10:96::a"}
		s.Spec.ExternalIPs = []string{"198.51.100.7", "2001:db8::0:7"}
		s.Spec.LoadBalancerSourceRanges = []string{"10.0.0.0/8", "2001:db8::/32"}
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	ends := []providers.Endpoint{
		{Node: "n1", IP: "10.244.1.5", SecondIP: "fd00:10:244:1::5"},
		{Node: "n2", IP: "10.244.2.7"}, // made before the cluster had two families
		{Node: "n2", IP: "10.244.2.8", SecondIP: "fd00:10:244:2::8"},
	}
	six := proxy.On{Node: "n1", IP: "fd00:10::11", PodCIDR: "fd00:10:244::/56", Family: corev1.IPv6Protocol}
	for _, tt := range []struct {
		name   string
		change func(*corev1.Service)
		ends   []providers.Endpoint
		on     proxy.On
	}{
		{"dual-four", dual, ends, proxy.On{Node: "n1", IP: "10.0.0.11", PodCIDR: podCIDR, Family: corev1.IPv4Protocol}},
		{"dual-six", dual, ends, six},
		{"dual-six-no-endpoints", dual, nil, six},
		{"dual-six-balanced", func(s *corev1.Service) { dual(s); s.Spec.LoadBalancerIP = "192.0.2.10,fd00:10::10" }, ends, six},
		{"dual-six-closed", func(s *corev1.Service) {
			dual(s)
			s.Spec.LoadBalancerIP, s.Spec.LoadBalancerSourceRanges = "192.0.2.10,fd00:10::10", []string{"10.0.0.0/8"}
		}, ends[:1], six},
		{"six", func(s *corev1.Service) {
			s.Spec.ClusterIP = "fd00:10:96::a"
			s.Spec.Ports[0].Protocol = corev1.ProtocolUDP
		}, ends, six},
		{"four-for-six", nil, ends, six},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _ := work(service(tt.change), make([]string, len(tt.ends))...)
			list := append([]providers.Endpoint{}, tt.ends...)
			for i := range list {
				list[i].Ports = map[string]int32{"": 8080}
				w.Endpoints[i].Ports, w.Endpoints[i].Node = list[i].Ports, list[i].Node
			}
			r, err := proxy.Render(w, list, tt.on)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name, r.Text())
		})
	}
}
