package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/hosttest"
	"berth.dev/berth/providers/network"
	"berth.dev/berth/providers/proxy"
)

func TestMain(m *testing.M) { labtest.Main(m, lab.Config{Nodes: 2, User: "op"}) }

const lineage = "3f1c1b9e-0000-4000-8000-000000000002"

var cluster = api.Cluster{Name: "test", PodCIDR: podCIDR, ServiceCIDR: "10.96.0.0/12", NodePorts: "30000-32767", Network: "vxlan", Domain: "cluster.local"}

// world is two hosts with a pod network, and on each a pod that serves.
type world struct {
	lab   *lab.Lab
	hosts []*hosttest.Host
	pods  []*hosttest.Pod
}

// setUp runs the scripts, if any, on each host first.
func setUp(t testing.TB, scripts ...string) *world {
	t.Helper()
	w := &world{lab: labtest.Shared(t)}
	var nets []*api.NodeNetwork
	for i, n := range w.lab.Nodes() {
		w.hosts = append(w.hosts, hosttest.New(n.Name, func() (int, error) { return w.pid(t, n.Name) }))
		nets = append(nets, &api.NodeNetwork{
			Mode: "vxlan", ClusterCIDR: podCIDR, ServiceCIDR: cluster.ServiceCIDR, PodCIDR: fmt.Sprintf("10.244.%d.0/24", i+1),
			NodeIP: n.Address, Interface: "eth0", MTU: 1450, VTEPMAC: fmt.Sprintf("0e:be:00:00:00:%02x", i+1), CNIBinDir: "/usr/lib/cni",
		})
	}
	hosttest.InstallProbe(t, w.hosts...)
	for _, script := range scripts {
		for _, h := range w.hosts {
			h.Sh(t, script)
		}
	}
	for i, h := range w.hosts {
		peer := nets[1-i]
		nets[i].Peers = []api.Peer{{Name: w.hosts[1-i].Name(), IP: peer.NodeIP, PodCIDR: peer.PodCIDR, VTEPMAC: peer.VTEPMAC}}
		apply := func(ctx context.Context, op api.Op) error {
			_, err := network.New().Apply(ctx, h, &providers.Work{
				Step: &api.Step{Op: op, Node: h.Name(), Network: nets[i]}, Lineage: lineage, Cluster: cluster,
			})
			return err
		}
		if err := apply(t.Context(), api.OpNodeSet); err != nil {
			t.Fatalf("%+v", err)
		}
		t.Cleanup(func() {
			if err := apply(context.WithoutCancel(t.Context()), api.OpNodeRemove); err != nil {
				t.Errorf("%+v", err)
			}
			if out := h.Sh(t, "iptables-save | grep BERTH || :; ls /var/lib/berth"); out != "" {
				t.Errorf("left on %s:\n%s", h.Name(), out)
			}
		})
	}
	for i, h := range w.hosts {
		w.pods = append(w.pods, h.NewPod(t, string(rune('a'+i))))
	}
	return w
}

func (w *world) pid(t testing.TB, name string) (int, error) {
	st, err := w.lab.Status(context.WithoutCancel(t.Context()))
	if err != nil {
		return 0, err
	}
	for _, s := range st {
		if s.Name == name && s.Running {
			return s.Pid, nil
		}
	}
	return 0, errors.New("powered off")
}

// ends are the pods as endpoints: "10.244.1.2@n1".
func (w *world) ends(pods ...*hosttest.Pod) []string {
	var list []string
	for _, p := range pods {
		for i, q := range w.pods {
			if p == q {
				list = append(list, p.IP+"@"+w.hosts[i].Name())
			}
		}
	}
	return list
}

func (w *world) step(ctx context.Context, host int, op api.Op, s *corev1.Service, ends ...string) (string, error) {
	return w.stepOf(ctx, host, op, s, false, ends...)
}

// stepOf is a step that was planned with rules damaged, or not.
func (w *world) stepOf(ctx context.Context, host int, op api.Op, s *corev1.Service, repair bool, ends ...string) (string, error) {
	sw, list := work(s, ends...)
	sw.Repair = repair
	h := w.hosts[host]
	var said []string
	_, err := proxy.New().Apply(ctx, h, &providers.Work{
		Step: &api.Step{Op: op, Node: h.Name(), Service: sw}, Lineage: lineage, Cluster: cluster, Endpoints: list,
		Report: func(s string) { said = append(said, s) },
	})
	return strings.Join(said, "\n"), err
}

func (w *world) set(t *testing.T, s *corev1.Service, ends ...string) {
	t.Helper()
	for i := range w.hosts {
		if _, err := w.step(t.Context(), i, api.OpServiceSet, s, ends...); err != nil {
			t.Fatalf("%+v", err)
		}
	}
}

func (w *world) observed(t testing.TB, host int) map[string]string {
	t.Helper()
	obs := &api.NodeObservation{}
	if err := proxy.New().Observe(t.Context(), w.hosts[host], obs); err != nil {
		t.Fatal(err)
	}
	return obs.Services
}

// prober is a host or a pod.
type prober interface {
	Probe(ctx context.Context, args ...string) (string, error)
}

// tally asks n times and counts who answered.
func tally(t testing.TB, from prober, address string, n int) map[string]int {
	t.Helper()
	out, err := from.Probe(t.Context(), "get", address, fmt.Sprint(n))
	if err != nil {
		t.Fatalf("get %s: %v", address, err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(out) {
		counts[strings.Fields(line)[0]]++
	}
	return counts
}

func TestClusterIP(t *testing.T) {
	w := setUp(t)
	a, b := w.pods[0], w.pods[1]
	w.set(t, service(nil), w.ends(a, b)...)
	for name, from := range map[string]prober{"pod on n1": a, "pod on n2": b, "n1": w.hosts[0], "n2": w.hosts[1]} {
		// Both answer; 40 times the same has a chance of 1 in 10^12.
		if c := tally(t, from, "10.96.0.10:80", 40); c["a"] == 0 || c["b"] == 0 || c["a"]+c["b"] != 40 {
			t.Errorf("from %s: %v", name, c)
		}
	}
	w.set(t, service(nil), w.ends(b)...)
	if c := tally(t, a, "10.96.0.10:80", 10); c["b"] != 10 {
		t.Errorf("after a went: %v", c)
	}
	got, err := a.Probe(t.Context(), "get", "10.96.0.10:80")
	if want := "b " + a.IP; err != nil || got != want {
		t.Errorf("a pod sees %q, %v; want the sender's own address: %q", got, err, want)
	}
}

// TestLegacy: where the legacy backend carries rules already, ours go there too.
func TestLegacy(t *testing.T) {
	w := setUp(t, "iptables-legacy -A INPUT -s 192.0.2.9 -j ACCEPT")
	t.Cleanup(func() {
		for _, h := range w.hosts {
			h.Sh(t, "iptables-legacy -D INPUT -s 192.0.2.9 -j ACCEPT")
		}
	})
	a, b := w.pods[0], w.pods[1]
	svc := service(nodePort)
	for _, ends := range [][]string{w.ends(a, b), nil, w.ends(b)} {
		w.set(t, svc, ends...)
		sw, list := work(svc, ends...)
		var ips []string
		for _, e := range list {
			ips = append(ips, e.IP)
		}
		if got, want := w.observed(t, 0)["default/web"], api.ServiceHash(sw, ips); got != want {
			t.Errorf("with %d endpoints %q is in force, want %q", len(ends), got, want)
		}
	}
	if c := tally(t, a, "10.96.0.10:80", 5); c["b"] != 5 {
		t.Errorf("answers: %v", c)
	}
	if err := outside(t.Context(), net.JoinHostPort(w.lab.Nodes()[0].Address, "30080")); err != nil {
		t.Errorf("from outside: %v", err)
	}
	if out := w.hosts[0].Sh(t, "iptables-nft-save | grep BERTH || :"); out != "" {
		t.Errorf("rules in the other backend:\n%s", out)
	}
	obs := &api.NodeObservation{}
	if err := network.New().Observe(t.Context(), w.hosts[0], obs); err != nil || obs.Network == "" {
		t.Errorf("the network is not in force: %v", err)
	}
	w.hosts[0].Sh(t, "iptables-legacy -t nat -D BERTH-SERVICES 1")
	if got := w.observed(t, 0)["default/web"]; got != "" {
		t.Errorf("damage is not seen: %q", got)
	}
}

// TestBesideAFirewall: a host that forwards nothing by itself, as Docker and ufw leave it, still carries pods.
func TestBesideAFirewall(t *testing.T) {
	w := setUp(t, "iptables -P FORWARD DROP; iptables -A FORWARD -s 192.0.2.0/24 -j ACCEPT")
	t.Cleanup(func() {
		for _, h := range w.hosts {
			h.Sh(t, "iptables -P FORWARD ACCEPT; iptables -D FORWARD -s 192.0.2.0/24 -j ACCEPT")
		}
	})
	w.set(t, service(nodePort), w.ends(w.pods[1])...)
	if c := tally(t, w.pods[0], "10.96.0.10:80", 2); c["b"] != 2 {
		t.Errorf("answers: %v", c)
	}
	if err := outside(t.Context(), net.JoinHostPort(w.lab.Nodes()[0].Address, "30080")); err != nil {
		t.Errorf("from outside: %v", err)
	}
}

func TestHairpin(t *testing.T) {
	w := setUp(t)
	a := w.pods[0]
	w.set(t, service(nil), w.ends(a)...)
	got, err := a.Probe(t.Context(), "get", "10.96.0.10:80")
	if err != nil || !strings.HasPrefix(got, "a ") {
		t.Errorf("a pod to itself: %q, %v", got, err)
	}
}

// TestSameNode: the reply must come back through the translation although both pods hang on one bridge.
func TestSameNode(t *testing.T) {
	w := setUp(t)
	c := w.hosts[0].NewPod(t, "c")
	w.set(t, service(nil), w.ends(w.pods[0])...)
	got, err := c.Probe(t.Context(), "get", "10.96.0.10:80")
	if want := "a " + c.IP; err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// outside asks from the machine, which is no host of the cluster.
func outside(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address, nil)
	if err != nil {
		return err
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Do(req)
	if err != nil {
		return err
	}
	return r.Body.Close()
}

func TestNodePort(t *testing.T) {
	w := setUp(t)
	a, b := w.pods[0], w.pods[1]
	svc := service(nodePort)
	w.set(t, svc, w.ends(b)...)
	for i, n := range w.lab.Nodes() {
		address := net.JoinHostPort(n.Address, "30080")
		if err := outside(t.Context(), address); err != nil {
			t.Errorf("from outside by %s: %v", n.Name, err)
		}
		for _, from := range []prober{a, b, w.hosts[i], w.hosts[1-i]} {
			if c := tally(t, from, address, 1); c["b"] != 1 {
				t.Errorf("by %s: %v", n.Name, c)
			}
		}
	}
	if _, err := w.hosts[0].Probe(t.Context(), "get", "127.0.0.1:30080"); err == nil {
		t.Error("the node port answers on loopback")
	}
	if _, err := w.hosts[0].Probe(t.Context(), "get", "10.244.1.1:30080"); err != nil {
		t.Errorf("the node port does not answer on another address of the node: %v", err)
	}
	svc.Spec.Ports[0].NodePort = 30081 // the old one must go
	w.set(t, svc, w.ends(b)...)
	if err := outside(t.Context(), net.JoinHostPort(w.lab.Nodes()[0].Address, "30080")); err == nil {
		t.Error("the old node port still answers")
	}
	if err := outside(t.Context(), net.JoinHostPort(w.lab.Nodes()[0].Address, "30081")); err != nil {
		t.Errorf("the new node port: %v", err)
	}
}

func TestExternalLocal(t *testing.T) {
	w := setUp(t)
	svc := service(func(s *corev1.Service) {
		nodePort(s)
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	w.set(t, svc, w.ends(w.pods[1])...)
	if err := outside(t.Context(), net.JoinHostPort(w.lab.Nodes()[0].Address, "30080")); err == nil {
		t.Error("a node without an endpoint answers")
	}
	resp, err := http.Get("http://" + net.JoinHostPort(w.lab.Nodes()[1].Address, "30080"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := make([]byte, 100)
	n, _ := resp.Body.Read(body)
	if got, want := string(body[:n]), "b "+w.lab.Gateway(); got != want {
		t.Errorf("the pod sees %q, want the client's own address: %q", got, want)
	}
}

func TestRejectWithoutEndpoints(t *testing.T) {
	w := setUp(t)
	svc := service(nodePort)
	w.set(t, svc)
	for name, ask := range map[string]func() error{
		"pod":     func() error { _, err := w.pods[0].Probe(t.Context(), "get", "10.96.0.10:80"); return err },
		"node":    func() error { _, err := w.hosts[0].Probe(t.Context(), "get", "10.96.0.10:80"); return err },
		"outside": func() error { return outside(t.Context(), net.JoinHostPort(w.lab.Nodes()[0].Address, "30080")) },
	} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("from %s: %v, want connection refused", name, err)
		}
	}
	w.set(t, svc, w.ends(w.pods[0])...) // and back
	if c := tally(t, w.pods[1], "10.96.0.10:80", 1); c["a"] != 1 {
		t.Errorf("with an endpoint again: %v", c)
	}
}

func TestAffinity(t *testing.T) {
	w := setUp(t)
	if _, err := w.hosts[0].Run(t.Context(), providers.Command{
		Script: `iptables -N T; iptables -A T -m recent --name T --set; r=$?; iptables -F T; iptables -X T; exit $r`,
	}); err != nil {
		t.Skipf("this kernel has no xt_recent: %v", err)
	}
	w.set(t, service(func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }), w.ends(w.pods...)...)
	if c := tally(t, w.pods[0], "10.96.0.10:80", 30); len(c) != 1 {
		t.Errorf("one client went to several pods: %v", c)
	}
}

// TestUDP: a client that goes on sending from one port must reach the new endpoint when the old one is gone.
func TestUDP(t *testing.T) {
	w := setUp(t)
	svc := service(func(s *corev1.Service) { nodePort(s); s.Spec.Ports[0].Protocol = corev1.ProtocolUDP })
	w.set(t, svc, w.ends(w.pods[0])...)
	c := w.hosts[0].NewPod(t, "c")
	ask := func(address string) string {
		got, err := c.Probe(t.Context(), "udp", address, "4000")
		if err != nil {
			t.Errorf("udp to %s: %v", address, err)
		}
		who, _, _ := strings.Cut(got, " ")
		return who
	}
	node := net.JoinHostPort(w.lab.Nodes()[0].Address, "30080")
	for _, address := range []string{"10.96.0.10:80", node} {
		if got := ask(address); got != "a" {
			t.Errorf("%s: %q", address, got)
		}
	}
	w.set(t, svc, w.ends(w.pods[1])...)
	for _, address := range []string{"10.96.0.10:80", node} {
		if got := ask(address); got != "b" {
			t.Errorf("%s after the endpoint changed: %q", address, got)
		}
	}
	for i := range w.hosts {
		if _, err := w.step(t.Context(), i, api.OpServiceRemove, svc); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := c.Probe(t.Context(), "udp", node, "4000"); err == nil {
		t.Errorf("answered after the service was removed: %q", got)
	}
}

// TestHalfOpen: a connection that was begun towards an endpoint that is gone, and that nobody has answered, is made with another one.
func TestHalfOpen(t *testing.T) {
	w := setUp(t)
	svc := service(nodePort)
	a, b := w.pods[0], w.pods[1]
	w.hosts[0].NewPod(t, "c")
	w.hosts[0].Sh(t, `nsenter --net=/run/netns/a -- iptables -A INPUT -p tcp -j DROP`)
	for name, address := range map[string]string{"service": "10.96.0.10:80", "node port": net.JoinHostPort(w.lab.Nodes()[0].Address, "30080")} {
		t.Run(name, func(t *testing.T) {
			w.set(t, svc, w.ends(a)...)
			answer := make(chan string, 1)
			go func() {
				out, err := w.hosts[0].Run(t.Context(), providers.Command{
					Script: `exec nsenter --net=/run/netns/c -- curl -sS --max-time 100 "http://$1/" 2>&1`, Args: []string{address},
				})
				answer <- fmt.Sprint(string(out.Stdout), err)
			}()
			for deadline := time.Now().Add(30 * time.Second); w.hosts[0].Sh(t, `conntrack -L -p tcp --state SYN_SENT --reply-src "$1" 2>/dev/null || :`, a.IP) == ""; time.Sleep(30 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("no connection is half open; the client says %q", <-answer)
				}
			}
			w.set(t, svc, w.ends(b)...)
			if got := <-answer; !strings.HasPrefix(got, "b ") {
				t.Errorf("after its endpoint went the connection got %q", got)
			}
		})
	}
}

func TestObserveAndDrift(t *testing.T) {
	w := setUp(t)
	web, other := service(nodePort), service(func(s *corev1.Service) { s.Name, s.Spec.ClusterIP = "web-2", "10.96.0.11" })
	many := []string{"10.244.9.1@x", "10.244.9.2@x", "10.244.9.3@x", "10.244.9.4@x", "10.244.9.5@x", "10.244.9.6@x", "10.244.9.7@x"}
	none := service(func(s *corev1.Service) { s.Name, s.Spec.ClusterIP = "none", "10.96.0.12" })
	headless := service(func(s *corev1.Service) { s.Name, s.Spec.ClusterIP = "headless", corev1.ClusterIPNone })
	sticky := service(func(s *corev1.Service) {
		nodePort(s)
		s.Name, s.Spec.ClusterIP, s.Spec.Ports[0].NodePort = "sticky", "10.96.0.13", 30090
		s.Spec.SessionAffinity, s.Spec.ExternalTrafficPolicy = corev1.ServiceAffinityClientIP, corev1.ServiceExternalTrafficPolicyLocal
	})
	want := map[string]string{}
	for _, s := range []struct {
		svc  *corev1.Service
		ends []string
	}{{web, many}, {other, many[:1]}, {none, nil}, {headless, many}, {sticky, append(many[:2:2], "10.244.1.9@n1")}} {
		w.set(t, s.svc, s.ends...)
		sw, list := work(s.svc, s.ends...)
		var ips []string
		for _, e := range list {
			ips = append(ips, e.IP)
		}
		want[s.svc.Namespace+"/"+s.svc.Name] = api.ServiceHash(sw, ips)
	}
	for i := range w.hosts {
		if diff := cmp.Diff(want, w.observed(t, i)); diff != "" {
			t.Fatalf("observed on host %d (-want +got):\n%s", i, diff)
		}
	}
	svc, sep := "BERTH-SVC-LOLE4ISW44XBNF3G", strings.Fields(w.hosts[0].Sh(t, "iptables -t nat -S BERTH-SVC-LOLE4ISW44XBNF3G | tail -n 1 | sed 's/.*-j //'"))[0]
	for _, tt := range []struct{ name, damage string }{
		{"rule gone", "iptables -t nat -D " + svc + " 2"},
		{"rule added", "iptables -t nat -I " + svc + " -j RETURN"},
		{"endpoint changed", "iptables -t nat -F " + sep},
		{"dispatch gone", `iptables -t nat -S BERTH-SERVICES | grep '"default/web ' | sed 's/^-A/iptables -t nat -D/' | sh`},
		{"dispatch twice", `iptables -t nat -S BERTH-SERVICES | grep '"default/web ' | sed 's/^-A/iptables -t nat -A/' | sh`},
		{"dispatch added", `iptables -t nat -I BERTH-SERVICES -d 10.96.0.10/32 -m comment --comment "default/web theirs" -j RETURN`},
		{"reject added", `iptables -I BERTH-SERVICES -d 10.96.0.10/32 -m comment --comment "default/web has no endpoints" -j DROP`},
		{"node port gone", "iptables -t nat -F BERTH-NODEPORTS"},
		{"unfinished", "iptables -t nat -N BERTH-SVC-STALE; echo 'default/web nat BERTH-SVC-STALE' >/var/lib/berth/network/put4/pending"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.hosts[0].Sh(t, tt.damage)
			got := w.observed(t, 0)
			if h, ok := got["default/web"]; !ok || h != "" {
				t.Errorf("default/web shows as %q, %v; want it known and damaged", h, ok)
			}
			if got["default/web-2"] != want["default/web-2"] {
				t.Error("another service shows as damaged")
			}
			if _, err := w.stepOf(t.Context(), 0, api.OpServiceSet, web, true, many...); err != nil {
				t.Fatal(err)
			}
			if tt.name == "node port gone" {
				if _, err := w.stepOf(t.Context(), 0, api.OpServiceSet, sticky, true, append(many[:2:2], "10.244.1.9@n1")...); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, w.observed(t, 0)); diff != "" {
				t.Errorf("not mended (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNothingIsLeft changes and removes services and looks for chains that nobody owns.
func TestNothingIsLeft(t *testing.T) {
	w := setUp(t)
	rules := func() string {
		return w.hosts[0].Sh(t, `iptables-save | sed -e '/^#/d' -e 's/\[[0-9:]*\]//'; ls /var/lib/berth/network/services`)
	}
	before := rules()
	svc := service(nodePort)
	for _, ends := range [][]string{{"10.244.9.1@x", "10.244.9.2@x"}, {"10.244.9.3@x"}, nil, {"10.244.9.1@x"}} {
		if _, err := w.step(t.Context(), 0, api.OpServiceSet, svc, ends...); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(w.hosts[0].Sh(t, "iptables-save -t nat"), "\n:BERTH-SEP-"); got != len(ends) {
			t.Errorf("%d endpoint chains for %d endpoints", got, len(ends))
		}
	}
	for range 2 {
		if _, err := w.step(t.Context(), 0, api.OpServiceRemove, svc); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, rules()); diff != "" {
			t.Errorf("left (-before +after):\n%s", diff)
		}
	}
}

// TestKilled begins a change, kills it at every point where something is written, and does it again.
func TestKilled(t *testing.T) {
	w := setUp(t)
	old, next := []string{"10.244.9.1@x", "10.244.9.2@x"}, []string{"10.244.9.3@x"}
	for _, tt := range []struct {
		name         string
		first, again []string
		fresh        bool // there is nothing before
	}{{"change", old, next, false}, {"first", nil, next, true}, {"first without endpoints", nil, nil, true}, {"endpoints gone", old, nil, false}} {
		t.Run(tt.name, func(t *testing.T) { w.killed(t, tt.first, tt.again, tt.fresh) })
	}
}

func (w *world) killed(t *testing.T, old, next []string, fresh bool) {
	svc := service(nodePort)
	before := func() {
		t.Helper()
		op := api.OpServiceSet
		if fresh {
			op = api.OpServiceRemove
		}
		if _, err := w.step(t.Context(), 0, op, svc, old...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.step(t.Context(), 0, api.OpServiceSet, svc, next...); err != nil {
		t.Fatal(err)
	}
	want := w.rules(t)
	for _, program := range []string{"iptables-restore", "mv", "awk"} {
		t.Run(program, func(t *testing.T) {
			before()
			// A program of that name that ends the script which called it; after its work, as the worst moment.
			w.hosts[0].Sh(t, `p=$(command -v "$1"); printf '#!/bin/sh\n%s "$@"\nkill -9 $PPID\n' "$p" >"/usr/local/sbin/$1"; chmod 755 "/usr/local/sbin/$1"`, program)
			if _, err := w.step(t.Context(), 0, api.OpServiceSet, svc, next...); err == nil {
				t.Error("the step was not killed")
			}
			w.hosts[0].Sh(t, `exec /bin/rm "/usr/local/sbin/$1"`, program)
			if _, err := w.step(t.Context(), 0, api.OpServiceSet, svc, next...); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, w.rules(t)); diff != "" {
				t.Errorf("after the second run (-want +got):\n%s", diff)
			}
			if got := w.observed(t, 0)["default/web"]; got == "" {
				t.Error("not in force")
			}
		})
	}
}

// rules are those of the first host, without what changes by itself.
func (w *world) rules(t testing.TB) string {
	return w.hosts[0].Sh(t, `iptables-save | sed -e '/^#/d' -e 's/\[[0-9:]*\]//'`)
}

// singleFiles lays the rules of services out as versions of Berth did that wrote a file for each service.
const singleFiles = `cd /var/lib/berth/network/services
awk '/^# berth / { file = $3; sub(/\//, "_", file) } { print >(file ".rules") }' ??.rules
rm ??.rules`

// TestEarlierFiles: rules that an earlier version has left are taken over by whatever is changed first, and so are those that were set beside them.
func TestEarlierFiles(t *testing.T) {
	w := setUp(t)
	named := func(name, ip string) *corev1.Service {
		return service(func(s *corev1.Service) { s.Name, s.Spec.ClusterIP = name, ip })
	}
	web, other, none, doubled := service(nodePort), named("other", "10.96.0.11"), named("none", "10.96.0.12"), named("doubled", "10.96.0.13")
	empty := w.rules(t)
	do := func(op api.Op, s *corev1.Service, ends ...string) {
		t.Helper()
		if _, err := w.step(t.Context(), 0, op, s, ends...); err != nil {
			t.Fatal(err)
		}
	}
	all := func(webEnds, doubledEnds []string) {
		t.Helper()
		do(api.OpServiceSet, web, webEnds...)
		do(api.OpServiceSet, other, "10.244.9.4@x")
		do(api.OpServiceSet, none)
		do(api.OpServiceSet, doubled, doubledEnds...)
	}
	ends, next := []string{"10.244.9.1@x", "10.244.9.2@x"}, []string{"10.244.9.3@x"}
	all(next, next)
	wanted, wantedRules := w.observed(t, 0), w.sorted(t)

	all(ends, ends)
	w.hosts[0].Sh(t, singleFiles)
	observed := w.observed(t, 0)
	for name, hash := range observed {
		if hash == "" {
			t.Errorf("%s shows as damaged where the files are of an earlier version", name)
		}
	}
	// As a version did that did not know the old files: what was there is set as if it were new, and a run of the old one was killed.
	w.hosts[0].Sh(t, `cd /var/lib/berth/network/services
mkdir /tmp/aside new
mv *.rules /tmp/aside
iptables -t nat -N BERTH-SVC-STALE
echo 'default/web nat BERTH-SVC-STALE' >pending`)
	if got, ok := w.observed(t, 0)["default/web"]; !ok || got != "" {
		t.Errorf("what an earlier version left unfinished shows as %q, %v", got, ok)
	}
	w.hosts[0].Sh(t, `mv /var/lib/berth/network/services/pending /tmp/aside`)
	do(api.OpServiceSet, doubled, next...)
	w.hosts[0].Sh(t, `mv /tmp/aside/* /var/lib/berth/network/services; rmdir /tmp/aside`)
	if got := w.observed(t, 0)["default/doubled"]; got != "" {
		t.Errorf("a service with two files shows as %q", got)
	}

	do(api.OpServiceSet, web, next...)
	if got, want := w.hosts[0].Sh(t, `cd /var/lib/berth/network/services; ls | grep -v '^[0-9a-f][0-9a-f][.]rules$' || :`), ""; got != want {
		t.Errorf("left of the old files: %s", got)
	}
	if got, ok := w.observed(t, 0)["default/doubled"]; !ok || got != "" {
		t.Errorf("lines that are there twice show as %q, %v", got, ok)
	}
	do(api.OpServiceSet, doubled, next...)
	if diff := cmp.Diff(wanted, w.observed(t, 0)); diff != "" {
		t.Errorf("taken over (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantedRules, w.sorted(t)); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if err := w.lab.Nodes()[0].Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, w.observed(t, 0)); diff != "" {
		t.Errorf("after a reboot (-want +got):\n%s", diff)
	}
	w.hosts[0].Sh(t, singleFiles)
	for _, s := range []*corev1.Service{web, other, none, doubled} {
		do(api.OpServiceRemove, s)
	}
	if diff := cmp.Diff(empty, w.rules(t)); diff != "" {
		t.Errorf("left of removed services (-want +got):\n%s", diff)
	}
	if got := w.observed(t, 0); len(got) > 0 {
		t.Errorf("observed: %v", got)
	}
}

// sorted are the lines of the rules of the first host, in the order of their text: dispatch lines have none.
func (w *world) sorted(t testing.TB) []string {
	lines := strings.Split(w.rules(t), "\n")
	slices.Sort(lines)
	return lines
}

func TestManyAtOnce(t *testing.T) {
	w := setUp(t)
	var wg sync.WaitGroup
	const n = 12
	errs := make([]error, n)
	many := func(i int) *corev1.Service {
		return service(func(s *corev1.Service) {
			nodePort(s)
			s.Name, s.Spec.ClusterIP, s.Spec.Ports[0].NodePort = fmt.Sprintf("web-%d", i), fmt.Sprintf("10.96.1.%d", i), 31000+int32(i)
		})
	}
	for i := range n {
		wg.Go(func() {
			_, errs[i] = w.step(t.Context(), 0, api.OpServiceSet, many(i), "10.244.1.5@n1", "10.244.2.5@n2")
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	got := w.observed(t, 0)
	for i := range n {
		if got[fmt.Sprintf("default/web-%d", i)] == "" {
			t.Errorf("service %d is not in force: %v", i, got)
		}
	}
}

func TestUnchangedIsNotRestored(t *testing.T) {
	w := setUp(t)
	svc := service(nil)
	w.set(t, svc, w.ends(w.pods...)...)
	w.hosts[0].Sh(t, `printf '#!/bin/sh\nexit 1\n' >/usr/local/sbin/iptables-restore; chmod 755 /usr/local/sbin/iptables-restore`)
	t.Cleanup(func() {
		w.hosts[0].Run(context.WithoutCancel(t.Context()), providers.Command{Script: "rm -f /usr/local/sbin/iptables-restore"})
	})
	if _, err := w.step(t.Context(), 0, api.OpServiceSet, svc, w.ends(w.pods...)...); err != nil {
		t.Errorf("the same again ran iptables-restore: %v", err)
	}
	if _, err := w.step(t.Context(), 0, api.OpServiceSet, svc, w.ends(w.pods[0])...); err == nil {
		t.Error("the trap does not work")
	}
}

func TestReboot(t *testing.T) {
	w := setUp(t)
	for i := range 30 {
		s := service(func(s *corev1.Service) {
			s.Name, s.Spec.ClusterIP = fmt.Sprintf("web-%d", i), fmt.Sprintf("10.96.1.%d", i)
		})
		if _, err := w.step(t.Context(), 0, api.OpServiceSet, s, w.ends(w.pods[1])...); err != nil {
			t.Fatal(err)
		}
	}
	before := w.observed(t, 0)
	if err := w.lab.Nodes()[0].Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, w.observed(t, 0)); diff != "" {
		t.Errorf("after the reboot (-before +after):\n%s", diff)
	}
	if c := tally(t, w.hosts[0], "10.96.1.29:80", 1); c["b"] != 1 {
		t.Errorf("the last service: %v", c)
	}
}

func TestWithoutNetwork(t *testing.T) {
	w := setUp(t)
	w.hosts[0].Sh(t, "iptables -t nat -F; iptables -t nat -X; rm -rf /var/lib/berth/network/services")
	_, err := w.step(t.Context(), 0, api.OpServiceSet, service(nil), w.ends(w.pods[0])...)
	if ds := api.DiagnosticsOf(err, ""); len(ds) != 1 || ds[0].Summary != "Pod network is not set up" {
		t.Errorf("without chains: %+v", err)
	}
	if _, err := w.step(t.Context(), 0, api.OpServiceRemove, service(nil)); err != nil {
		t.Errorf("removal without chains: %+v", err)
	}
	w.hosts[0].Sh(t, "rm /var/lib/berth/cluster.json")
	_, err = w.step(t.Context(), 0, api.OpServiceSet, service(nil), w.ends(w.pods[0])...)
	if ds := api.DiagnosticsOf(err, ""); len(ds) != 1 || ds[0].Summary != "Pod network is not set up" {
		t.Errorf("without a mark: %+v", err)
	}
}
