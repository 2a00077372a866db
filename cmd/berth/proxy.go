package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
)

type proxyCommand struct {
	namespace string
	listen    string
	node      string
}

func newProxy(g *globals) *cobra.Command {
	var o proxyCommand
	cmd := &cobra.Command{
		Use: "proxy", Short: "Reach services and pods from here, through SSH, as a SOCKS proxy", Args: cobra.NoArgs,
		Long: `Listens on a port of this machine and speaks SOCKS 5. Connections go through the SSH connection to a node, as if they were made there: to
services and pods by their names in the cluster or their addresses, and to whatever else the node reaches. It ends by Ctrl-C.

Names are those that pods know: SERVICE, SERVICE.NAMESPACE, SERVICE.NAMESPACE.svc.cluster.local, and POD.SERVICE.… for the pods of a
service. They are looked up in the state; other names are looked up on the node. Clients have to leave names to the proxy, as
curl does with socks5h://.`,
		Example: "  berth proxy &\n  curl --proxy socks5h://127.0.0.1:1080 http://web.shop/\n  berth proxy --listen 127.0.0.1:9050 --node a1",
		RunE:    func(cmd *cobra.Command, _ []string) error { return runProxy(cmd.Context(), g, o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace` of names without one")
	f.StringVar(&o.listen, "listen", "127.0.0.1:1080", "the `address` to listen on; port 0 takes any that is free")
	f.StringVar(&o.node, "node", "", "go through this `node`; any that can be reached when it is not given")
	return cmd
}

// maxProxied is how many connections are carried at once; more wait.
const maxProxied = 200

// dialTimeout bounds how long a connection may take to come about.
const dialTimeout = 15 * time.Second

func runProxy(ctx context.Context, g *globals, o proxyCommand) error {
	x, err := openReach(ctx, g)
	if err != nil {
		return err
	}
	defer x.close()
	p := &socksProxy{x: x, namespace: o.namespace}
	for _, n := range x.state.Nodes {
		if o.node == "" || o.node == n.Name {
			p.nodes = append(p.nodes, n.Name)
		}
	}
	if len(p.nodes) == 0 {
		if o.node != "" {
			return notFound("nodes", o.node, "")
		}
		return fail("No nodes", "The state has no nodes to go through. Run berth apply first.")
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fail("Address cannot be listened on", fmt.Sprintf("Unable to listen on %s: %v. Choose another one with --listen.", o.listen, err))
	}
	g.out.Printf("SOCKS proxy on %s. Try: curl --proxy socks5h://%s http://SERVICE.NAMESPACE/\n", l.Addr(), l.Addr())
	return p.serve(ctx, l)
}

// socksProxy carries connections into the cluster.
type socksProxy struct {
	x         *reach
	namespace string
	nodes     []string // to go through, in the order in which they are tried

	mu sync.Mutex // of the output and of nodes
}

func (p *socksProxy) serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var conns sync.WaitGroup
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	turn := make(chan struct{}, maxProxied)
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if c != nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("listen on %s: %w", l.Addr(), err)
		}
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			c.Close()
			return nil
		}
		conns.Go(func() {
			defer func() { <-turn }()
			end := context.AfterFunc(ctx, func() { c.Close() })
			defer end()
			defer c.Close()
			if err := socksServe(ctx, c, p.dial); err != nil && ctx.Err() == nil {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.x.g.err.Printf("%v\n", err)
			}
		})
	}
}

// dial connects to a name or an address of the cluster.
func (p *socksProxy) dial(ctx context.Context, host string, port uint16) (net.Conn, byte, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host, err := resolveName(p.x.state, p.namespace, host)
	if err != nil {
		return nil, socksNoHost, err
	}
	to := net.JoinHostPort(host, strconv.Itoa(int(port)))
	var last error
	for _, name := range p.order() {
		h, err := p.x.host(ctx, name)
		if err != nil {
			last = err
			p.later(name)
			continue
		}
		c, err := h.Dial(ctx, "tcp", to)
		if err != nil {
			return nil, socksRefused, fmt.Errorf("from %s: %w", name, err)
		}
		return c, socksOK, nil
	}
	return nil, socksFailed, last
}

func (p *socksProxy) order() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.nodes)
}

// later puts a node that cannot be reached behind the others.
func (p *socksProxy) later(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.nodes, name); i >= 0 {
		p.nodes = append(slices.Delete(p.nodes, i, i+1), name)
	}
}

// resolveName turns a name of the cluster into an address; other names are returned as they are, for the node to look up.
func resolveName(state *api.State, namespace, host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	if svc := serviceByName(state, namespace, host); svc != nil {
		return addressOfService(state, svc)
	}
	// POD.SERVICE.NAMESPACE…: a pod behind a service; only with the cluster's own ending or a known service, so that names outside are left alone.
	pod, rest, ok := strings.Cut(host, ".")
	if svc := serviceByName(state, namespace, rest); ok && svc != nil {
		for _, p := range podsBehind(state, svc) {
			if p.Address.Pod == pod || p.Spec != nil && p.Spec.Hostname == pod || strings.NewReplacer(".", "-", ":", "-").Replace(p.IP) == pod {
				return p.IP, nil
			}
		}
		return "", fmt.Errorf("the service %s has no pod %s that is ready", svc.Name, pod)
	}
	domain := or(state.Cluster.Domain, api.DefaultCluster.Domain)
	if strings.HasSuffix(strings.TrimSuffix(host, "."), "."+domain) {
		return "", fmt.Errorf("the state knows no such name of the cluster")
	}
	return host, nil
}

func addressOfService(state *api.State, svc *corev1.Service) (string, error) {
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return strings.TrimSuffix(svc.Spec.ExternalName, "."), nil
	case svc.Spec.ClusterIP != "" && svc.Spec.ClusterIP != corev1.ClusterIPNone:
		return svc.Spec.ClusterIP, nil
	}
	if pods := podsBehind(state, svc); len(pods) > 0 {
		return pods[0].IP, nil
	}
	return "", fmt.Errorf("the service %s has no cluster IP and no pod that is ready", svc.Name)
}

// podsBehind are the ready pods that a service means, as last applied.
func podsBehind(state *api.State, svc *corev1.Service) []*api.PodState {
	if len(svc.Spec.Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	return podsWhere(state, func(p *api.PodState) bool {
		return p.Namespace == svc.Namespace && p.IP != "" && (p.Ready || svc.Spec.PublishNotReadyAddresses) && selector.Matches(labels.Set(p.Labels))
	})
}
