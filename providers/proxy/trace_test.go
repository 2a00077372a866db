package proxy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/providers/proxy"
)

// TestFollow walks through rules as Render writes them.
func TestFollow(t *testing.T) {
	t.Parallel()
	ends := []string{"10.244.1.5@n1", "10.244.2.7@n2", "10.244.2.30@n2"}
	for _, tt := range []struct {
		name   string
		change func(*corev1.Service)
		ends   []string
		from   string
		to     string
		port   uint16
		want   string
	}{
		{"cluster IP", nil, ends, "10.244.1.9", "10.96.0.10", 80, "10.244.1.5:8080 0.33, 10.244.2.7:8080 0.33, 10.244.2.30:8080 0.33"},
		{"itself", nil, ends[:1], "10.244.1.5", "10.96.0.10", 80, "10.244.1.5:8080 1.00 masqueraded"},
		{"itself or another", nil, ends[:2], "10.244.1.5", "10.96.0.10", 80, "10.244.1.5:8080 0.50 masqueraded, 10.244.2.7:8080 0.50"},
		{"another port", nil, ends, "10.244.1.9", "10.96.0.10", 81, ""},
		{"nobody", nil, nil, "10.244.1.9", "10.96.0.10", 80, "REJECT"},
		{"node port", nodePort, ends[:1], "10.244.1.9", "10.90.1.11", 30080, "10.244.1.5:8080 1.00 masqueraded"},
		{"sticky", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }, ends[:2], "10.244.1.9", "10.96.0.10", 80, "10.244.1.5:8080 0.50, 10.244.2.7:8080 0.50"},
		{"not for this source", func(s *corev1.Service) { balanced(s); s.Spec.LoadBalancerSourceRanges = []string{"203.0.113.0/24"} }, ends, "10.244.1.9", "192.0.2.10", 80, "DROP"},
		{"no pod here", func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal) }, ends[1:], "10.244.1.9", "10.96.0.10", 80, "DROP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, list := work(service(tt.change), tt.ends...)
			r, err := proxy.Render(w, list, proxy.On{Node: "n1", IP: "10.90.1.11", PodCIDR: podCIDR})
			if err != nil {
				t.Fatal(err)
			}
			tr := proxy.Follow("here 10.90.1.11\n"+r.Text(), proxy.Packet{From: netip.MustParseAddr(tt.from), To: netip.MustParseAddr(tt.to), Port: tt.port, Protocol: "tcp"})
			var got []string
			for _, e := range tr.Ends {
				text := fmt.Sprintf("%s %.2f", e.To, e.Chance)
				if e.Masquerade {
					text += " masqueraded"
				}
				got = append(got, text)
			}
			if tr.Verdict != "" {
				got = append(got, tr.Verdict)
			}
			if d := gocmp.Diff(tt.want, strings.Join(got, ", ")); d != "" {
				t.Errorf("(-want +got):\n%s\n%+v", d, tr)
			}
		})
	}
}
