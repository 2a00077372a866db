package proxy_test

import (
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/proxy"
)

// Every line of a text of rules is one of these, whatever somebody has written into a service.
var lines = []*regexp.Regexp{
	regexp.MustCompile(`^# berth [a-z0-9.-]+/[a-z0-9.-]+ [0-9a-f]{16}$`),
	regexp.MustCompile(`^# (udp|tcp) ([0-9.]+|node) [0-9]+( [0-9.]+)*$`),
	regexp.MustCompile(`^# (hold|leave) [0-9.]+$`),
	regexp.MustCompile(`^# health [0-9]+ [0-9]+$`),
	regexp.MustCompile(`^\*(nat|filter)$`),
	regexp.MustCompile(`^COMMIT$`),
	regexp.MustCompile(`^:BERTH-(SVC|SVL|SEP|EXT|FW)-[A-Z2-7]{16} - \[0:0\]$`),
	regexp.MustCompile(`^-A BERTH-(SERVICES|NODEPORTS|HEALTH|(SVC|SVL|SEP|EXT|FW)-[A-Z2-7]{16}) ([a-zA-Z0-9!./: -]|"[a-z0-9./: -]+( cluster IP| external IP| has no endpoints| has no local endpoints)?")+ -j ` +
		`(BERTH-(MARK-MASQ|HEALTH|(SVC|SVL|SEP|EXT|FW)-[A-Z2-7]{16})|DROP|REJECT --reject-with icmp-port-unreachable|DNAT --to-destination [0-9.]+(:[0-9]+)?)$`),
}

func FuzzRender(f *testing.F) {
	f.Add("default", "web", "http", "10.96.0.10", "192.0.2.1", "10.0.0.0/8", "10.244.1.5", int32(80), int32(30080), int32(8080), int32(600), uint16(0))
	f.Add("a", "b", "", "10.96.0.10", "x\n-A INPUT -j ACCEPT", "0.0.0.0/0", "10.244.1.5 ", int32(-1), int32(70000), int32(0), int32(-5), uint16(0xffff))
	f.Add("a\" -j ACCEPT", "b", "p", "fd00::1", "", "", "::ffff:10.0.0.1", int32(1), int32(0), int32(65535), int32(1), uint16(0x5a5a))
	f.Add("kube-system", "kube-dns", "dns", "10.96.0.10", "192.0.2.1", "10.0.0.0/8", "10.244.1.5", int32(53), int32(30053), int32(53), int32(600), uint16(0x8048))
	f.Fuzz(func(t *testing.T, namespace, name, port, ip, other, sources, end string, number, nodePort, target, timeout int32, bits uint16) {
		bit := func(i int) bool { return bits>>i&1 == 1 }
		s := &corev1.Service{}
		s.Namespace, s.Name = namespace, name
		s.Spec.ClusterIP = ip
		s.Spec.Type = []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName}[bits>>14]
		s.Spec.Ports = []corev1.ServicePort{{Name: port, Port: number, NodePort: nodePort, Protocol: []corev1.Protocol{"TCP", "UDP", "SCTP", corev1.Protocol(port)}[bits>>12&3]}}
		if bit(0) {
			s.Spec.ExternalIPs = []string{other}
		}
		if bit(1) {
			s.Spec.LoadBalancerIP = other
		}
		if bit(2) {
			s.Spec.LoadBalancerSourceRanges = []string{sources}
		}
		if bit(3) {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			s.Spec.HealthCheckNodePort = nodePort
		}
		if bit(4) {
			s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
		}
		if bit(5) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &timeout}}
		}
		w := &api.ServiceWork{Service: s, Holder: "n1"}
		var ends []providers.Endpoint
		if bit(6) {
			e := providers.Endpoint{Node: "n1", IP: end, Ports: map[string]int32{port: target}}
			w.Endpoints, ends = append(w.Endpoints, api.EndpointLink{Node: e.Node, Ports: e.Ports, Terminating: bit(7)}), append(ends, e)
		}
		r, err := proxy.Render(w, ends, proxy.On{Node: "n1", IP: "10.90.1.11", PodCIDR: podCIDR})
		if err != nil {
			return
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(r.Text(), "\n"), "\n") {
			known := false
			for _, shape := range lines {
				known = known || shape.MatchString(line)
			}
			if !known {
				t.Errorf("not a line of ours: %q", line)
			}
		}
	})
}
