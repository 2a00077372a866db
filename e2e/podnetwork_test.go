package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// onEachNode is a pod per node with a port of the node's, behind a service.
const onEachNode = `
workload "daemonset" "web" {
  labels = { app = "web" }

  container "app" {
    image = image.app.ref

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
  selector = { app = "web" }

  port "http" {
    port        = 80
    target_port = "http"
  }
}

output "ip" {
  value = service.web.cluster_ip
}
`

// Who asks is seen as it is: pods by pods of other nodes, the node outside of the cluster alone. A pod's port of the node is reached from
// outside and from the node. Packets are as large as the devices below allow, not larger.
func TestPodNetwork(t *testing.T) {
	t.Parallel() // its parts wait for hosts beside all others
	for _, mode := range []struct {
		name string
		mtu  int
	}{{"vxlan", 1450}, {"host-gw", 1500}} {
		t.Run(mode.name, func(t *testing.T) {
			s := begin(t, fmt.Sprintf("berth {\n  cluster {\n    network = %q\n  }\n}\n", mode.name)+onEachNode)
			s.apply()
			pods := s.pods("app=web")
			a, b := pods[0], pods[1]
			if got := strings.TrimSpace(s.exec(a.Name, "/app", "get", "http://"+b.Status.PodIP+":8080/from")); got != a.Status.PodIP {
				t.Errorf("a pod asks a pod of another node as %s, want %s", got, a.Status.PodIP)
			}
			outside, asked := whoAsks(t, s.lab.Nodes()[0].Address)
			s.exec(a.Name, "/app", "get", outside)
			if got, want := <-asked, s.lab.Node(a.Spec.NodeName).Address; got != want {
				t.Errorf("outside of the cluster a pod asks as %s, want its node's %s", got, want)
			}
			for _, p := range pods {
				node := s.lab.Node(p.Spec.NodeName)
				body, err := fetch(t.Context(), "http://"+node.Address+":8085/")
				if err != nil || body != "1 "+p.Name {
					t.Errorf("the port of %s: %q, %v; want that of %s", node.Name, body, err, p.Name)
				}
				if got, err := tool(t, node)("get", "http://"+node.Address+":8085/"); err != nil || strings.TrimSpace(got) != "1 "+p.Name {
					t.Errorf("the port of %s from there: %q, %v", node.Name, got, err)
				}
			}
			for size, want := range map[int]string{mode.mtu: "arrived", mode.mtu + 1: "too large"} {
				if got := strings.TrimSpace(s.exec(a.Name, "/app", "reach", b.Status.PodIP+":9", fmt.Sprint(size))); got != want {
					t.Errorf("a packet of %d bytes to a pod of another node: %s, want %s", size, got, want)
				}
			}
		})
	}
}

// Another CNI stays what it is: pods get its network, and services lead to them.
func TestOtherCNI(t *testing.T) {
	s := begin(t, "berth {\n  cluster {\n    network  = \"none\"\n    pod_cidr = \"10.50.0.0/16\"\n  }\n}\n"+onEachNode)
	const file = "/etc/cni/net.d/05-other.conflist"
	nodes := s.lab.Nodes()
	before := map[string]string{}
	for i, n := range nodes {
		script := fmt.Sprintf(`mkdir -p /etc/cni/net.d && cat >%s <<X
{"cniVersion":"0.4.0","name":"other","plugins":[{"type":"bridge","bridge":"other0","isGateway":true,"hairpinMode":true,
"ipam":{"type":"host-local","ranges":[[{"subnet":"10.50.%d.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
{"type":"portmap","capabilities":{"portMappings":true}}]}
X
`, file, i+1)
		for j, peer := range nodes {
			if i != j {
				script += fmt.Sprintf("ip route add 10.50.%d.0/24 via %s\n", j+1, peer.Address)
			}
		}
		sh(t, t.Context(), n, script)
		afterwards(t, n, fmt.Sprintf(`rm -f %s; ip link del other0 2>/dev/null; rm -rf /var/lib/cni/networks/other; ip route | grep '^10\.50' | while read -r r; do ip route del $r; done; iptables -t nat -S | grep -q CNI-DN || true`, file))
		before[n.Name] = sh(t, t.Context(), n, "cat "+file+"; ip route show table all | grep 10.50")
	}
	// Its own destroy comes before what was put on the hosts goes.
	cleanup(t, func(ctx context.Context) error {
		if out := s.do(ctx, "destroy", "--auto-approve"); out.code != 0 {
			return errors.New(out.String())
		}
		return nil
	})
	s.apply()
	s.settled()
	ip := strings.TrimSpace(s.ok("output", "-raw", "ip"))
	for _, p := range s.pods("app=web") {
		if !strings.HasPrefix(p.Status.PodIP, "10.50.") {
			t.Errorf("%s has the address %s, which the other CNI has not given", p.Name, p.Status.PodIP)
		}
		if got := s.exec(p.Name, "/app", "get", "http://"+ip+"/"); !strings.HasPrefix(got, "1 web-") {
			t.Errorf("from %s to the service: %q", p.Name, got)
		}
	}
	for _, n := range nodes {
		if got := sh(t, t.Context(), n, "cat "+file+"; ip route show table all | grep 10.50 | grep -v other0"); got != before[n.Name] {
			t.Errorf("the other CNI on %s was changed:\n%s\nwas\n%s", n.Name, got, before[n.Name])
		}
		if got := sh(t, t.Context(), n, "ls /etc/cni/net.d; ip -o link | grep -c berth || true"); got != "05-other.conflist\n0" {
			t.Errorf("on %s there is something of a network of ours:\n%s", n.Name, got)
		}
	}
}

// whoAsks serves on this machine, outside of the cluster, and tells the addresses of those that ask.
func whoAsks(t *testing.T, beside string) (url string, asked <-chan string) {
	t.Helper()
	gateway := netip.MustParseAddr(beside).As4()
	gateway[3] = 1
	ln, err := net.Listen("tcp", netip.AddrPortFrom(netip.AddrFrom4(gateway), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	from := make(chan string, 16)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		from <- host
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return "http://" + ln.Addr().String() + "/", from
}
