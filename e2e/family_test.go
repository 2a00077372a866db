package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
)

// inFamilies is a pod per node behind services of all families of the cluster.
const inFamilies = `
berth {
  cluster {
    network       = %q
    pod_cidrs     = [%s]
    service_cidrs = [%s]

    load_balancer "lab" {
      addresses = [%s]
    }

    dns {
      upstream = [%q]
    }
  }
}

workload "daemonset" "web" {
  labels = { app = "web" }

  container "app" {
    image = image.app.ref

    env "POD_IPS" {
      value_from {
        field_ref {
          field_path = "status.podIPs"
        }
      }
    }
    env "HOST_IPS" {
      value_from {
        field_ref {
          field_path = "status.hostIPs"
        }
      }
    }

    port "http" {
      container_port = 8080
      host_port      = 8085
    }

    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10

      http_get {
        path = "/healthz"
        port = "http"
      }
    }
  }
}

service "web" {
  type             = "NodePort"
  selector         = { app = "web" }
  ip_family_policy = "PreferDualStack"

  port "http" {
    port        = 80
    target_port = "http"
    node_port   = 30090
  }
}

service "balanced" {
  type             = "LoadBalancer"
  selector         = { app = "web" }
  ip_family_policy = "PreferDualStack"

  port "http" {
    port        = 80
    target_port = "http"
  }
}

service "sticky" {
  selector         = { app = "web" }
  session_affinity = "ClientIP"
  ip_family_policy = "PreferDualStack"

  port "http" {
    port        = 80
    target_port = "http"
  }
}

workload "deployment" "nobody" {
  labels   = { app = "nobody" }
  replicas = 0

  container "app" {
    image = image.app.ref
  }
}

service "nobody" {
  selector         = { app = "nobody" }
  ip_family_policy = "PreferDualStack"

  port "http" {
    port = 80
  }
}

service "peers" {
  cluster_ip       = "None"
  selector         = { app = "web" }
  ip_family_policy = "PreferDualStack"

  port "http" {
    port = 8080
  }
}
`

const (
	pods4, services4 = `"10.244.0.0/16"`, `"10.96.0.0/12"`
	pods6, services6 = `"fd00:10:244::/56"`, `"fd00:10:96::/108"`
)

// Pods, services, node ports, ports of nodes and names, in clusters of two families and of IPv6 alone: reached from pods, from nodes and from outside,
// as whom they should be; and again after a host has come back by itself.
func TestFamilies(t *testing.T) {
	t.Parallel() // its parts wait for hosts beside all others
	for _, tt := range []struct {
		name, network, pods, services string
		mtu                           int
		reboot                        bool
	}{
		{"dual-stack vxlan", "vxlan", pods4 + ", " + pods6, services4 + ", " + services6, 1450, true},
		{"dual-stack host-gw, IPv6 first", "host-gw", pods6 + ", " + pods4, services6 + ", " + services4, 1500, false},
		{"IPv6 vxlan", "vxlan", pods6, services6, 1430, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := theLab(t)
			labtest.RequireIPv6(t, l)
			s := begin(t, fmt.Sprintf(inFamilies, tt.network, tt.pods, tt.services, poolOf(l, tt.pods), dnsOutside(t, l)))
			if tt.pods == pods6 { // then Berth comes by IPv6, too
				s.reachBySix()
			}
			f := &familyStory{story: s, t: t, families: strings.Count(tt.pods, "/"), six: strings.HasPrefix(tt.pods, pods6), mtu: tt.mtu}
			before := snapshot(t, t.Context(), s.lab.Node("n1"))
			s.apply()
			s.settled()
			for _, n := range s.lab.Nodes() {
				tool(t, n)
			}
			f.addresses()
			f.names()
			f.reached()
			f.sizes()
			s.netOpen()
			s.ok("net", "trace", "daemonset/web", "web")
			if tt.reboot {
				f.reboot()
				f.reached()
			}
			s.ok("destroy", "--auto-approve")
			after := snapshot(t, t.Context(), s.lab.Node("n1"))
			for _, section := range []string{"links", "addresses", "routes", "rules", "neighbours", "sysctls", "contents"} {
				if before[section] != after[section] {
					t.Errorf("%s are not as before:\n%s", section, difference(map[string]string{section: before[section]}, map[string]string{section: after[section]}))
				}
			}
		})
	}
}

// reachBySix has the inventory name the hosts by their IPv6 addresses.
func (s *story) reachBySix() {
	s.t.Helper()
	text, err := os.ReadFile(s.lab.Inventory())
	if err != nil {
		s.t.Fatal(err)
	}
	inventory := string(text)
	for _, n := range s.lab.Nodes() {
		inventory = strings.ReplaceAll(inventory, "'"+n.Address+"'", "'"+n.Address6()+"'")
	}
	s.write("nodes6.toml", inventory)
	s.write("inventory.hcl", "inventory \"toml\" {\n  path = \"nodes6.toml\"\n}\n")
}

type familyStory struct {
	*story
	t        *testing.T
	families int
	six      bool // the primary family is IPv6
	mtu      int
}

// nodeOf is a node's address of a family.
func nodeOf(n *lab.Node, f corev1.IPFamily) string {
	if f == corev1.IPv6Protocol {
		return n.Address6()
	}
	return n.Address
}

func pageOf(ip string, port int) string {
	return "http://" + net.JoinHostPort(ip, fmt.Sprint(port)) + "/"
}

// addresses checks what status, downward API and files tell.
func (f *familyStory) addresses() {
	for _, p := range f.pods("app=web") {
		var ips, hosts []string
		for _, ip := range p.Status.PodIPs {
			ips = append(ips, ip.IP)
		}
		for _, ip := range p.Status.HostIPs {
			hosts = append(hosts, ip.IP)
		}
		if len(ips) != f.families || len(hosts) != f.families || ips[0] != p.Status.PodIP || hosts[0] != p.Status.HostIP || (api.FamilyOf(ips[0]) == corev1.IPv6Protocol) != f.six {
			f.t.Errorf("%s has the addresses %v on a host with %v, podIP %s, hostIP %s", p.Name, ips, hosts, p.Status.PodIP, p.Status.HostIP)
		}
		env := f.exec(p.Name, "/app", "env")
		for _, want := range []string{"POD_IPS=" + strings.Join(ips, ","), "HOST_IPS=" + strings.Join(hosts, ",")} {
			if !strings.Contains(env, want+"\n") {
				f.t.Errorf("the environment of %s lacks %s:\n%s", p.Name, want, env)
			}
		}
		file := f.exec(p.Name, "/app", "cat", "/etc/hosts")
		for _, ip := range ips {
			if !strings.Contains(file, ip+"\t"+p.Name) {
				f.t.Errorf("/etc/hosts of %s lacks %s:\n%s", p.Name, ip, file)
			}
			// As others in the cluster see it.
			other := f.pods("app=web")[0]
			if other.Name == p.Name {
				other = f.pods("app=web")[1]
			}
			for _, to := range other.Status.PodIPs {
				if api.FamilyOf(to.IP) != api.FamilyOf(ip) {
					continue
				}
				if got := f.inPod(&p, pageOf(to.IP, 8080)+"from"); len(got) != 1 || got[0] != ip {
					f.t.Errorf("%s asks a pod of another node as %s, want %s", p.Name, got, ip)
				}
			}
		}
	}
}

// names checks what cluster DNS answers.
func (f *familyStory) names() {
	pod := f.pods("app=web")[0]
	r := f.resolverOf(f.t, "default", pod.Name)
	svc := f.service("web")
	ips := api.ClusterIPs(&svc)
	if len(ips) != f.families {
		f.t.Fatalf("the service has the addresses %v", ips)
	}
	for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		kind := map[corev1.IPFamily]string{corev1.IPv4Protocol: "A", corev1.IPv6Protocol: "AAAA"}[family]
		ip := api.OfFamily(family, ips...)
		want := "NOERROR"
		var peers []string
		if ip != "" {
			want = "web.default.svc.cluster.local. " + kind + " " + ip
			for _, p := range f.pods("app=web") {
				for _, own := range p.Status.PodIPs {
					if api.FamilyOf(own.IP) == family {
						peers = append(peers, "peers.default.svc.cluster.local. "+kind+" "+own.IP)
					}
				}
			}
			slices.Sort(peers)
			back, err := dns.ReverseAddr(ip)
			if err != nil {
				f.t.Fatal(err)
			}
			if got, want := r.answers("-x", ip), back+" PTR web.default.svc.cluster.local."; got != want {
				f.t.Errorf("the name of %s is %q, want %q", ip, got, want)
			}
		}
		if got := r.answers("+search", "web", kind); got != want {
			f.t.Errorf("web %s: %q, want %q", kind, got, want)
		}
		if want := strings.Join(peers, "; "); want != "" {
			if got := r.answers("+search", "peers", kind); got != want {
				f.t.Errorf("peers %s: %q, want %q", kind, got, want)
			}
		}
	}
}

// reached asks services from pods, nodes and outside.
func (f *familyStory) reached() {
	pods := f.pods("app=web")
	first := pods[0]
	web, sticky, nobody := f.service("web"), f.service("sticky"), f.service("nobody")
	balanced := f.service("balanced")
	if in := balanced.Status.LoadBalancer.Ingress; len(in) != f.families || balanced.Spec.LoadBalancerIP == "" {
		f.t.Fatalf("the service has the load balancer addresses %v", in)
	}
	for _, in := range balanced.Status.LoadBalancer.Ingress {
		f.balanced(&first, in.IP)
	}
	for _, ip := range api.ClusterIPs(&web) {
		family := api.FamilyOf(ip)
		seen := f.inPod(&first, slices.Repeat([]string{pageOf(ip, 80)}, 60)...)
		slices.Sort(seen)
		if seen = slices.Compact(seen); len(seen) != len(pods) { // itself, too
			f.t.Errorf("behind %s are %v, want %d pods", ip, seen, len(pods))
		}
		for _, n := range f.lab.Nodes() {
			if got, err := n.Exec(f.t.Context(), "/run/e2e-app", "get", pageOf(ip, 80)); err != nil || !strings.HasPrefix(got, "1 web-") {
				f.t.Errorf("from %s to the service at %s: %q, %v", n.Name, ip, got, err)
			}
			for _, port := range []int{30090, 8085} {
				got, err := fetch(f.t.Context(), pageOf(nodeOf(n, family), port))
				if err != nil || !strings.HasPrefix(got, "1 web-") {
					f.t.Errorf("from outside to port %d of %s (%s): %q, %v", port, n.Name, family, got, err)
				}
			}
		}
		same := f.inPod(&first, slices.Repeat([]string{pageOf(api.OfFamily(family, api.ClusterIPs(&sticky)...), 80)}, 8)...)
		if len(slices.Compact(same)) != 1 {
			f.t.Errorf("a client of %s with affinity is sent to %v", family, same)
		}
		// A program that is just connecting hears of a refusal by ICMPv6 with its second try only, after a second.
		if got, err := curl(f.t.Context(), f.lab.Nodes()[0], pageOf(api.OfFamily(family, api.ClusterIPs(&nobody)...), 80)); err == nil || !strings.Contains(err.Error(), "Couldn't connect") {
			f.t.Errorf("a service of %s with nobody behind it answers %q, %v; want that it is refused", family, got, err)
		}
	}
}

// poolOf has addresses of the families of some ranges that nobody on the lab's network has.
func poolOf(l *lab.Lab, pods string) string {
	var out []string
	if strings.Contains(pods, pods4) {
		out = append(out, fmt.Sprintf("%q", freeAddresses(l)))
	}
	if strings.Contains(pods, pods6) {
		six := netip.MustParseAddr(l.Nodes()[0].Address6()).As16()
		six[15] = 0xf0
		out = append(out, fmt.Sprintf("%q", netip.AddrFrom16(six).String()+"/124"))
	}
	return strings.Join(out, ", ")
}

// balanced asks a load balancer's address from a pod, from every node and from outside. In the host's network nobody else has it.
func (f *familyStory) balanced(p *corev1.Pod, ip string) {
	if got := f.inPod(p, pageOf(ip, 80)); !strings.HasPrefix(got[0], "1 web-") {
		f.t.Errorf("from a pod to the load balancer at %s: %q", ip, got)
	}
	if got, err := fetch(f.t.Context(), pageOf(ip, 80)); err != nil || !strings.HasPrefix(got, "1 web-") {
		f.t.Errorf("from outside to the load balancer at %s: %q, %v", ip, got, err)
	}
	for _, n := range f.lab.Nodes() {
		if got, err := n.Exec(f.t.Context(), "/run/e2e-app", "get", pageOf(ip, 80)); err != nil || !strings.HasPrefix(got, "1 web-") {
			f.t.Errorf("from %s to the load balancer at %s: %q, %v", n.Name, ip, got, err)
		}
		has := sh(f.t, f.t.Context(), n, "ip -o addr show to "+ip+" | wc -l")
		if want := map[bool]string{true: "1", false: "0"}[n.Name == f.holder()]; has != want {
			f.t.Errorf("%s has the load balancer address %s %s times, want %s", n.Name, ip, has, want)
		}
	}
}

// holder is the node that holds the addresses of the load balancer.
func (f *familyStory) holder() string {
	f.t.Helper()
	_, rest, ok := strings.Cut(strings.Join(strings.Fields(f.ok("describe", "service", "balanced")), " "), "Held By: ")
	if !ok {
		f.t.Fatal("nobody holds the addresses of the load balancer")
	}
	return strings.Fields(rest)[0]
}

// netOpen waits until every way is open: the command gives an answer three seconds, and a busy machine may need more.
func (s *story) netOpen() {
	s.t.Helper()
	var o outcome
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		if o = s.run("net", "check"); o.code == 0 {
			return
		}
	}
	s.t.Errorf("%s", o)
}

// inPod gets pages with a program in the network of a pod. They come without an end of line.
func (f *familyStory) inPod(p *corev1.Pod, urls ...string) []string {
	f.t.Helper()
	out, err := pagesFrom(f.t, f.lab, p, urls...)
	if err != nil {
		f.t.Errorf("from %s: %v\n%s", p.Name, err, out)
	}
	return strings.Split(out, "\n")
}

// pagesFrom gets pages with the tool of a pod's host in the network of the pod, a line each.
func pagesFrom(t *testing.T, l *lab.Lab, p *corev1.Pod, urls ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	out, err := l.Node(p.Spec.NodeName).Exec(ctx, append([]string{"sh", "-c", `set -eu
		pid=$(grep -l "pod$1" /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3 | while read -r p; do
			if [ "$(cat /proc/$p/comm 2>/dev/null)" = app ]; then echo $p; break; fi
		done)
		shift
		for url; do nsenter -t $pid -n /run/e2e-app get "$url"; done
	`, "sh", string(p.UID)}, urls...)...)
	return strings.TrimSpace(out), err
}

// sizes checks that packets are as large as the devices below allow, not larger.
func (f *familyStory) sizes() {
	pods := f.pods("app=web")
	for _, ip := range pods[1].Status.PodIPs {
		for size, want := range map[int]string{f.mtu: "arrived", f.mtu + 1: "too large"} {
			if got := strings.TrimSpace(f.exec(pods[0].Name, "/app", "reach", net.JoinHostPort(ip.IP, "9"), fmt.Sprint(size))); got != want {
				f.t.Errorf("a packet of %d bytes to %s: %s, want %s", size, ip.IP, got, want)
			}
		}
	}
}

// reboot has one host come back by itself, and then its pods with the next apply.
func (f *familyStory) reboot() {
	n1 := f.lab.Node("n1")
	before := snapshot(f.t, f.t.Context(), n1)
	ctx, cancel := context.WithTimeout(f.t.Context(), deadline)
	defer cancel()
	if err := n1.Reboot(ctx); err != nil {
		f.t.Fatal(err)
	}
	tool(f.t, n1)
	after := snapshot(f.t, f.t.Context(), n1)
	for _, section := range []string{"routes", "rules", "neighbours", "sysctls", "addresses"} {
		was, is := kept(before[section]), kept(after[section])
		for _, line := range was {
			if !slices.Contains(is, line) && !strings.Contains(line, "CNI-") { // ports of pods, which come back with these
				f.t.Errorf("%s: missing after the reboot: %s", section, line)
			}
		}
	}
	for _, p := range f.pods("app=web") {
		if p.Spec.NodeName == n1.Name {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			if body, err := n1.Exec(ctx, "/run/e2e-app", "get", pageOf(ip.IP, 8080)); err != nil || !strings.HasPrefix(body, "1 web-") {
				f.t.Errorf("from the rebooted host to %s: %q, %v", ip.IP, body, err)
			}
		}
	}
	f.apply()
	f.settled()
}
