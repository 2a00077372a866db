package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/internal/lab"
)

// intoSubnet puts a host into another subnet than its lab's, behind a router, until the test ends, and returns its address there. Call it
// before begin: the story's end still needs it.
func intoSubnet(t *testing.T, l *lab.Lab, name string) string {
	t.Helper()
	part := strings.Split(l.Gateway(), ".") // 10.A.B.1
	old, far := l.Node(name).Address, fmt.Sprintf("172.20.%s", part[2])
	near := strings.Join(part[:3], ".")
	router, bridge := fmt.Sprintf("t-router-%d-%s", os.Getpid(), part[2]), ""
	if out, err := exec.CommandContext(t.Context(), "ip", "-4", "-o", "addr", "show", "to", l.Gateway()).Output(); err == nil && len(out) > 0 {
		bridge = strings.Fields(string(out))[1]
	} else {
		t.Fatalf("the lab's bridge: %v", err)
	}
	script := func(ctx context.Context, text string) error {
		out, err := exec.CommandContext(ctx, "sh", "-c", "set -eu\n"+text).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	values := strings.NewReplacer("ROUTER", router, "BRIDGE", bridge, "CABLE", bridge+"-r", "NEAR", near, "FAR", far, "OLD", old)
	cleanup(t, func(ctx context.Context) error {
		return script(ctx, values.Replace(`ip route del FAR.0/24 || :; ip netns pids ROUTER | xargs -r kill; ip link del CABLE; ip netns del ROUTER`))
	})
	// Redirects would tell hosts of a shorter way past the router.
	if err := script(t.Context(), values.Replace(`
		ip netns add ROUTER
		ip link add CABLE type veth peer name eth0 netns ROUTER
		ip link set CABLE master BRIDGE up
		ip -n ROUTER addr add NEAR.254/24 dev eth0
		ip -n ROUTER addr add FAR.1/24 dev eth0
		ip -n ROUTER link set eth0 up
		ip netns exec ROUTER sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >$f; done'
		ip route add FAR.0/24 via NEAR.254
	`)); err != nil {
		t.Fatal(err)
	}
	for _, n := range l.Nodes() {
		if n.Name == name {
			sh(t, t.Context(), n, values.Replace(`ip addr add FAR.13/24 dev eth0; ip addr del OLD/24 dev eth0; ip route replace default via FAR.1`))
			afterwards(t, n, values.Replace(`ip addr add OLD/24 dev eth0; ip addr del FAR.13/24 dev eth0; ip route replace default via NEAR.1`))
			continue
		}
		sh(t, t.Context(), n, values.Replace(`ip route add FAR.0/24 via NEAR.254`))
		afterwards(t, n, values.Replace(`ip route del FAR.0/24`))
	}
	return far + ".13"
}

// moved tells the story that a host has another address than its lab says.
func (s *story) moved(from, to string) {
	s.t.Helper()
	known, err := os.ReadFile(s.lab.KnownHosts())
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("known_hosts", strings.ReplaceAll(string(known), from, to))
	text, err := os.ReadFile(s.lab.Inventory())
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("nodes.toml", strings.NewReplacer(from, to, s.lab.KnownHosts(), s.dir+"/known_hosts").Replace(string(text)))
	s.write("inventory.hcl", "inventory \"toml\" {\n  path = \"nodes.toml\"\n}\n")
}

// others are the rules that docker and ufw leave on a host: both forward nothing of what they do not know.
const others = `iptables -P FORWARD DROP
iptables -N DOCKER; iptables -N DOCKER-USER; iptables -N DOCKER-ISOLATION-STAGE-1; iptables -t nat -N DOCKER
iptables -A DOCKER-USER -j RETURN
iptables -A FORWARD -j DOCKER-USER
iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A POSTROUTING -s 172.31.0.0/16 ! -o docker0 -j MASQUERADE
iptables -N ufw-before-input; iptables -N ufw-before-forward; iptables -N ufw-reject-input
iptables -A INPUT -j ufw-before-input; iptables -A FORWARD -j ufw-before-forward; iptables -A INPUT -j ufw-reject-input
iptables -A ufw-before-input -i lo -j ACCEPT
iptables -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A ufw-before-input -p icmp -j ACCEPT
iptables -A ufw-before-input -p tcp --dport 22 -j ACCEPT
iptables -A ufw-before-input -p udp --dport 8472 -j ACCEPT
iptables -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -s 192.0.2.0/24 -m comment --comment "a rule of the user's" -j ACCEPT
iptables -P INPUT DROP`

// withoutOurs are all rules but those of chains of ours and the jumps to them.
const withoutOurs = `iptables-save | sed -e '/^#/d' -e 's/\[[0-9:]*\]//' -e '/BERTH/d' -e '/CNI-/d'`

// Nodes in two subnets, with other people's rules on one: every kind of service is reached as in one subnet, names are answered, pods talk across
// the router at full speed of what lies below, and the rules of others are the same bytes as before, also when ours have gone.
func TestServicesInTwoSubnets(t *testing.T) {
	l := theLab(t)
	n1, n2, n3 := l.Node("n1"), l.Node("n2"), l.Node("n3")
	farAddress := intoSubnet(t, l, "n3")
	flush := `iptables -P FORWARD ACCEPT; iptables -P INPUT ACCEPT; iptables -F; iptables -t nat -F; iptables -X; iptables -t nat -X`
	sh(t, t.Context(), n2, others)
	afterwards(t, n2, flush)
	before := sh(t, t.Context(), n2, withoutOurs)
	afterwards(t, n2, withoutOurs+` | cmp - /run/rules-before`)
	sh(t, t.Context(), n2, withoutOurs+` >/run/rules-before`)

	config := strings.ReplaceAll(manyServices, "VIPS", freeAddresses(l))
	s := begin(t, config)
	s.moved(n3.Address, farAddress)
	s.apply()
	s.settled()
	reachServices(t, s, map[string]string{"n1": n1.Address, "n2": n2.Address, "n3": farAddress})
	if now := sh(t, t.Context(), n2, withoutOurs); now != before {
		t.Errorf("rules of others were\n%s\nand are\n%s", before, now)
	}
	t.Run("names", func(t *testing.T) {
		web := s.service("web")
		for _, p := range s.pods("app=web") {
			if got, want := s.resolverOf(t, "default", p.Name).answers("+search", "web"), "web.default.svc.cluster.local. A "+web.Spec.ClusterIP; got != want {
				t.Errorf("from %s: %s, want %s", p.Name, got, want)
			}
		}
	})
	s.says(s.ok("net", "check"), "node to node 6 of 6", "pod to pod 6 of 6")
	s.write("main.hcl", config+iperf)
	s.apply()
	t.Run("iperf3", func(t *testing.T) { throughput(t, s, "part=one", "part=far") })
}

const iperf = `
service "iperf" {
  selector = { part = "far" }

  port "iperf" {
    port = 5201
  }
}
`

// throughput sends as much as goes from a pod to one of another node, through its service, and expects something to arrive.
func throughput(t *testing.T, s *story, from, to string) {
	t.Helper()
	client, server := s.pods(from)[0], s.pods(to)[0]
	in := func(pod, uid, command string) []string {
		return []string{"sh", "-c", `pid=$(grep -l "pod$1" /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3 | head -n 1); shift; exec nsenter -t $pid -n -- ` + command, "sh", uid}
	}
	serve, err := s.lab.Node(server.Spec.NodeName).Command(t.Context(), in(server.Name, string(server.UID), "iperf3 -s -1 -p 5201")...)
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { serve.Process.Kill(); serve.Wait() })
	address := s.service("iperf").Spec.ClusterIP
	poll(t, 30*time.Second, "iperf3 has measured", func() bool {
		out, err := s.lab.Node(client.Spec.NodeName).Exec(t.Context(), in(client.Name, string(client.UID), "iperf3 -J -t 1 -p 5201 -c "+address)...)
		var r struct {
			End struct {
				Received struct {
					Rate float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
		}
		if err != nil || json.Unmarshal([]byte(out), &r) != nil {
			return false
		}
		t.Logf("%.2f Gbit/s from %s to %s", r.End.Received.Rate/1e9, client.Spec.NodeName, server.Spec.NodeName)
		return r.End.Received.Rate > 1e6
	})
}
