package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers/internal/iptables"
)

// vip is an address in the lab's network that no host has.
func (w *world) vip(last int) string {
	p, _, _ := strings.Cut(w.lab.Subnet(), "/")
	return p[:strings.LastIndexByte(p, '.')+1] + fmt.Sprint(last)
}

func (w *world) balanced(ip, holder string) *corev1.Service {
	return service(func(s *corev1.Service) {
		nodePort(s)
		s.Spec.Type, s.Spec.LoadBalancerIP = corev1.ServiceTypeLoadBalancer, ip
		s.Labels = map[string]string{"holder": holder}
	})
}

func (w *world) has(t *testing.T, host int, ip string) bool {
	t.Helper()
	return strings.TrimSpace(w.hosts[host].Sh(t, `ip -4 -o addr show to "$1"`, ip)) != ""
}

// TestLoadBalancer: one host answers for the address, another one takes it over while a client asks, and only the service is reached by it.
func TestLoadBalancer(t *testing.T) {
	w := setUp(t)
	ip := w.vip(200)
	at := net.JoinHostPort(ip, "80")
	set := func(holder string, order ...int) {
		t.Helper()
		for _, i := range order {
			if _, err := w.step(t.Context(), i, api.OpServiceSet, w.balanced(ip, holder), w.ends(w.pods[1])...); err != nil {
				t.Fatalf("%+v", err)
			}
		}
	}
	set("n1", 0, 1)
	if err := outside(t.Context(), at); err != nil {
		t.Errorf("from outside: %v", err)
	}
	if !w.has(t, 0, ip) || w.has(t, 1, ip) {
		t.Error("not just n1 has the address")
	}
	for name, from := range map[string]prober{"pod": w.pods[0], "other pod": w.pods[1], "holder": w.hosts[0], "other node": w.hosts[1]} {
		if got, err := from.Probe(t.Context(), "get", at); err != nil || !strings.HasPrefix(got, "b ") {
			t.Errorf("from %s: %q, %v", name, got, err)
		}
	}
	if c, err := net.DialTimeout("tcp", net.JoinHostPort(ip, "22"), 2*time.Second); err == nil {
		c.Close()
		t.Error("another port of the holder is reached by the address")
	}
	// The machine knows the address's old place, and learns the new one only by what the new holder says.
	set("n2", 1)
	if err := outside(t.Context(), at); err != nil {
		t.Errorf("while two hosts have it: %v", err)
	}
	set("n2", 0)
	if w.has(t, 0, ip) || !w.has(t, 1, ip) {
		t.Error("not just n2 has the address")
	}
	if err := outside(t.Context(), at); err != nil {
		t.Errorf("after it has moved: %v", err)
	}
	set("n2", 0, 1)
	w.hosts[1].Sh(t, `ip addr del "$1/32" dev eth0`, ip)
	if got := w.observed(t, 1)["default/web"]; got != "" {
		t.Errorf("that the address is gone is not seen: %q", got)
	}
	if _, err := w.stepOf(t.Context(), 1, api.OpServiceSet, w.balanced(ip, "n2"), true, w.ends(w.pods[1])...); err != nil || !w.has(t, 1, ip) {
		t.Errorf("the address is not back: %v", err)
	}
	for i := range w.hosts {
		if _, err := w.step(t.Context(), i, api.OpServiceRemove, w.balanced(ip, "n2")); err != nil {
			t.Fatal(err)
		}
		if w.has(t, i, ip) {
			t.Errorf("the address is left on host %d", i)
		}
	}
}

// TestLoadBalancerAtBoot: the holder takes its address back, unless another host has it by then.
func TestLoadBalancerAtBoot(t *testing.T) {
	for _, tool := range []string{"perl", "python3"} {
		t.Run(tool, func(t *testing.T) {
			var hide []string
			if tool == "python3" {
				hide = append(hide, "mount --bind /dev/null $(command -v perl)") // what is no program is not found
			}
			w := setUp(t, hide...)
			t.Cleanup(func() {
				for _, h := range w.hosts {
					h.Sh(t, "umount $(readlink -f /usr/bin/perl) 2>/dev/null || :")
				}
			})
			ip := w.vip(201)
			s := w.balanced(ip, "n1")
			if _, err := w.step(t.Context(), 0, api.OpServiceSet, s, w.ends(w.pods[1])...); err != nil {
				t.Fatal(err)
			}
			boot := func() { w.hosts[0].Sh(t, `ip addr del "$1/32" dev eth0; sh /var/lib/berth/network/restore boot`, ip) }
			boot()
			if !w.has(t, 0, ip) {
				t.Error("the address is not back after a boot")
			}
			if _, err := w.step(t.Context(), 1, api.OpServiceSet, w.balanced(ip, "n2"), w.ends(w.pods[1])...); err != nil {
				t.Fatal(err)
			}
			boot()
			if w.has(t, 0, ip) {
				t.Error("two hosts have the address after the boot of one")
			}
			if err := outside(t.Context(), net.JoinHostPort(ip, "80")); err != nil {
				t.Errorf("from outside: %v", err)
			}
		})
	}
}

func TestSourceRanges(t *testing.T) {
	w := setUp(t)
	ip := w.vip(202)
	s := w.balanced(ip, "n1")
	at := net.JoinHostPort(ip, "80")
	s.Spec.LoadBalancerSourceRanges = []string{"203.0.113.0/24", w.lab.Subnet()}
	w.set(t, s, w.ends(w.pods[1])...)
	if err := outside(t.Context(), at); err != nil {
		t.Errorf("from an allowed network: %v", err)
	}
	s.Spec.LoadBalancerSourceRanges = []string{"203.0.113.0/24"}
	w.set(t, s, w.ends(w.pods[1])...)
	if err := outside(t.Context(), at); err == nil {
		t.Error("from a network that is not allowed: answered")
	}
	if err := outside(t.Context(), net.JoinHostPort(w.lab.Nodes()[0].Address, "30080")); err != nil {
		t.Errorf("by the node port, which is open to all: %v", err)
	}
}

// TestExternalIP: packets for an address that others route to a node.
func TestExternalIP(t *testing.T) {
	w := setUp(t)
	const ip = "198.51.100.77"
	via := w.lab.Nodes()[0].Address
	if out, err := exec.CommandContext(t.Context(), "ip", "route", "replace", ip, "via", via).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		exec.CommandContext(context.WithoutCancel(t.Context()), "ip", "route", "del", ip, "via", via).Run()
	})
	s := service(func(s *corev1.Service) {
		s.Spec.ExternalIPs = []string{ip}
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	w.set(t, s, w.ends(w.pods[0])...)
	resp, err := http.Get("http://" + net.JoinHostPort(ip, "80"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := make([]byte, 100)
	n, _ := resp.Body.Read(body)
	if got, want := string(body[:n]), "a "+w.lab.Gateway(); got != want {
		t.Errorf("the pod sees %q, want the client's own address: %q", got, want)
	}
	if got, err := w.pods[1].Probe(t.Context(), "get", ip+":80"); err != nil || !strings.HasPrefix(got, "a ") {
		t.Errorf("from a pod: %q, %v", got, err)
	}
	w.set(t, s)
	// The client is on the link to which the node would forward the packet: it would be told of a better way, and the refusal be one ICMP message too many.
	if out, err := w.lab.Nodes()[0].Exec(t.Context(), "sh", "-c", `for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >"$f"; done`); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := outside(t.Context(), net.JoinHostPort(ip, "80")); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("without endpoints: %v, want connection refused", err)
	}
}

// TestSCTP: the first packet of an association arrives at a pod, with its port and its checksum put right.
func TestSCTP(t *testing.T) {
	w := setUp(t)
	w.set(t, service(func(s *corev1.Service) { nodePort(s); s.Spec.Ports[0].Protocol = corev1.ProtocolSCTP }), w.ends(w.pods[1])...)
	for name, to := range map[string]string{"cluster IP": "10.96.0.10:80", "node port": net.JoinHostPort(w.lab.Nodes()[0].Address, "30080")} {
		hear, err := w.pods[1].Command(t.Context(), "sctp-hear")
		if err != nil {
			t.Fatal(err)
		}
		pipe, err := hear.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := hear.Start(); err != nil {
			t.Fatal(err)
		}
		heard := bufio.NewReader(pipe)
		if line, err := heard.ReadString('\n'); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if _, err := w.pods[0].Probe(t.Context(), "sctp", to); err != nil {
			t.Fatal(err)
		}
		line, err := heard.ReadString('\n')
		if !strings.HasSuffix(strings.TrimSpace(line), " 8080 true") {
			t.Errorf("by %s the pod hears %q, %v; want port 8080 and a right checksum", name, line, err)
		}
		hear.Wait()
	}
}

// What others leave in iptables, as they write it. Each lets VXLAN between nodes and SSH in, as its owner has to.
var foreign = map[string]string{
	"docker": `iptables -P FORWARD DROP
		iptables -t nat -N DOCKER
		iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
		iptables -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
		iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
		iptables -t nat -A DOCKER -i docker0 -j RETURN
		iptables -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8443 -j DNAT --to-destination 172.17.0.2:443
		for c in DOCKER DOCKER-USER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2; do iptables -N $c; done
		iptables -A FORWARD -j DOCKER-USER
		iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1
		iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		iptables -A FORWARD -o docker0 -j DOCKER
		iptables -A DOCKER-USER -j RETURN
		iptables -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
		iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN
		iptables -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP`,
	"ufw": `for c in ufw-before-input ufw-user-input ufw-after-input ufw-before-forward ufw-reject-forward; do iptables -N $c; done
		iptables -A INPUT -j ufw-before-input
		iptables -A INPUT -j ufw-user-input
		iptables -A INPUT -j ufw-after-input
		iptables -A FORWARD -j ufw-before-forward
		iptables -A FORWARD -j ufw-reject-forward
		iptables -A ufw-before-input -i lo -j ACCEPT
		iptables -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		iptables -A ufw-before-input -m conntrack --ctstate INVALID -j DROP
		iptables -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		iptables -A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
		iptables -A ufw-user-input -p udp -m udp --dport 8472 -j ACCEPT
		iptables -P INPUT DROP
		iptables -P FORWARD DROP`,
	"firewalld": `for c in INPUT_direct INPUT_ZONES IN_public IN_public_allow FORWARD_direct FORWARD_IN_ZONES; do iptables -N $c; done
		iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
		iptables -A INPUT -i lo -j ACCEPT
		iptables -A INPUT -j INPUT_direct
		iptables -A INPUT -j INPUT_ZONES
		iptables -A INPUT_ZONES -g IN_public
		iptables -A IN_public -j IN_public_allow
		iptables -A IN_public_allow -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT
		iptables -A IN_public_allow -p udp -m udp --dport 8472 -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT
		iptables -A INPUT -m conntrack --ctstate INVALID -j DROP
		iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited
		iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
		iptables -A FORWARD -j FORWARD_direct
		iptables -A FORWARD -j FORWARD_IN_ZONES
		iptables -A FORWARD -j REJECT --reject-with icmp-host-prohibited`,
	"mine": `iptables -A INPUT -s 192.0.2.66/32 -m comment --comment "keep BERTH-SERVICES out" -j DROP
		iptables -t nat -A PREROUTING -p tcp -m tcp --dport 2222 -j REDIRECT --to-ports 22
		iptables -t mangle -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
		iptables -t raw -A PREROUTING -s 192.0.2.67/32 -j DROP`,
}

// TestBesideOthers: rules of others are the same, byte for byte, before, while and after ours are there, and services work beside them.
func TestBesideOthers(t *testing.T) {
	const others = `iptables-save | sed -e '/^#/d' -e 's/\[[0-9:]*\]//' | grep -v -e '^:BERTH-' -e '-A BERTH-' -e '-j BERTH-' || :`
	for _, name := range []string{"docker", "ufw", "firewalld", "mine"} {
		t.Run(name, func(t *testing.T) {
			w := setUp(t, foreign[name])
			t.Cleanup(func() {
				for _, h := range w.hosts {
					h.Sh(t, `iptables -P INPUT ACCEPT; iptables -P FORWARD ACCEPT; for t in raw mangle nat filter; do iptables -t $t -F; iptables -t $t -X; done`)
				}
			})
			before := w.hosts[0].Sh(t, others)
			ip := w.vip(203)
			s := w.balanced(ip, "n1")
			for _, ends := range [][]string{nil, w.ends(w.pods...), w.ends(w.pods[1])} {
				w.set(t, s, ends...)
				if d := cmp.Diff(before, w.hosts[0].Sh(t, others)); d != "" {
					t.Fatalf("rules of others with %d endpoints (-before +now):\n%s", len(ends), d)
				}
			}
			for what, from := range map[string]prober{"pod": w.pods[0], "node": w.hosts[0]} {
				if got, err := from.Probe(t.Context(), "get", "10.96.0.10:80"); err != nil || !strings.HasPrefix(got, "b ") {
					t.Errorf("from %s: %q, %v", what, got, err)
				}
			}
			for _, at := range []string{net.JoinHostPort(w.lab.Nodes()[0].Address, "30080"), net.JoinHostPort(ip, "80")} {
				if err := outside(t.Context(), at); err != nil {
					t.Errorf("from outside to %s: %v", at, err)
				}
			}
			for i := range w.hosts {
				if _, err := w.step(t.Context(), i, api.OpServiceRemove, s); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(before, w.hosts[0].Sh(t, others)); d != "" {
				t.Errorf("rules of others after ours are gone (-before +now):\n%s", d)
			}
		})
	}
}

// An address of IPv6 is told to the network by either program: who knows its old place knows the new one without asking; and a host that boots leaves it to
// another one that has it.
func TestNeighbours(t *testing.T) {
	l := labtest.Shared(t)
	labtest.RequireIPv6(t, l)
	for n, program := range []string{"perl", "python3"} {
		t.Run(program, func(t *testing.T) {
			w := setUp(t)
			here := netip.MustParseAddr(l.Nodes()[0].Address6()).As16()
			here[15] = byte(0xe0 + n)
			ip := netip.AddrFrom16(here).String()
			run := func(host int, does string) string {
				t.Helper()
				only := `command() { case $2 in perl | python3) [ "$2" = "$want" ] ;; *) type "$2" ;; esac; }`
				return w.hosts[host].Sh(t, "set -eu\nwant=$2 berth_net=/var/lib/berth/network\n"+iptables.Prelude+only+"\n"+does+` "$1" 2>&1; ip -6 -o addr show to "$1"`, ip, program)
			}
			t.Cleanup(func() {
				for i := range w.hosts {
					run(i, "berth_leave")
				}
			})
			if got := run(0, "berth_hold"); !strings.Contains(got, ip+"/128") || !strings.Contains(got, "deprecated") {
				t.Fatalf("n1 does not have it: %s", got)
			}
			conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip, "22"), 30*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if got := run(1, "rebuild=1; berth_hold"); strings.Contains(got, ip+"/128") || !strings.Contains(got, "another host has the address") {
				t.Errorf("at its boot n2 takes what n1 has: %s", got)
			}
			if got := run(0, "berth_leave"); got != "" {
				t.Errorf("n1 keeps it: %s", got)
			}
			if got := run(1, "rebuild=1; berth_hold"); !strings.Contains(got, ip+"/128") {
				t.Errorf("at its boot n2 does not take what nobody has: %s", got)
			}
			mac := strings.TrimSpace(w.hosts[1].Sh(t, "cat /sys/class/net/eth0/address"))
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
				known, err := exec.CommandContext(t.Context(), "ip", "neigh", "show", "to", ip).Output()
				if err == nil && strings.Contains(string(known), "lladdr "+mac) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("outside it is known at %q, %v; want %s of n2", known, err, mac)
				}
			}
		})
	}
}
