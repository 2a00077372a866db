package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

func newNetCheck(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "check", Short: "Check the ways between nodes, pods and services", Args: cobra.NoArgs,
		Long: `Tries, from every node and from one pod on each, all at once: every other node by its address, a pod on every other node, packets as large as
the pod network takes, the services, and the cluster's DNS. Says which way is broken and what the likely cause is; ends with exit code 1
when one is. It changes nothing, and needs no program on the hosts but bash for what it asks from within pods.

A port that refuses a connection shows that the way to it is open.`,
		Example: "  berth net check\n  berth net check --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			g.json = asJSON
			return runNetCheck(cmd.Context(), g, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// Kinds of ways, in the order in which they are shown.
const (
	wayNode    = "node to node"
	wayPod     = "pod to pod"
	waySize    = "full-size packets"
	wayService = "pod to service"
	wayDNS     = "DNS"
)

var wayKinds = []string{wayNode, wayPod, waySize, wayService, wayDNS}

// way is one thing that was tried.
type way struct {
	Kind   string `json:"kind"`
	From   string `json:"from"` // node
	To     string `json:"to"`   // node, or "namespace/service:port"
	At     string `json:"at"`   // address
	Result string `json:"result"`
	Detail string `json:"detail,omitempty"`
	Cause  string `json:"cause,omitempty"` // likely, of a broken one

	tcp  bool
	ip   string
	port int32
	size int
	none bool // nobody is behind the service
}

// Results of a way.
const (
	wayOK      = "ok"
	wayBroken  = "broken"
	waySkipped = "skipped"
)

// maxServices is how many services are tried from each node.
const maxServices = 50

// tryTimeout is how long an answer may take, in seconds.
const tryTimeout = 3

type netChecker struct {
	x     *reach
	state *api.State
	mu    sync.Mutex
	ways  []way
}

func runNetCheck(ctx context.Context, g *globals, asJSON bool) error {
	x, err := openReach(ctx, g)
	if err != nil {
		return err
	}
	defer x.close()
	if len(x.state.Nodes) == 0 {
		return fail("No nodes", "The state has no nodes. Run berth apply first.")
	}
	c := &netChecker{x: x, state: x.state}
	all, running := errgroup.WithContext(ctx)
	all.SetLimit(64)
	for i := range c.state.Nodes {
		all.Go(func() error { return c.from(running, &c.state.Nodes[i]) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	slices.SortFunc(c.ways, func(a, b way) int {
		return slices.Compare([]string{strconv.Itoa(slices.Index(wayKinds, a.Kind)), a.From, a.To}, []string{strconv.Itoa(slices.Index(wayKinds, b.Kind)), b.From, b.To})
	})
	explainWays(c.state, c.ways)
	broken := slices.ContainsFunc(c.ways, func(w way) bool { return w.Result == wayBroken })
	if asJSON {
		b, err := json.MarshalIndent(map[string]any{"ok": !broken, "ways": c.ways}, "", "  ")
		if err != nil {
			return err
		}
		g.out.Println(string(b))
	} else {
		paintWays(g, c.ways)
	}
	if broken {
		return exitCode(exitError)
	}
	return nil
}

// from tries everything from one node.
func (c *netChecker) from(ctx context.Context, n *api.NodeState) error {
	ways := c.wanted(n)
	h, err := c.x.host(ctx, n.Name)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for i := range ways {
			ways[i].Result, ways[i].Detail = waySkipped, n.Name+" cannot be reached"
		}
		c.add(ways)
		return nil
	}
	var trying sync.WaitGroup
	for i := range ways {
		if w := &ways[i]; w.tcp {
			trying.Go(func() { w.dial(ctx, h) })
		}
	}
	trying.Wait()
	if err := tryWithin(ctx, h, c.podOn(n.Name), ways); err != nil {
		return err
	}
	c.add(ways)
	return ctx.Err()
}

func (c *netChecker) add(ways []way) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ways = append(c.ways, ways...)
}

// wanted lists what is to be tried from a node.
func (c *netChecker) wanted(n *api.NodeState) []way {
	var out []way
	for i := range c.state.Nodes {
		m := &c.state.Nodes[i]
		if m.Name == n.Name {
			continue
		}
		port := int32(22)
		if m.Node != nil && m.Node.SSH.Port != 0 {
			port = int32(m.Node.SSH.Port)
		}
		for _, ip := range m.IPs() {
			out = append(out, way{Kind: wayNode, From: n.Name, To: m.Name, ip: ip, port: port, tcp: true})
		}
		if c.state.Cluster.Network == "none" {
			continue
		}
		if p := c.podOn(m.Name); p != nil {
			for _, ip := range p.IPs() {
				out = append(out, way{Kind: wayPod, From: n.Name, To: m.Name, ip: ip, port: declaredPort(p)},
					way{Kind: waySize, From: n.Name, To: m.Name, ip: ip, port: closedPort, size: podMTU(c.state, n)})
			}
			continue
		}
		for _, cidr := range m.PodCIDRs() {
			if p, err := netip.ParsePrefix(cidr); err == nil && (c.state.Cluster.Network == api.NetworkVXLAN || c.state.Cluster.Network == api.NetworkWireGuard) { // its device's address takes the same way
				out = append(out, way{Kind: wayPod, From: n.Name, To: m.Name, ip: p.Masked().Addr().String(), port: port})
			}
		}
	}
	for _, o := range c.state.Objects {
		svc, ok := o.Value.(*corev1.Service)
		if !ok || svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone || len(out) > len(c.state.Nodes)*3+maxServices {
			continue
		}
		behind := podsBehind(c.state, svc)
		if local := svc.Spec.InternalTrafficPolicy; local != nil && *local == corev1.ServiceInternalTrafficPolicyLocal && len(svc.Spec.Selector) > 0 &&
			!slices.ContainsFunc(behind, func(p *api.PodState) bool { return p.Node == n.Name }) {
			continue // the service is not for this node: by its policy packets from here go nowhere
		}
		for _, p := range svc.Spec.Ports {
			if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
				to := svc.Namespace + "/" + svc.Name + ":" + or(p.Name, strconv.Itoa(int(p.Port)))
				none := len(svc.Spec.Selector) > 0 && len(behind) == 0
				for _, ip := range api.ClusterIPs(svc) {
					out = append(out, way{Kind: wayService, From: n.Name, To: to, ip: ip, port: p.Port, none: none})
				}
			}
		}
	}
	if ip := c.state.Cluster.DNS; ip != "" {
		out = append(out, way{Kind: wayDNS, From: n.Name, To: "cluster DNS", ip: ip, port: 53})
	}
	for i := range out {
		out[i].At = net.JoinHostPort(out[i].ip, strconv.Itoa(int(out[i].port)))
	}
	return out
}

// closedPort is one on which hardly anybody listens: that it is refused is the answer.
const closedPort = 9

// podOn is a pod with an address of its own that runs on a node, nil for none.
func (c *netChecker) podOn(node string) *api.PodState {
	for i := range c.state.Pods {
		p := &c.state.Pods[i]
		if p.Node == node && p.Ready && p.IP != "" && p.Spec != nil && !p.Spec.HostNetwork {
			return p
		}
	}
	return nil
}

func declaredPort(p *api.PodState) int32 {
	for _, ctr := range p.Spec.Containers {
		for _, port := range ctr.Ports {
			if port.Protocol == "" || port.Protocol == corev1.ProtocolTCP {
				return port.ContainerPort
			}
		}
	}
	return closedPort
}

// podMTU is the size of the largest packet of a pod, in bytes.
func podMTU(state *api.State, n *api.NodeState) int {
	return n.Facts.MTU - api.NetworkOverhead(state.Cluster.Network, n.IP)
}

// dial tries a connection from the node itself.
func (w *way) dial(ctx context.Context, h providers.Host) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout*time.Second)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", w.At)
	switch {
	case err == nil:
		conn.Close()
		w.Result = wayOK
	case strings.Contains(strings.ToLower(err.Error()), "refused"):
		w.Result = wayOK
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		w.Result, w.Detail = wayBroken, "no answer from "+w.At
	default:
		w.Result, w.Detail = wayBroken, w.At+": "+err.Error()
	}
}

// tryWithin tries the rest from within a pod, or from the node where it has none.
func tryWithin(ctx context.Context, h providers.Host, pod *api.PodState, ways []way) error {
	ip := "-"
	if pod != nil {
		ip = pod.IP
	}
	var in strings.Builder
	for i := range ways {
		w := &ways[i]
		kind := "tcp"
		switch {
		case w.tcp:
			continue
		case w.Kind == waySize:
			kind = "size"
		case w.Kind == wayDNS:
			kind = "dns"
		}
		fmt.Fprintf(&in, "%d %s %s %d %d\n", i, kind, w.ip, w.port, w.size)
	}
	if in.Len() == 0 {
		return nil
	}
	out, err := h.Run(ctx, providers.Command{Script: tryScript, Args: []string{ip, strconv.Itoa(tryTimeout)}, Stdin: strings.NewReader(in.String())})
	if err != nil {
		return fmt.Errorf("try from pods on %s: %w", h.Name(), err)
	}
	for line := range strings.Lines(string(out.Stdout)) {
		id, said, _ := strings.Cut(strings.TrimSpace(line), " ")
		if i, err := strconv.Atoi(id); err == nil && i >= 0 && i < len(ways) {
			ways[i].judge(said)
		}
	}
	for i := range ways {
		if ways[i].Result == "" {
			ways[i].Result, ways[i].Detail = waySkipped, strings.TrimSpace(string(out.Stderr))
		}
	}
	return nil
}

// judge takes what the script said of a way.
func (w *way) judge(said string) {
	refused := strings.Contains(said, "refused")
	switch {
	case said == "ok", refused && w.Kind != wayService && w.Kind != wayDNS:
		w.Result = wayOK
	case refused && w.none:
		w.Result, w.Detail = waySkipped, "no pod of it is ready"
	case said == "silent":
		w.Result, w.Detail = waySkipped, "the other side does not say that a port is closed: a firewall drops what it does not know"
	case said == "timeout":
		w.Result, w.Detail = wayBroken, "no answer from "+w.At
	default:
		w.Result, w.Detail = wayBroken, w.At+": "+said
	}
}

// tryScript takes a pod's address, or - for none, and the seconds that an answer may take; on standard input lines "id kind ip port size". It prints
// "id result": ok, timeout, silent, or what the kernel says.
const tryScript = `PATH=$PATH:/usr/sbin:/sbin
command -v bash >/dev/null || { echo "bash is not installed: nothing can be tried from pods" >&2; exit 0; }
enter=
if [ "$1" != - ]; then
	for n in /run/netns/*; do
		if nsenter --net="$n" ip -o addr show to "$1" 2>/dev/null | grep -q .; then enter="nsenter --net=$n"; break; fi
	done
fi
exec $enter bash -c '
limit=$1
tcp() { # ip port
	said=$(timeout "$limit" bash -c "exec 3<>/dev/tcp/\$0/\$1" "$1" "$2" 2>&1)
	case $? in 0) echo ok ;; 124) echo timeout ;; *) echo "${said##*: }" | tr A-Z a-z ;; esac
}
datagram() { # ip port bytes: says how the other side answers
	timeout 2 bash -c "exec 3<>/dev/udp/\$0/\$1; head -c \$2 /dev/zero >&3; read -r -t 1 -u 3 x" "$1" "$2" "$3" 2>&1
}
size() { # ip port packet
	case $1 in *:*) head=48 ;; *) head=28 ;; esac
	case $(datagram "$1" "$2" 8) in *refused*) ;; *) echo silent; return ;; esac
	for try in 1 2; do
		said=$(datagram "$1" "$2" $(($3 - head)))
		case $said in *refused*) echo ok; return ;; *"too long"*) echo "packets of $3 bytes are too long for a device on the way"; return ;; esac
	done
	echo "packets of $3 bytes get lost, small ones do not"
}
dns() { # ip: asks for the root, which any server has something to say to
	said=$(timeout "$limit" bash -c "exec 3<>/dev/udp/\$0/53; printf \"\\\\x12\\\\x34\\\\x01\\\\x00\\\\x00\\\\x01\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x02\\\\x00\\\\x01\" >&3; head -c 2 <&3 | od -An -tx1" "$1" 2>&1)
	case $said in *"12 34"*) echo ok ;; "") echo timeout ;; *) echo "${said##*: }" | tr A-Z a-z ;; esac
}
n=0
while read -r id kind ip port bytes; do
	{ result=$($kind "$ip" "$port" "$bytes"); echo "$id $result"; } </dev/null &
	n=$((n + 1))
	if [ $((n % 32)) = 0 ]; then wait; fi
done
wait
' bash "$2"
`

// explainWays finds the likely cause of what is broken.
func explainWays(state *api.State, ways []way) {
	found := map[[3]string]string{}
	for _, w := range ways {
		found[[3]string{w.Kind, w.From, w.To}] = w.Result
	}
	for i := range ways {
		w := &ways[i]
		if w.Result != wayBroken {
			continue
		}
		nodes := found[[3]string{wayNode, w.From, w.To}] == wayOK
		switch {
		case w.Kind == wayNode:
			w.Cause = fmt.Sprintf("%s does not reach %s at all: a cable, a route, or a firewall between them, or %s is down.", w.From, w.To, w.To)
		case w.Kind == wayPod && !nodes:
			w.Cause = "The nodes do not reach each other either: see there first."
		case w.Kind == wayPod && state.Cluster.Network == "vxlan":
			w.Cause = fmt.Sprintf("The nodes reach each other, so it is VXLAN: let UDP 8472 through between %s and %s, both ways. berth plan shows whether devices or routes are missing.", w.From, w.To)
		case w.Kind == wayPod && state.Cluster.Network == api.NetworkWireGuard:
			w.Cause = fmt.Sprintf("The nodes reach each other, so it is WireGuard: let UDP %s through between %s and %s, both ways. berth plan shows whether a device, a key or routes are missing.", api.WireGuardPort, w.From, w.To)
		case w.Kind == wayPod:
			w.Cause = fmt.Sprintf("The nodes reach each other, so something drops packets with addresses of pods between %s and %s: a cloud's check of source addresses, or a firewall for forwarded packets. berth plan shows whether routes are missing.", w.From, w.To)
		case w.Kind == waySize:
			w.Cause = "The network between the nodes takes smaller packets than their devices say: set the device's MTU right, and apply."
		case w.Kind == wayService && w.none:
			w.Cause = "No pod of the service is ready."
		case w.Kind == wayService && strings.Contains(w.Detail, "refused"):
			w.Cause = "Rules on " + w.From + " refuse it, or its pods do not listen on the port: see berth net trace and berth get endpoints."
		case w.Kind == wayService && slices.ContainsFunc(ways, func(o way) bool { return o.Kind == wayPod && o.From == w.From && o.Result == wayBroken }):
			w.Cause = "Some of its pods are on a node that pods on " + w.From + " do not reach: see there first."
		case w.Kind == wayService:
			w.Cause = "Rules on " + w.From + " may be missing: berth plan shows that, and berth apply writes them again."
		case w.Kind == wayDNS:
			w.Cause = "The node's DNS server does not answer: see berth get pods -n kube-system."
		}
	}
}

func paintWays(g *globals, ways []way) {
	var rows [][]string
	for _, kind := range wayKinds {
		tried, ok := 0, 0
		skipped := ""
		for _, w := range ways {
			switch {
			case w.Kind != kind:
			case w.Result == waySkipped:
				skipped = w.Detail
			default:
				tried++
				if w.Result == wayOK {
					ok++
				}
			}
		}
		switch {
		case tried > 0:
			rows = append(rows, []string{kind, fmt.Sprintf("%d of %d", ok, tried)})
		case skipped != "":
			rows = append(rows, []string{kind, "not tried: " + skipped})
		default:
			rows = append(rows, []string{kind, "nothing to try"})
		}
	}
	g.out.Table([]string{"WAY", "OPEN"}, rows)
	for _, w := range ways {
		if w.Result == wayBroken {
			g.out.Printf("\nBroken: %s, %s -> %s: %s\n    %s\n", w.Kind, w.From, w.To, w.Detail, w.Cause)
		}
	}
}
