package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
)

const encrypted = `
berth {
  cluster {
    network       = "wireguard"
    pod_cidrs     = [` + pods4 + `, ` + pods6 + `]
    service_cidrs = [` + services4 + `, ` + services6 + `]
  }
}
` + onEachNode

// userspace gives a host whose kernel has no WireGuard the program wireguard-go in its place, as wg-quick does: what Berth's scripts do with
// the device, its keys and peers, and what goes over the wire, is the same.
func userspace(t *testing.T, n *lab.Node) {
	t.Helper()
	afterwards(t, n, "rm -f /usr/local/sbin/ip /usr/local/sbin/modprobe; rmdir /run/wireguard 2>/dev/null || true")
	sh(t, t.Context(), n, `ip=$(command -v ip)
cat >/usr/local/sbin/ip <<X
#!/bin/sh
case "\$*" in
"link add berth-wg type wireguard") exec wireguard-go berth-wg </dev/null >/dev/null 2>&1 9>&- ;;
esac
exec $ip "\$@"
X
cat >/usr/local/sbin/modprobe <<X
#!/bin/sh
case "\$*" in *wireguard) exit 0 ;; esac
exit 1
X
chmod 755 /usr/local/sbin/ip /usr/local/sbin/modprobe`)
}

// Between nodes goes nothing that is not encrypted, with keys that never leave their nodes: in both families, while nodes leave and join, after a host
// has come back by itself, and when a key is changed.
func TestWireGuard(t *testing.T) {
	labtest.RequireIPv6(t, theLab(t))
	s := begin(t, encrypted)
	nodes := s.lab.Nodes()
	if sh(t, t.Context(), nodes[0], "if [ -d /sys/module/wireguard ]; then echo kernel; fi") == "" {
		s.fails([]string{"No WireGuard on a host", "n1 cannot encrypt what it sends to other nodes: its kernel has no WireGuard.", "n3 cannot encrypt"}, "plan")
		for _, n := range nodes {
			userspace(t, n)
		}
	}
	w := &guardStory{story: s, t: t}
	n1, n2, n3 := s.lab.Node("n1"), s.lab.Node("n2"), s.lab.Node("n3")
	before := snapshot(t, t.Context(), n1)
	s.inventory(nil, "n1", "n2")
	s.apply()
	s.settled()
	for _, n := range nodes {
		tool(t, n)
	}
	w.encrypted()
	w.sizes()
	keys := w.secret(n1, n2)

	pods := s.pods("app=web")
	s.says(s.ok("net", "trace", "daemonset/web", "web"), "encrypted through WireGuard (berth-wg, UDP 51821) to ")
	s.netOpen()
	sh(t, t.Context(), n2, "iptables -I INPUT -p udp --dport 51821 -j DROP; iptables -I OUTPUT -p udp --dport 51821 -j DROP")
	o := s.run("net", "check")
	sh(t, t.Context(), n2, "iptables -D INPUT -p udp --dport 51821 -j DROP; iptables -D OUTPUT -p udp --dport 51821 -j DROP")
	if o.code != 1 {
		t.Errorf("exit code %d with WireGuard blocked:\n%s", o.code, o)
	}
	s.says(o.stdout, "node to node 4 of 4", "Broken: pod to pod, n1 -> n2", "let UDP 51821 through between n1 and n2")

	// A node joins: the others keep what they have, and learn of it. A key is changed: made anew where it was.
	// That of n1 has no end of line from now on, as with one put there by hand.
	sh(t, t.Context(), n1, `key=$(cat /var/lib/berth/network/wireguard.key); printf %s "$key" >/var/lib/berth/network/wireguard.key`)
	sh(t, t.Context(), n2, "rm /var/lib/berth/network/wireguard.key")
	s.inventory(nil, "n1", "n2", "n3")
	s.says(s.ok("plan"), "its key has changed", "joins the cluster")
	s.apply()
	s.settled()
	if now := w.secret(n1, n2, n3); now["n1"] != keys["n1"] || now["n2"] == keys["n2"] {
		t.Error("n1 has another key, or n2 has the same one")
	}
	if len(s.pods("app=web")) != len(pods)+1 {
		t.Error("no pod on the node that joined")
	}
	w.encrypted()

	// A host comes back by itself.
	if err := n1.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask := tool(t, n1)
	for _, p := range s.pods("app=web") {
		if p.Spec.NodeName == "n1" {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			w.comes("from the host that was rebooted to "+ip.IP, func() (string, error) { return ask("get", pageOf(ip.IP, 8080)) }, "1 "+p.Name)
		}
	}
	s.inventory(nil, "n1", "n3")
	s.apply() // n2 leaves
	s.settled()
	if got := sh(t, t.Context(), n1, "wg show berth-wg peers | wc -l"); got != "1" {
		t.Errorf("n1 has %s peers, want n3 alone", got)
	}
	if left := traces(t, t.Context(), n2); left != "" {
		t.Errorf("left on n2:\n%s", left)
	}
	w.encrypted()
	s.ok("destroy", "--auto-approve")
	after := snapshot(t, t.Context(), n1)
	for _, section := range []string{"links", "addresses", "routes", "rules", "sysctls", "contents"} {
		if before[section] != after[section] {
			t.Errorf("%s are not as before:\n%s", section, difference(map[string]string{section: before[section]}, map[string]string{section: after[section]}))
		}
	}
}

type guardStory struct {
	*story
	t *testing.T
}

// comes waits until an answer comes that begins so.
func (w *guardStory) comes(what string, ask func() (string, error), want string) {
	w.t.Helper()
	var got string
	var err error
	for deadline := time.Now().Add(deadline); ; time.Sleep(50 * time.Millisecond) {
		if got, err = ask(); err == nil && strings.HasPrefix(got, want) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Errorf("%s: %q, %v; want %q", what, got, err, want)
			return
		}
	}
}

// encrypted has every pod ask every other one, by its own addresses and by the service, and counts on all nodes what comes in.
func (w *guardStory) encrypted() {
	w.t.Helper()
	const count = `{ iptables -t raw -$1 PREROUTING -i eth0 -p udp --dport 51821 -m comment --comment sealed
		iptables -t raw -$1 PREROUTING -i eth0 -s 10.244.0.0/16 -m comment --comment open
		iptables -t raw -$1 PREROUTING -i eth0 -d 10.244.0.0/16 -m comment --comment open
		ip6tables -t raw -$1 PREROUTING -i eth0 -s fd00:10:244::/56 -m comment --comment open
		ip6tables -t raw -$1 PREROUTING -i eth0 -d fd00:10:244::/56 -m comment --comment open; }`
	pods := w.pods("app=web")
	for _, p := range pods {
		n := w.lab.Node(p.Spec.NodeName)
		sh(w.t, w.t.Context(), n, strings.ReplaceAll(count, "$1", "A"))
	}
	svc := w.service("web")
	for _, a := range pods {
		var urls, want []string
		for _, b := range pods {
			for i, ip := range b.Status.PodIPs {
				urls, want = append(urls, pageOf(ip.IP, 8080)+"from"), append(want, a.Status.PodIPs[i].IP)
			}
		}
		w.comes("from "+a.Name+" to "+strings.Join(urls, " "), w.get(&a, urls...), strings.Join(want, "\n"))
		w.comes("from "+a.Name+" to the service", w.get(&a, pageOf(svc.Spec.ClusterIP, 80)), "1 web-")
	}
	for _, p := range pods {
		n := w.lab.Node(p.Spec.NodeName)
		seen := sh(w.t, w.t.Context(), n, `{ iptables -t raw -L PREROUTING -nvx; ip6tables -t raw -L PREROUTING -nvx; } | awk '/sealed/ { sealed += $1 } /open/ { open += $1; rules++ } END { print (sealed > 0 ? "sealed" : "nothing"), open + 0, rules }'; `+strings.ReplaceAll(count, "$1", "D"))
		if seen != "sealed 0 4" {
			w.t.Errorf("what comes to %s from other nodes: %q, want encrypted packets and no others", n.Name, seen)
		}
	}
}

func (w *guardStory) get(p *corev1.Pod, urls ...string) func() (string, error) {
	return func() (string, error) { return pagesFrom(w.t, w.lab, p, urls...) }
}

// sizes checks that packets are as large as the encryption leaves room for, not larger.
func (w *guardStory) sizes() {
	w.t.Helper()
	pods := w.pods("app=web")
	for _, ip := range pods[1].Status.PodIPs {
		for size, want := range map[int]string{1440: "arrived", 1441: "too large"} {
			if got := strings.TrimSpace(w.exec(pods[0].Name, "/app", "reach", net.JoinHostPort(ip.IP, "9"), fmt.Sprint(size))); got != want {
				w.t.Errorf("a packet of %d bytes to %s: %s, want %s", size, ip.IP, got, want)
			}
		}
	}
}

// secret checks that private keys are for root alone on their nodes and nowhere else, and returns them.
func (w *guardStory) secret(nodes ...*lab.Node) map[string]string {
	w.t.Helper()
	keys := map[string]string{}
	for _, n := range nodes {
		lines := strings.Fields(sh(w.t, w.t.Context(), n, "stat -c '%a %U' /var/lib/berth/network/wireguard.key; cat /var/lib/berth/network/wireguard.key; echo; wg show berth-wg public-key"))
		if len(lines) != 4 || lines[0] != "600" || lines[1] != "root" {
			w.t.Fatalf("the key of %s: %q", n.Name, lines)
		}
		keys[n.Name] = lines[2]
		if !strings.Contains(w.ok("state", "pull"), lines[3]) {
			w.t.Errorf("the state lacks the public key of %s", n.Name)
		}
	}
	for _, n := range w.lab.Nodes() {
		for owner, key := range keys {
			found := sh(w.t, w.t.Context(), n, "grep -rlF '"+key+"' /var/lib/berth /etc /var/log 2>/dev/null; true")
			if n.Name == owner {
				found = strings.TrimSpace(strings.ReplaceAll(found, "/var/lib/berth/network/wireguard.key", ""))
			}
			if found != "" {
				w.t.Errorf("the key of %s is in %s of %s", owner, found, n.Name)
			}
		}
	}
	err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		for owner, key := range keys {
			if strings.Contains(string(text), key) {
				w.t.Errorf("the key of %s is in %s", owner, path)
			}
		}
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
	return keys
}
