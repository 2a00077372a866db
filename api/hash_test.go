package api

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestServiceHash(t *testing.T) {
	t.Parallel()
	work := func(change func(w *ServiceWork)) *ServiceWork {
		w := &ServiceWork{
			Service: &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "web"},
				Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Port: 80}}, Selector: map[string]string{"app": "web"}},
			},
			Endpoints: []EndpointLink{{Node: "a1", Ports: map[string]int32{"": 8080}}, {Node: "a2", Ports: map[string]int32{"": 8080}}},
		}
		if change != nil {
			change(w)
		}
		return w
	}
	ips := []string{"10.244.0.2", "10.244.1.2"}
	base := ServiceHash(work(nil), ips)
	tests := []struct {
		name string
		work *ServiceWork
		ips  []string
		same bool
	}{
		{"again", work(nil), ips, true},
		{"endpoints in another order", work(func(w *ServiceWork) { w.Endpoints[0], w.Endpoints[1] = w.Endpoints[1], w.Endpoints[0] }), []string{ips[1], ips[0]}, true},
		{"selector", work(func(w *ServiceWork) { w.Service.Spec.Selector = nil }), ips, true},
		{"annotation", work(func(w *ServiceWork) { w.Service.Annotations = map[string]string{"a": "b"} }), ips, true},
		{"endpoint without address", work(func(w *ServiceWork) { w.Endpoints = append(w.Endpoints, EndpointLink{Node: "a3"}) }), append(ips[:2:2], ""), true},
		{"address", work(nil), []string{"10.244.0.3", "10.244.1.2"}, false},
		{"node of an endpoint", work(func(w *ServiceWork) { w.Endpoints[0].Node = "a9" }), ips, false},
		{"port of an endpoint", work(func(w *ServiceWork) { w.Endpoints[0].Ports[""] = 81 }), ips, false},
		{"service port", work(func(w *ServiceWork) { w.Service.Spec.Ports[0].Port = 81 }), ips, false},
		{"name", work(func(w *ServiceWork) { w.Service.Name = "front" }), ips, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := ServiceHash(tt.work, tt.ips) == base; got != tt.same {
				t.Errorf("same hash: %v, want %v", got, tt.same)
			}
		})
	}
}

func TestNetworkHash(t *testing.T) {
	t.Parallel()
	a := &NodeNetwork{Mode: "vxlan", PodCIDR: "10.244.0.0/24", Peers: []Peer{{Name: "a2"}}}
	b := &NodeNetwork{Mode: "vxlan", PodCIDR: "10.244.0.0/24", Peers: []Peer{{Name: "a3"}}}
	if NetworkHash(a) == NetworkHash(b) {
		t.Error("another peer, the same hash")
	}
}
