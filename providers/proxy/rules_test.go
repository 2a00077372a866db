package proxy_test

import (
	"cmp"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/proxy"
)

var update = flag.Bool("update", false, "write the golden files")

const podCIDR = "10.244.0.0/16"

// service makes "default/web" with one port 80 that leads to 8080; change edits it.
func service(change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.10",
			Ports:     []corev1.ServicePort{{Port: 80}},
		},
	}
	if change != nil {
		change(s)
	}
	return s
}

// work is a step's content and its endpoints: "ip@node", "ip@node!" for one that is about to go, each with port number 8080 for every port of the service.
func work(s *corev1.Service, ends ...string) (*api.ServiceWork, []providers.Endpoint) {
	w := &api.ServiceWork{Service: s}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		w.Holder = cmp.Or(s.Labels["holder"], "n1")
	}
	var list []providers.Endpoint
	for _, e := range ends {
		e, terminating := strings.CutSuffix(e, "!")
		ip, node, _ := strings.Cut(e, "@")
		ports := map[string]int32{}
		for _, p := range s.Spec.Ports {
			ports[p.Name] = 8080
		}
		w.Endpoints = append(w.Endpoints, api.EndpointLink{Node: node, Ports: ports, Terminating: terminating})
		list = append(list, providers.Endpoint{Node: node, IP: ip, Ports: ports})
	}
	return w, list
}

func nodePort(s *corev1.Service) {
	s.Spec.Type = corev1.ServiceTypeNodePort
	s.Spec.Ports[0].NodePort = 30080
}

// balanced makes the service one with a load balancer's address, which n1 holds.
func balanced(s *corev1.Service) {
	s.Spec.Type, s.Spec.LoadBalancerIP = corev1.ServiceTypeLoadBalancer, "192.0.2.10"
	s.Spec.Ports[0].NodePort = 30080
}

// healthChecked has a port at which nodes say whether they have pods of it.
func healthChecked(s *corev1.Service) {
	balanced(s)
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	s.Spec.HealthCheckNodePort = 32100
}

func TestRender(t *testing.T) {
	t.Parallel()
	local := corev1.ServiceInternalTrafficPolicyLocal
	for _, tt := range []struct {
		name   string
		change func(*corev1.Service)
		ends   []string
	}{
		{"cluster-ip", nil, []string{"10.244.1.5@n1", "10.244.2.7@n2", "10.244.2.30@n2"}},
		{"one-endpoint", nil, []string{"10.244.1.5@n1"}},
		{"no-endpoints", nodePort, nil},
		{"node-port", nodePort, []string{"10.244.1.5@n1", "10.244.2.7@n2"}},
		{"dns", func(s *corev1.Service) {
			s.Namespace, s.Name = "kube-system", "kube-dns"
			s.Spec.Ports = []corev1.ServicePort{{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}, {Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53}}
		}, []string{"10.244.1.5@n1"}},
		{"affinity", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }, []string{"10.244.1.5@n1", "10.244.2.7@n2"}},
		{"external-local", func(s *corev1.Service) {
			nodePort(s)
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}, []string{"10.244.1.5@n1", "10.244.2.7@n2"}},
		{"external-local-none-here", func(s *corev1.Service) {
			nodePort(s)
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}, []string{"10.244.2.7@n2"}},
		{"internal-local", func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local }, []string{"10.244.1.5@n1", "10.244.2.7@n2"}},
		{"internal-local-none-here", func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local }, []string{"10.244.2.7@n2"}},
		{"headless", func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }, []string{"10.244.1.5@n1"}},
		{"sctp", func(s *corev1.Service) { nodePort(s); s.Spec.Ports[0].Protocol = corev1.ProtocolSCTP }, []string{"10.244.1.5@n1"}},
		{"external-ips", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"198.51.100.7", "198.51.100.6"} }, []string{"10.244.1.5@n1"}},
		{"external-ips-no-endpoints", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"198.51.100.7"} }, nil},
		{"load-balancer", balanced, []string{"10.244.1.5@n1", "10.244.2.7@n2"}},
		{"load-balancer-elsewhere", func(s *corev1.Service) { balanced(s); s.Labels = map[string]string{"holder": "n2"} }, []string{"10.244.1.5@n1"}},
		{"load-balancer-sources", func(s *corev1.Service) {
			balanced(s)
			s.Spec.LoadBalancerSourceRanges = []string{"10.90.1.0/24", "203.0.113.9/32"}
		}, []string{"10.244.1.5@n1"}},
		{"load-balancer-local-none-here", func(s *corev1.Service) {
			balanced(s)
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}, []string{"10.244.2.7@n2"}},
		{"health-check", healthChecked, []string{"10.244.1.5@n1", "10.244.1.5@n1", "10.244.1.6@n1", "10.244.1.7@n1!", "10.244.2.7@n2"}},
		{"health-check-none-here", healthChecked, []string{"10.244.1.7@n1!", "10.244.2.7@n2"}},
		{"terminating", nil, []string{"10.244.1.5@n1!", "10.244.2.7@n2"}},
		{"terminating-only", nil, []string{"10.244.1.5@n1!"}},
		{"terminating-local", func(s *corev1.Service) {
			nodePort(s)
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}, []string{"10.244.1.5@n1!", "10.244.2.7@n2"}},
		{"several-ports", func(s *corev1.Service) {
			nodePort(s)
			s.Spec.Ports[0].Name = "http"
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, NodePort: 30053, Protocol: corev1.ProtocolUDP})
		}, []string{"10.244.1.5@n1", "10.244.2.7@n2"}},
		{"udp-node-port", func(s *corev1.Service) { nodePort(s); s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }, []string{"10.244.1.5@n1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, ends := work(service(tt.change), tt.ends...)
			r, err := proxy.Render(w, ends, proxy.On{Node: "n1", IP: "10.90.1.11", PodCIDR: podCIDR})
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name, r.Text())
			for i, e := range w.Endpoints[:len(w.Endpoints)/2] { // the order of endpoints does not matter
				j := len(ends) - 1 - i
				w.Endpoints[i], w.Endpoints[j], ends[i], ends[j] = w.Endpoints[j], e, ends[j], ends[i]
			}
			again, err := proxy.Render(w, ends, proxy.On{Node: "n1", IP: "10.90.1.11", PodCIDR: podCIDR})
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(r.Text(), again.Text()); diff != "" {
				t.Errorf("another order gives another text:\n%s", diff)
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("rules differ from %s (-want +got):\n%s", file, diff)
	}
}

// TestChainNames compares with the names that kube-proxy gives.
func TestChainNames(t *testing.T) {
	t.Parallel()
	w, ends := work(service(nil), "10.244.1.5@n1")
	r, err := proxy.Render(w, ends, proxy.On{Node: "n1", IP: "10.90.1.11", PodCIDR: podCIDR})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"BERTH-SVC-LOLE4ISW44XBNF3G", "BERTH-SEP-XQWD6PXGZUTOOIVQ"} {
		if !strings.Contains(r.Text(), ":"+want+" - [0:0]\n") {
			t.Errorf("no chain %s in\n%s", want, r.Text())
		}
	}
	for line := range strings.Lines(r.Text()) {
		if name, ok := strings.CutPrefix(line, ":"); ok && len(strings.Fields(name)[0]) > 28 {
			t.Errorf("chain name too long: %s", line)
		}
	}
}

// TestHash: endpoints without an address are none, and the hash is the one that the planner computes.
func TestHash(t *testing.T) {
	t.Parallel()
	w, ends := work(service(nil), "10.244.1.5@n1", "@n2")
	r, err := proxy.Render(w, ends, proxy.On{Node: "n1", IP: "10.90.1.11", PodCIDR: podCIDR})
	if err != nil {
		t.Fatal(err)
	}
	if want := api.ServiceHash(w, []string{"10.244.1.5", ""}); r.Hash != want {
		t.Errorf("hash %s, want %s", r.Hash, want)
	}
	if strings.Count(r.Text(), "DNAT") != 1 {
		t.Errorf("not just one endpoint:\n%s", r.Text())
	}
}

func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*corev1.Service)
		end    string
		want   string
	}{
		{"external IPs", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.1 -j ACCEPT"} }, "10.244.1.5@n1", "not an address"},
		{"load balancer", func(s *corev1.Service) { balanced(s); s.Spec.LoadBalancerIP = "x" }, "10.244.1.5@n1", "not an address"},
		{"source range", func(s *corev1.Service) { balanced(s); s.Spec.LoadBalancerSourceRanges = []string{"all"} }, "10.244.1.5@n1", "not a network"},
		{"port", func(s *corev1.Service) { s.Spec.Ports[0].Port = 0 }, "10.244.1.5@n1", "out of range"},
		{"name", func(s *corev1.Service) { s.Spec.Ports[0].Name = "a\nb" }, "10.244.1.5@n1", "not a name"},
		{"cluster IP", func(s *corev1.Service) { s.Spec.ClusterIP = "x; reboot" }, "10.244.1.5@n1", "not an address"},
		{"protocol", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = "ICMP" }, "10.244.1.5@n1", `"ICMP" is not supported`},
		{"endpoint", nil, "10.244.1.5 -j ACCEPT@n1", "not an address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, ends := work(service(tt.change), tt.end)
			if _, err := proxy.Render(w, ends, proxy.On{Node: "n1", IP: "10.90.1.11", PodCIDR: podCIDR}); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "default/web") {
				t.Errorf("got %v, want one that says %q", err, tt.want)
			}
		})
	}
}

// TestPortsByName: a pod without a port of the name is left out of that port.
func TestPortsByName(t *testing.T) {
	t.Parallel()
	s := service(func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "admin", Port: 81}}
	})
	w, ends := work(s, "10.244.1.5@n1", "10.244.2.7@n2")
	ends[0].Ports = map[string]int32{"http": 1000, "admin": 2000}
	ends[1].Ports = map[string]int32{"http": 3000}
	r, err := proxy.Render(w, ends, proxy.On{Node: "n1", IP: "10.90.1.11", PodCIDR: podCIDR})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(r.Text()) {
		if _, to, ok := strings.Cut(strings.TrimSpace(line), "--to-destination "); ok {
			got = append(got, to)
		}
	}
	slices.Sort(got)
	if diff := gocmp.Diff([]string{"10.244.1.5:1000", "10.244.1.5:2000", "10.244.2.7:3000"}, got); diff != "" {
		t.Errorf("destinations (-want +got):\n%s", diff)
	}
}
