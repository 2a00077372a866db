package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/internal/lab"
)

// Two workloads behind one label listen on different ports of the same name; VIPS is an address range.
const manyServices = `
berth {
  cluster {
    name = "services"

    dns {
    }

    load_balancer "lab" {
      addresses = ["VIPS"]
    }
  }
}

variable "one" {
  type    = number
  default = 1
}

workload "deployment" "one" {
  labels        = { app = "web", part = "one" }
  replicas      = var.one
  node_selector = { "kubernetes.io/hostname" = "n1" }

  container "app" {
    image = image.app.ref
    env   = { DRAIN = "1s" }

    port "http" {
      container_port = 8080
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

workload "deployment" "two" {
  labels        = { app = "web", part = "two" }
  node_selector = { "kubernetes.io/hostname" = "n2" }

  container "app" {
    image = image.app.ref
    env   = { ADDR = ":9090", DRAIN = "1s" }

    port "http" {
      container_port = 9090
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

  container "udp" {
    image = image.app.ref
    args  = ["hear", ":5353"]

    port "hear" {
      container_port = 5353
      protocol       = "UDP"
    }

    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10

      tcp_socket {
        port = 5353
      }
    }
  }
}

workload "deployment" "far" {
  labels        = { part = "far" }
  node_selector = { "kubernetes.io/hostname" = "n3" }

  container "app" {
    image = image.app.ref
  }
}

workload "deployment" "nobody" {
  labels   = { app = "nobody" }
  replicas = 0

  container "app" {
    image = image.app.ref
  }
}

service "web" {
  type     = "LoadBalancer"
  selector = { app = "web" }

  port "http" {
    port        = 80
    target_port = "http"
    node_port   = 30180
  }

  port "hear" {
    port        = 53
    target_port = "hear"
    protocol    = "UDP"
    node_port   = 30153
  }
}

service "seen" { # pods see who asks
  type                    = "LoadBalancer"
  selector                = { part = "two" }
  external_traffic_policy = "Local"

  port "http" {
    port        = 80
    target_port = "http"
    node_port   = 30181
  }
}

service "sticky" {
  selector         = { app = "web" }
  session_affinity = "ClientIP"

  port "http" {
    port        = 80
    target_port = "http"
  }
}

service "inside" {
  selector                = { part = "two" }
  internal_traffic_policy = "Local"

  port "http" {
    port        = 80
    target_port = "http"
  }
}

service "nobody" {
  type     = "NodePort"
  selector = { app = "nobody" }

  port "http" {
    port      = 80
    node_port = 30182
  }
}

service "written" {
  port "ssh" {
    port = 22
  }
}

endpoint_slice "written" {
  labels       = { "kubernetes.io/service-name" = "written" }
  address_type = "IPv4"

  endpoint {
    addresses = [node.n3.address]
  }

  port {
    name = "ssh"
    port = 22
  }
}
`

// freeAddresses is a range of the lab's network that no host has.
func freeAddresses(l *lab.Lab) string {
	p, _, _ := strings.Cut(l.Subnet(), ".0/24")
	return p + ".240-" + p + ".249"
}

// service returns a service as `berth get` shows it.
func (s *story) service(name string) corev1.Service {
	s.t.Helper()
	var v corev1.Service
	out := s.ok("get", "service", name, "-o", "json")
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatalf("get service: %v\n%s", err, out)
	}
	return v
}

// curl asks with the real curl, from the machine or on a host.
func curl(ctx context.Context, on *lab.Node, url string, more ...string) (string, error) {
	args := append([]string{"curl", "-sS", "--max-time", "30", url}, more...)
	var out string
	var err error
	if on != nil {
		out, err = on.Exec(ctx, args...)
	} else {
		var text []byte
		text, err = exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		out = string(text)
	}
	if err != nil && strings.Contains(out+err.Error(), "curl: (7)") { // its words for it: who waits in vain hears another number
		err = fmt.Errorf("refused: %w", err)
	}
	return out, err
}

// Every kind of service, each asked from a pod, from a node and from outside; then from one network only, after a reboot, and while it changes.
func TestServices(t *testing.T) {
	l := theLab(t)
	dnsServer(t, net.JoinHostPort(l.Gateway(), "53")) // the one in the hosts' resolv.conf
	s := begin(t, strings.ReplaceAll(manyServices, "VIPS", freeAddresses(l)))
	plan := s.ok("plan")
	s.says(plan, "Reachable from outside that was not:", "service.web: UDP 30153 on "+l.Node("n1").Address+" (n1), "+l.Node("n2").Address+" (n2)", "by load balancer")
	s.apply()
	s.settled()
	in := s.pods("part=one")[0].Name
	n1, n2, n3 := l.Node("n1"), l.Node("n2"), l.Node("n3")
	web, seen := s.service("web"), s.service("seen")
	webIP, seenIP := web.Status.LoadBalancer.Ingress[0].IP, seen.Status.LoadBalancer.Ingress[0].IP
	s.says(plan, fmt.Sprintf("service.seen: TCP %d on ", seen.Spec.HealthCheckNodePort), "by health check port")
	reachServices(t, s, map[string]string{"n1": n1.Address, "n2": n2.Address, "n3": n3.Address})
	t.Run("names of others", func(t *testing.T) {
		if got, want := s.resolverOf(t, "default", in).answers("+search", "elsewhere.example"), "elsewhere.example. A 192.0.2.80"; got != want {
			t.Errorf("by the resolvers of the node: %s, want %s", got, want)
		}
	})
	t.Run("written endpoints", func(t *testing.T) {
		c, err := n1.Exec(t.Context(), "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/22 && timeout 60 head -c 4 <&3", s.service("written").Spec.ClusterIP))
		if err != nil || c != "SSH-" {
			t.Errorf("sshd of n3 by a service: %q, %v", c, err)
		}
		s.says(s.ok("get", "endpoints", "written"), n3.Address+":22")
	})
	t.Run("look", func(t *testing.T) {
		s.says(s.ok("get", "services"), "web LoadBalancer "+web.Spec.ClusterIP+" "+webIP+" 80:30180/TCP,53:30153/UDP")
		s.says(s.ok("describe", "service", "seen"), "LoadBalancer Ingress: "+seenIP, "Held By: n2", "External Traffic Policy: Local", fmt.Sprint("HealthCheck NodePort: ", seen.Spec.HealthCheckNodePort))
	})
	t.Run("net", func(t *testing.T) {
		s.says(s.ok("net", "check"), "node to node 6 of 6", "pod to pod 6 of 6")
		s.says(s.ok("net", "trace", in, "web:http"), "50 %", "pod two-", "through VXLAN (berth.1, UDP 8472) to "+n2.Address)
		s.says(s.ok("net", "trace", in, "nobody"), "Refused on n1", "has no endpoints")
		sh(t, t.Context(), n2, "iptables -I INPUT -p udp --dport 8472 -j DROP")
		o := s.run("net", "check")
		sh(t, t.Context(), n2, "iptables -D INPUT -p udp --dport 8472 -j DROP")
		if o.code != 1 {
			t.Errorf("exit code %d with VXLAN blocked", o.code)
		}
		s.says(o.stdout, "node to node 6 of 6", "Broken: pod to pod, n1 -> n2", "let UDP 8472 through between n1 and n2")
		if strings.Contains(o.stdout, "pod to pod, n1 -> n3") {
			t.Errorf("a way that is open counts as broken:\n%s", o)
		}
	})
	t.Run("proxy", func(t *testing.T) {
		r := s.start("proxy", "--listen", "127.0.0.1:0")
		r.until(t, "SOCKS proxy on ", 1)
		at := strings.TrimSuffix(strings.Fields(r.stdout.String())[3], ".")
		for _, name := range []string{"web", "web.default", "web.default.svc.cluster.local"} {
			out, err := exec.CommandContext(t.Context(), "curl", "-sS", "--max-time", "30", "--proxy", "socks5h://"+at, "http://"+name+"/").CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), "1 ") {
				t.Errorf("%s: %q, %v", name, out, err)
			}
		}
		if err := r.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if o := r.wait(t); o.code != 0 {
			t.Errorf("proxy: %s", o)
		}
	})
	t.Run("reboot", func(t *testing.T) {
		if err := n2.Reboot(t.Context()); err != nil { // it holds an address, and its pods are gone
			t.Fatal(err)
		}
		if got, err := n2.Exec(t.Context(), "ip", "-4", "-o", "addr", "show", "to", seenIP); err != nil || got == "" {
			t.Errorf("the address is not back: %q, %v", got, err)
		}
		if got, err := curl(t.Context(), nil, "http://"+n3.Address+":30180/", "--max-time", "3"); err != nil && !strings.Contains(got, "timed out") && !strings.Contains(got, "refused") {
			t.Errorf("by n3: %q, %v", got, err)
		}
		s.apply()
		if got, err := curl(t.Context(), nil, "http://"+seenIP+"/"); err != nil {
			t.Errorf("after its pods are back: %q, %v", got, err)
		}
		s.settled()
	})
	t.Run("the holder leaves", func(t *testing.T) {
		s.says(s.ok("describe", "service", "seen"), "Held By: n2")
		s.write("main.hcl", strings.ReplaceAll(strings.ReplaceAll(manyServices, "VIPS", freeAddresses(l)), `"kubernetes.io/hostname" = "n2"`, `"kubernetes.io/hostname" = "n3"`))
		load := []client{startClient(t, "once", exec.CommandContext(t.Context(), programs.app, "load", "http://"+seenIP+"/", "once"))}
		s.says(s.apply(), "its address moves from n2 to n3")
		s.says(s.ok("describe", "service", "seen"), "Held By: n3")
		noneFailed(t, load, "1")
		s.settled()
	})
}

// reachServices asks services of every kind from a pod, from a node and from outside. The nodes have these addresses.
func reachServices(t *testing.T, s *story, at map[string]string) {
	t.Helper()
	var in string
	for _, p := range s.pods("part=one") {
		in = p.Name
	}
	n1, n2, n3 := s.lab.Node("n1"), s.lab.Node("n2"), s.lab.Node("n3")
	udp := tool(t, n3)
	web, seen := s.service("web"), s.service("seen")
	if len(web.Status.LoadBalancer.Ingress) != 1 || len(seen.Status.LoadBalancer.Ingress) != 1 {
		t.Fatalf("no addresses: %+v, %+v", web.Status, seen.Status)
	}
	webIP, seenIP := web.Status.LoadBalancer.Ingress[0].IP, seen.Status.LoadBalancer.Ingress[0].IP

	from := map[string]func(url string) (string, error){
		"a pod": func(url string) (string, error) {
			o := s.run("exec", in, "-c", "app", "--", "/app", "get", url)
			return o.stdout + o.stderr, codeError(o.code)
		},
		"a node":     func(url string) (string, error) { return curl(t.Context(), n3, url) },
		"outside":    func(url string) (string, error) { return curl(t.Context(), nil, url) },
		"in a hurry": func(url string) (string, error) { return curl(t.Context(), nil, url, "--max-time", "3") },
	}
	for _, c := range []struct {
		what, url string
		from      []string
		want      string // how the answer begins, or with ! what the error says
	}{
		{"cluster IP", "http://" + web.Spec.ClusterIP + "/", []string{"a pod", "a node"}, "1 "},
		{"load balancer", "http://" + webIP + "/", []string{"a pod", "a node", "outside"}, "1 "},
		{"node port", "http://" + at["n3"] + ":30180/", []string{"a pod", "a node", "outside"}, "1 "},
		{"node port with the policy Local", "http://" + at["n2"] + ":30181/", []string{"a pod", "a node", "outside"}, "1 two-"},
		{"node port with the policy Local, no pod there", "http://" + at["n1"] + ":30181/", []string{"in a hurry"}, "!timed out"},
		{"load balancer with the policy Local", "http://" + seenIP + "/", []string{"a pod", "a node", "outside"}, "1 two-"},
		{"nobody behind it", "http://" + s.service("nobody").Spec.ClusterIP + "/", []string{"a pod", "a node"}, "!refused"},
		{"nobody behind its node port", "http://" + at["n1"] + ":30182/", []string{"a node", "outside"}, "!refused"},
	} {
		for _, who := range c.from {
			got, err := from[who](c.url)
			want, fails := strings.CutPrefix(c.want, "!")
			if fails && (err == nil || !strings.Contains(strings.ToLower(got+err.Error()), want)) || !fails && (err != nil || !strings.HasPrefix(got, want)) {
				t.Errorf("%s from %s: %q, %v; want %q", c.what, who, got, err, c.want)
			}
		}
	}
	t.Run("both answer", func(t *testing.T) {
		some := map[string]bool{}
		for range 40 {
			got, err := curl(t.Context(), nil, "http://"+webIP+"/")
			if err != nil {
				t.Fatal(got, err)
			}
			some[strings.Fields(got)[1][:4]] = true
		}
		if !some["one-"] || !some["two-"] {
			t.Errorf("only %v, although ports of one name differ", some)
		}
	})
	t.Run("who asks", func(t *testing.T) {
		for _, url := range []string{"http://" + seenIP + "/from", "http://" + at["n2"] + ":30181/from"} {
			if got, err := curl(t.Context(), nil, url); err != nil || strings.TrimSpace(got) != s.lab.Gateway() {
				t.Errorf("%s: the pod sees %q, %v; want %s", url, got, err, s.lab.Gateway())
			}
		}
		if got, err := curl(t.Context(), n1, "http://"+s.service("inside").Spec.ClusterIP+"/", "--max-time", "3"); err == nil {
			t.Errorf("a service for its own node is reached from another: %q", got)
		}
		if got, err := curl(t.Context(), n2, "http://"+s.service("inside").Spec.ClusterIP+"/"); err != nil {
			t.Errorf("a service for its own node: %q, %v", got, err)
		}
	})
	t.Run("health check", func(t *testing.T) {
		port := seen.Spec.HealthCheckNodePort
		for _, tt := range []struct {
			node *lab.Node
			want string
		}{
			{n1, `503 {"service":{"namespace":"default","name":"seen"},"localEndpoints":0,"serviceProxyHealthy":true}`},
			{n2, `200 {"service":{"namespace":"default","name":"seen"},"localEndpoints":1,"serviceProxyHealthy":true}`},
		} {
			url := fmt.Sprintf("http://%s:%d/healthz", at[tt.node.Name], port)
			for _, on := range []*lab.Node{nil, n1, n2, n3} {
				if got, err := curl(t.Context(), on, url, "-w", "%{http_code}"); err != nil || got != tt.want[4:]+"\n"+tt.want[:3] {
					t.Errorf("%s: %q, %v; want %q", url, got, err, tt.want)
				}
			}
		}
	})
	t.Run("affinity", func(t *testing.T) {
		some := map[string]bool{}
		for range 20 {
			got, err := curl(t.Context(), n3, "http://"+s.service("sticky").Spec.ClusterIP+"/")
			if err != nil {
				t.Fatal(got, err)
			}
			some[got] = true
		}
		if len(some) != 1 {
			t.Errorf("one client went to %v", some)
		}
	})
	t.Run("UDP", func(t *testing.T) {
		for _, at := range []string{net.JoinHostPort(web.Spec.ClusterIP, "53"), net.JoinHostPort(at["n1"], "30153"), net.JoinHostPort(webIP, "53")} {
			if got, err := udp("send", at, "4053"); err != nil || !strings.HasPrefix(got, "1 two-") {
				t.Errorf("%s: %q, %v", at, got, err)
			}
		}
	})
}

func codeError(code int) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("exit code %d", code)
}
