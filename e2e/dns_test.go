package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"berth.dev/berth/internal/lab"
)

// named is a cluster with DNS and something of every kind that has a name.
const named = `
variable "replicas" {
  type    = number
  default = 2
}

berth {
  cluster {
    domain = "home.arpa"

    dns {
      upstream = [UPSTREAM]

      stub_domain "corp.example" {
        servers = [STUB]
      }

      record "printer.office.example" {
        type   = "A"
        ttl    = 60
        values = ["192.0.2.7"]
      }

      record "note.office.example" {
        type   = "TXT"
        values = ["one; two"]
      }
    }
  }
}

workload "statefulset" "db" {
  labels       = { app = "db" }
  replicas     = var.replicas
  service_name = service.db.name

  container "app" {
    image = image.app.ref

    port "http" {
      container_port = 8080
    }
  }
}

service "db" {
  cluster_ip = "None"
  selector   = { app = "db" }

  port "http" {
    port = 8080
  }
}

service "web" {
  namespace = "shop"
  selector  = { app = "web" }

  port "http" {
    port        = 80
    target_port = 8080
  }
}

workload "daemonset" "web" {
  namespace = "shop"
  labels    = { app = "web" }

  container "app" {
    image = image.app.ref
  }
}

service "printer" {
  type          = "ExternalName"
  external_name = "printer.office.example"
}

output "web" {
  value = service.web.cluster_ip
}
`

// resolver is a pod with what its C library would ask: dig runs in its network, with its resolv.conf.
type resolver struct {
	t    *testing.T
	node *lab.Node
	pod  string // a part of the path of its files
}

// resolverOf finds the process of a pod on its host.
func (s *story) resolverOf(t *testing.T, namespace, pod string) *resolver {
	t.Helper()
	for _, p := range s.podsIn(namespace, "") {
		if p.Name == pod {
			return &resolver{t, s.lab.Node(p.Spec.NodeName), string(p.UID)}
		}
	}
	t.Fatalf("there is no pod %s/%s", namespace, pod)
	return nil
}

// dig asks as the pod would. What it says is sorted: answers come in any order.
func (r *resolver) dig(args ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), deadline)
	defer cancel()
	out, err := r.node.Exec(ctx, append([]string{"sh", "-c", `set -eu
		pid=$(grep -l "pod$1" /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3 | while read -r p; do
			if [ "$(cat /proc/$p/comm 2>/dev/null)" = app ]; then echo $p; break; fi
		done)
		shift
		f=$(mktemp)
		cat /proc/$pid/root/etc/resolv.conf >$f
		trap 'rm -f $f' EXIT
		nsenter -t $pid -n -- unshare -m sh -c 'f=$1; shift; mount --bind $f /etc/resolv.conf; exec dig "$@"' sh $f +nocmd +nostats +noquestion +tries=3 +time=10 "$@"
	`, "sh", r.pod}, args...)...)
	if err != nil {
		r.t.Errorf("dig %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// answers are the records of what dig says, and the status.
func (r *resolver) answers(args ...string) string {
	r.t.Helper()
	var out []string
	status := ""
	for line := range strings.Lines(r.dig(args...)) {
		if _, after, ok := strings.Cut(line, "status: "); ok {
			status, _, _ = strings.Cut(after, ",")
		}
		if f := strings.Fields(line); len(f) >= 5 && !strings.HasPrefix(line, ";") && f[3] != "SOA" {
			out = append(out, strings.Join(append(f[:1:1], f[3:]...), " "))
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		return status
	}
	return strings.Join(out, "; ")
}

// Every kind of name is answered as pods ask for it, short and in full, on each node by its own server, and also while nothing of
// Berth runs; what changes is answered as soon as its step is done.
func TestDNS(t *testing.T) {
	s := begin(t, "berth {\n  cluster {\n  }\n}\n")
	outside := dnsOutside(t, s.lab)
	s.write("main.hcl", strings.NewReplacer("UPSTREAM", fmt.Sprintf("%q", outside), "STUB", fmt.Sprintf("%q", outside)).Replace(named))
	s.apply()
	s.settled()
	web := strings.TrimSpace(s.ok("output", "-raw", "web"))
	ips := map[string]string{}
	for _, p := range append(s.pods(""), s.podsIn("kube-system", "")...) {
		ips[p.Name] = p.Status.PodIP
	}
	db0, db1 := ips["db-0"], ips["db-1"]
	dashed := strings.ReplaceAll(db0, ".", "-")
	r := s.resolverOf(t, "default", "db-0")
	for _, tt := range []struct{ ask, want string }{
		{"+search web.shop", "web.shop.svc.home.arpa. A " + web},
		{"+search web.shop.svc", "web.shop.svc.home.arpa. A " + web},
		{"web.shop.svc.home.arpa", "web.shop.svc.home.arpa. A " + web},
		{"+tcp WEB.shop.svc.home.arpa", "WEB.shop.svc.home.arpa. A " + web},
		{"web.shop.svc.home.arpa AAAA", "NOERROR"},
		{"+search db", "db.default.svc.home.arpa. A " + min(db0, db1) + "; db.default.svc.home.arpa. A " + max(db0, db1)},
		{"+search db-1.db", "db-1.db.default.svc.home.arpa. A " + db1},
		{dashed + ".default.pod.home.arpa", dashed + ".default.pod.home.arpa. A " + db0},
		{"_http._tcp.web.shop.svc.home.arpa SRV", "_http._tcp.web.shop.svc.home.arpa. SRV 0 100 80 web.shop.svc.home.arpa.; web.shop.svc.home.arpa. A " + web},
		{"_http._tcp.db.default.svc.home.arpa SRV", "_http._tcp.db.default.svc.home.arpa. SRV 0 50 8080 db-0.db.default.svc.home.arpa.; _http._tcp.db.default.svc.home.arpa. SRV 0 50 8080 db-1.db.default.svc.home.arpa.; db-0.db.default.svc.home.arpa. A " + db0 + "; db-1.db.default.svc.home.arpa. A " + db1},
		{"-x " + web, reverseName(web) + " PTR web.shop.svc.home.arpa."},
		{"-x " + db1, reverseName(db1) + " PTR db-1.db.default.svc.home.arpa."},
		{"-x 10.96.0.10", reverseName("10.96.0.10") + " PTR kube-dns.kube-system.svc.home.arpa."},
		{"+search printer", "printer.default.svc.home.arpa. CNAME printer.office.example.; printer.office.example. A 192.0.2.7"},
		{"printer.office.example", "printer.office.example. A 192.0.2.7"},
		{"note.office.example TXT", `note.office.example. TXT "one; two"`},
		{"dns-version.home.arpa TXT", `dns-version.home.arpa. TXT "1.1.0"`},
		{"host.corp.example", "host.corp.example. A 192.0.2.80"},
		{"elsewhere.example", "elsewhere.example. A 192.0.2.80"},
		{"web.default.svc.home.arpa", "NXDOMAIN"},
		{"db-2.db.default.svc.home.arpa", "NXDOMAIN"},
		{"nope.home.arpa", "NXDOMAIN"},
		{"-x 10.244.255.1", "NXDOMAIN"},
		{"default.svc.home.arpa", "NOERROR"},
	} {
		if got := r.answers(strings.Fields(tt.ask)...); got != tt.want {
			t.Errorf("dig %s:\n got %s\nwant %s", tt.ask, got, tt.want)
		}
	}
	nearest(t, s)
	t.Logf("microseconds from a pod to the server of its node, median, 99th of a hundred, longest: %s",
		strings.TrimSpace(s.exec("db-0", "/app", "asks", "10.96.0.10:53", "web.shop.svc.home.arpa", "2000")))

	// A pod that comes is known to the servers of all nodes when the apply has ended: nobody waits.
	s.apply("--var", "replicas=3")
	db2 := s.pods("app=db")[2].Status.PodIP
	for _, n := range s.podsIn("shop", "app=web") {
		if got, want := s.resolverOf(t, "shop", n.Name).answers("db-2.db.default.svc.home.arpa"), "db-2.db.default.svc.home.arpa. A "+db2; got != want {
			t.Errorf("on %s the new pod's name is answered with %s, want %s", n.Spec.NodeName, got, want)
		}
	}

	// A change of the servers themselves is not noticed: each new one answers before the old one goes.
	asking := s.start("exec", "db-0", "--", "/app", "asks", "10.96.0.10:53", "web.shop.svc.home.arpa", "1500", "10ms")
	s.write("main.hcl", strings.Replace(s.read("main.hcl"), `"192.0.2.7"`, `"192.0.2.8"`, 1))
	s.apply("--var", "replicas=3")
	if got := r.answers("printer.office.example"); got != "printer.office.example. A 192.0.2.8" {
		t.Errorf("after the record was changed: %s", got)
	}
	if out := asking.wait(t); out.code != 0 {
		t.Errorf("a pod that asked all the time:\n%s", out)
	}

	// Records that were changed by hand are seen and written again.
	n := s.lab.Nodes()[0]
	sh(t, t.Context(), n, "rm /var/lib/berth/dns/records/shop_web.json; echo x >/var/lib/berth/dns/records/shop_stray.json")
	s.says(s.ok("plan", "--var", "replicas=3"), "DNS records are missing or changed on "+n.Name)
	s.apply("--var", "replicas=3")
	s.settled("--var", "replicas=3")

	// A host that reboots has its server back with its other pods.
	if err := n.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.apply("--var", "replicas=3")
	for _, p := range s.podsIn("shop", "app=web") {
		if p.Spec.NodeName == n.Name {
			if got, want := s.resolverOf(t, "shop", p.Name).answers("+search", "web"), "web.shop.svc.home.arpa. A "+web; got != want {
				t.Errorf("on %s after its reboot: %s, want %s", n.Name, got, want)
			}
		}
	}
	if got := sh(t, t.Context(), n, "ls /var/lib/berth/dns/records"); got != "default_db.json\ndefault_printer.json\nkube-system_kube-dns.json\nshop_web.json" {
		t.Errorf("records on %s:\n%s", n.Name, got)
	}
}

// nearest checks that pods ask the server of their own node and no other.
func nearest(t *testing.T, s *story) {
	t.Helper()
	for _, p := range s.podsIn("shop", "app=web") {
		server := ""
		for _, d := range s.podsIn("kube-system", "") {
			if d.Spec.NodeName == p.Spec.NodeName {
				server = d.Status.PodIP
			}
		}
		rules := sh(t, t.Context(), s.lab.Node(p.Spec.NodeName), `iptables-save -t nat | grep 'kube-system/kube-dns:dns"' | grep -o 'to-destination .*'`)
		if want := "to-destination " + server + ":53"; rules != want {
			t.Errorf("on %s names are asked for at %q, want %q alone", p.Spec.NodeName, rules, want)
		}
	}
}

func reverseName(ip string) string {
	f := strings.Split(ip, ".")
	slices.Reverse(f)
	return strings.Join(f, ".") + ".in-addr.arpa."
}

// dnsOutside is a DNS server outside of the cluster, on this machine, that knows every name and gives it one address.
func dnsOutside(t *testing.T, l *lab.Lab) string {
	t.Helper()
	return dnsServer(t, net.JoinHostPort(l.Gateway(), "0"))
}

func dnsServer(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		if r.Question[0].Qtype == dns.TypeA {
			rr, err := dns.NewRR(r.Question[0].Name + " 60 IN A 192.0.2.80")
			if err != nil {
				t.Error(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m) // who has asked may be gone
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(), <-ended); err != nil {
			t.Error(err)
		}
	})
	return conn.LocalAddr().String()
}
