package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/proxy"
)

func newNet(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "net", Short: "Look into the pod network and the services", Args: cobra.NoArgs}
	cmd.AddCommand(newNetCheck(g), newNetTrace(g))
	return cmd
}

type netTraceCommand struct {
	namespace string
	json      bool
}

func newNetTrace(g *globals) *cobra.Command {
	var o netTraceCommand
	cmd := &cobra.Command{
		Use: "trace POD SERVICE[:PORT]", Short: "Show the rules and hops that a pod's packet to a service takes", Args: cobra.ExactArgs(2),
		Long: `Reads the rules in force on the pod's node and follows the first packet of a connection through them: which rule takes it, to which
endpoints it may go and with what chance, whether they see the pod's own address, and by which way the node sends it there.

` + targetHelp + `

SERVICE is a service's name, NAME.NAMESPACE, or an address such as service.web. PORT is a number or a name; the first one when it is left out.`,
		Example: "  berth net trace web-6d4cf56db6-x2k4p db\n  berth net trace deployment/web db.shop:pg --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			return runNetTrace(cmd.Context(), g, args[0], args[1], o)
		},
	}
	cmd.ValidArgsFunction = g.completions(podNames(&o.namespace))
	cmd.Flags().StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace` of the pod and the service")
	cmd.Flags().BoolVar(&o.json, "json", false, "as JSON")
	return cmd
}

// traced is the way of a packet, for people and machines.
type traced struct {
	Pod      string      `json:"pod"`
	Node     string      `json:"node"`
	From     string      `json:"from"`
	Service  string      `json:"service"` // "namespace/name"
	To       string      `json:"to"`
	Protocol string      `json:"protocol"`
	Rules    []string    `json:"rules,omitempty"` // that decide, where there are no endpoints to choose from
	Verdict  string      `json:"verdict,omitempty"`
	Ends     []tracedEnd `json:"ends,omitempty"`
}

type tracedEnd struct {
	proxy.TraceEnd
	Pod  string `json:"pod,omitempty"`
	Node string `json:"node,omitempty"`
	Way  string `json:"way"` // what the node's routes say
}

func runNetTrace(ctx context.Context, g *globals, pod, service string, o netTraceCommand) error {
	x, err := openReach(ctx, g)
	if err != nil {
		return err
	}
	defer x.close()
	svc, port, err := servicePortNamed(x.state, o.namespace, service)
	if err != nil {
		return err
	}
	t, err := x.pod(ctx, o.namespace, pod)
	if err != nil {
		return err
	}
	// The address that a pod is first told of a service's name, of a family that the pod has.
	own, address := t.pod.IP, svc.Spec.ClusterIP
	for _, ip := range api.ClusterIPs(svc) {
		if mine := api.OfFamily(api.FamilyOf(ip), t.pod.IPs()...); mine != "" {
			own, address = mine, ip
			break
		}
	}
	from, err := netip.ParseAddr(own)
	if err != nil {
		return fail("Pod has no address", fmt.Sprintf("The pod %s has no address of its own in the pod network. Trace from another one.", t.pod.Address.Pod))
	}
	to, err := netip.ParseAddr(address)
	if err != nil {
		return fail("Service has no address", fmt.Sprintf("The service %s has no cluster IP: clients get the addresses of its pods by its name, and no rules are met.", svc.Name))
	}
	dump, err := proxy.Live(ctx, t.host, api.FamilyOf(address))
	if err != nil {
		return err
	}
	protocol := or(string(port.Protocol), "TCP")
	found := proxy.Follow(dump, proxy.Packet{From: from, To: to, Port: uint16(port.Port), Protocol: strings.ToLower(protocol)})
	out := traced{
		Pod: t.pod.Address.Pod, Node: t.pod.Node, From: own, Service: svc.Namespace + "/" + svc.Name,
		To: netip.AddrPortFrom(to, uint16(port.Port)).String(), Protocol: protocol, Rules: found.Rules, Verdict: found.Verdict,
	}
	if err := out.ways(ctx, x.state, t.host, found.Ends); err != nil {
		return err
	}
	if o.json {
		b, err := json.MarshalIndent(out, "", "  ")
		if err != nil {
			return err
		}
		g.out.Println(string(b))
		return nil
	}
	out.paint(g)
	return nil
}

// ways asks the node how it sends packets to each endpoint.
func (tr *traced) ways(ctx context.Context, state *api.State, h providers.Host, ends []proxy.TraceEnd) error {
	var ips []string
	for _, e := range ends {
		ap, err := netip.ParseAddrPort(e.To)
		if err != nil {
			return fmt.Errorf("a rule leads to %q, which is no address: %w", e.To, err)
		}
		ips = append(ips, ap.Addr().String())
	}
	if len(ips) == 0 {
		return nil
	}
	out, err := h.Run(ctx, providers.Command{Script: `PATH=$PATH:/usr/sbin:/sbin; for ip; do ip route get "$ip" 2>&1 | head -n 1; done`, Args: ips})
	if err != nil {
		return fmt.Errorf("read the routes of %s: %w", h.Name(), err)
	}
	routes := strings.Split(strings.TrimSpace(string(out.Stdout)), "\n")
	for i, e := range ends {
		end := tracedEnd{TraceEnd: e}
		for j := range state.Pods {
			if p := &state.Pods[j]; p.IP == ips[i] || p.SecondIP == ips[i] {
				end.Pod, end.Node = p.Address.Pod, p.Node
			}
		}
		if i < len(routes) {
			end.Way = wayText(state, end.Node, routes[i])
		}
		tr.Ends = append(tr.Ends, end)
	}
	return nil
}

// wayText puts a line of ip route get into words.
func wayText(state *api.State, node, route string) string {
	words := strings.Fields(route)
	value := func(key string) string {
		for i, w := range words[:max(0, len(words)-1)] {
			if w == key {
				return words[i+1]
			}
		}
		return ""
	}
	device, via := value("dev"), value("via")
	there := ""
	if n := state.Node(node); n != nil {
		there = " to " + n.IP
	}
	switch {
	case device == "":
		return "no route: " + route
	case device == "berth.1":
		return "through VXLAN (berth.1, UDP 8472)" + there
	case device == "berth-wg":
		return fmt.Sprintf("encrypted through WireGuard (berth-wg, UDP %s)%s", api.WireGuardPort, there)
	case device == "berth0":
		return "over the bridge berth0, on this node"
	case via != "":
		return "by " + via + " (" + device + ")"
	}
	return "by " + device
}

func (tr *traced) paint(g *globals) {
	g.out.Printf("%s (%s on %s) -> service %s, %s/%s\n", tr.Pod, tr.From, tr.Node, tr.Service, tr.To, tr.Protocol)
	switch {
	case tr.Verdict != "":
		g.out.Printf("\n%s on %s, by\n", map[string]string{"DROP": "Dropped", "REJECT": "Refused"}[tr.Verdict], tr.Node)
		for _, r := range tr.Rules {
			g.out.Println("    " + r)
		}
	case len(tr.Ends) == 0:
		g.out.Printf("\nNo rule on %s is about it: the packet leaves the node as it is. berth plan shows whether rules are missing.\n", tr.Node)
	}
	for _, e := range tr.Ends {
		who := "an address outside the cluster's pods"
		if e.Pod != "" {
			who = "pod " + e.Pod + " on " + e.Node
		}
		g.out.Printf("\n%.0f %%  %s  %s\n", e.Chance*100, e.To, who)
		for _, r := range e.Rules {
			g.out.Println("    " + r)
		}
		seen := "sees the pod's own address"
		if e.Masquerade {
			seen = "sees the node's address"
		}
		g.out.Println("    " + e.Way + "; " + seen)
	}
}

// servicePortNamed finds a service and its port by SERVICE[:PORT].
func servicePortNamed(state *api.State, namespace, text string) (*corev1.Service, *corev1.ServicePort, error) {
	name, want, _ := strings.Cut(text, ":")
	svc := serviceOf(state, namespace, name)
	if svc == nil {
		svc = serviceByName(state, namespace, name)
	}
	if svc == nil {
		return nil, nil, notFound("services", name, namespace)
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if want == "" || p.Name == want || strconv.Itoa(int(p.Port)) == want {
			return svc, p, nil
		}
	}
	return nil, nil, fail("No such port", fmt.Sprintf("Service %s does not have a service port %s.", svc.Name, want))
}

// serviceByName finds a service as DNS would: "web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local".
func serviceByName(state *api.State, namespace, name string) *corev1.Service {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	name = strings.TrimSuffix(name, "."+or(state.Cluster.Domain, api.DefaultCluster.Domain))
	name = strings.TrimSuffix(name, ".svc")
	name, other, far := strings.Cut(name, ".")
	if far {
		namespace = other
	}
	for _, o := range state.Objects {
		if svc, ok := o.Value.(*corev1.Service); ok && svc.Name == name && svc.Namespace == namespace {
			return svc
		}
	}
	return nil
}
