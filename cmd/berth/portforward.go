package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime"
)

type portForwardCommand struct {
	namespace string
	addresses []string
	json      bool
}

func newPortForward(g *globals) *cobra.Command {
	var o portForwardCommand
	cmd := &cobra.Command{
		Use: "port-forward POD [LOCAL:]REMOTE [...[LOCAL:]REMOTE]", Short: "Reach ports of a pod from here", Args: cobra.MinimumNArgs(2),
		Long: `Listens on ports of this machine and forwards connections to a pod, through the SSH connection to its host. Programs in the
pod that listen on 127.0.0.1 alone are reached too. It ends with the pod, or by Ctrl-C.

` + targetHelp + `

REMOTE is a port's number, or its name in the pod or the service. Of a service it is the service's port, and the
connections go to one of its pods. LOCAL is the same number unless it is given; 0, or nothing before the colon,
takes any port that is free.`,
		Example: "  berth port-forward web-6d4cf56db6-x2k4p 8080:80\n  berth port-forward svc/web :http\n" +
			"  berth port-forward deployment/web 8080 9090 --address 0.0.0.0",
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			return runPortForward(cmd.Context(), g, args[0], args[1:], o)
		},
	}
	cmd.ValidArgsFunction = g.completions(podNames(&o.namespace))
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.StringSliceVar(&o.addresses, "address", []string{"localhost"}, "the `addresses` to listen on: localhost, or IP addresses")
	f.BoolVar(&o.json, "json", false, "what is listened on as JSON objects, one a line")
	return cmd
}

// portPair is what was asked for: a port of this machine, 0 for any, and a port of the pod or the service by number or name.
type portPair struct {
	local  uint16
	same   bool // the number that remote turns out to have
	remote intstr.IntOrString
}

func parsePort(text string) (portPair, error) {
	local, remote, both := strings.Cut(text, ":")
	if !both {
		remote = local
	}
	p := portPair{remote: intstr.Parse(remote)}
	if n := p.remote.IntValue(); remote == "" || p.remote.Type == intstr.Int && (n < 1 || n > 65535) || strings.Contains(remote, ":") {
		return p, fmt.Errorf("port %q: want [LOCAL:]REMOTE, where REMOTE is a number from 1 to 65535 or a port's name", text)
	}
	switch {
	case both && local == "":
	case !both:
		p.same = true
	default:
		n, err := strconv.ParseUint(local, 10, 16)
		if err != nil {
			return p, fmt.Errorf("port %q: the local port %q is not a number from 0 to 65535", text, local)
		}
		p.local = uint16(n)
	}
	return p, nil
}

// parseAddresses checks what to listen on; "localhost" is both loopback addresses, of which one is enough.
func parseAddresses(list []string) ([]string, error) {
	for _, a := range list {
		if a != "localhost" && net.ParseIP(a) == nil {
			return nil, fmt.Errorf("--address %q: want localhost or an IP address", a)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(list))), nil
}

func runPortForward(ctx context.Context, g *globals, name string, ports []string, o portForwardCommand) error {
	addresses, err := parseAddresses(o.addresses)
	if err != nil {
		return usageError{err}
	}
	var pairs []portPair
	for _, text := range ports {
		p, err := parsePort(text)
		if err != nil {
			return usageError{err}
		}
		pairs = append(pairs, p)
	}
	x, err := openReach(ctx, g)
	if err != nil {
		return err
	}
	defer x.close()
	t, err := x.pod(ctx, o.namespace, name)
	if err != nil {
		return err
	}
	if t.seen == nil || !t.seen.SandboxReady {
		return fail("Pod does not run", fmt.Sprintf("Unable to forward ports: the pod %s does not run on %s. See berth get pods -n %s; berth apply starts it again.",
			t.pod.Address.Pod, t.host.Name(), t.pod.Namespace))
	}
	svc := serviceOf(x.state, o.namespace, name)
	f := &forwarder{g: g, t: t, json: o.json, turn: make(chan struct{}, maxForwards)}
	defer f.close()
	for _, p := range pairs {
		remote, err := remotePort(t, svc, p.remote)
		if err != nil {
			return err
		}
		if p.same {
			p.local = sameNumber(p.remote, remote)
		}
		if err := f.listen(ctx, addresses, p.local, remote); err != nil {
			return err
		}
	}
	return f.serve(ctx)
}

// sameNumber is the local port of a pair without one: the number that was written, or the one that a name means.
func sameNumber(written intstr.IntOrString, remote int32) uint16 {
	if written.Type == intstr.Int {
		return uint16(written.IntVal)
	}
	return uint16(remote)
}

// serviceOf is the service that a name on the command line means; nil when it means something else.
func serviceOf(s *api.State, namespace, name string) *corev1.Service {
	word, object, _ := strings.Cut(name, "/")
	kind, known := kindByWord(word)
	for _, o := range s.Objects {
		if o.Address.Kind != api.KindService {
			continue
		}
		byType := known && kind.Name == api.KindService && o.Name() == object && o.Namespace() == namespace
		if byType || o.Address.String() == name {
			return o.Value.(*corev1.Service)
		}
	}
	return nil
}

// remotePort is the pod's port that a number or a name means.
func remotePort(t *target, svc *corev1.Service, want intstr.IntOrString) (int32, error) {
	if svc == nil {
		return podPort(t, want)
	}
	for _, p := range svc.Spec.Ports {
		if want.Type == intstr.Int && p.Port != want.IntVal || want.Type == intstr.String && p.Name != want.StrVal {
			continue
		}
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			return 0, fail("Port is not TCP", fmt.Sprintf("The port %s of the service %s is %s; only TCP can be forwarded.", want.String(), svc.Name, p.Protocol))
		}
		to := p.TargetPort
		if to == (intstr.IntOrString{}) {
			to = intstr.FromInt32(p.Port)
		}
		return podPort(t, to)
	}
	return 0, fail("No such port", fmt.Sprintf("Service %s does not have a service port %s.", svc.Name, want.String()))
}

func podPort(t *target, want intstr.IntOrString) (int32, error) {
	if want.Type == intstr.Int {
		return want.IntVal, nil
	}
	var names []string
	if t.pod.Spec != nil {
		for _, c := range t.pod.Spec.Containers {
			for _, p := range c.Ports {
				if p.Name == want.StrVal && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
					return p.ContainerPort, nil
				}
				if p.Name != "" {
					names = append(names, p.Name)
				}
			}
		}
	}
	return 0, fail("No such port", fmt.Sprintf("The pod %s has no TCP port named %q. It names: %s.", t.pod.Address.Pod, want.StrVal, strings.Join(names, ", ")))
}

// maxForwards is how many connections are forwarded at once; more wait.
const maxForwards = 200

// forwarder listens here and forwards to one pod.
type forwarder struct {
	g    *globals
	t    *target
	json bool
	turn chan struct{}

	open []listening
	mu   sync.Mutex // of the output
}

type listening struct {
	net.Listener
	local  uint16
	remote int32
}

func (f *forwarder) close() {
	for _, l := range f.open {
		_ = l.Close() // it may be closed already
	}
}

// listen opens a port on every address.
func (f *forwarder) listen(ctx context.Context, addresses []string, local uint16, remote int32) error {
	for _, a := range addresses {
		if a != "localhost" {
			l, err := f.listenOn(ctx, a, local, remote)
			if err != nil {
				return err
			}
			local = l
			continue
		}
		l, err := f.listenOn(ctx, "127.0.0.1", local, remote)
		if err != nil {
			return err
		}
		local = l
		if _, err := f.listenOn(ctx, "::1", local, remote); err != nil && ctx.Err() != nil {
			return err // else: a machine without IPv6 does with the other one
		}
	}
	return nil
}

func (f *forwarder) listenOn(ctx context.Context, address string, local uint16, remote int32) (uint16, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(int(local))))
	if err != nil {
		return 0, fail("Port cannot be listened on", fmt.Sprintf("Unable to listen on port %d of %s: %v. Choose another one, as in %d:%d, or any with :%d.", local, address, err, 10000+int(local)%50000, remote, remote))
	}
	at := l.Addr().(*net.TCPAddr)
	f.open = append(f.open, listening{l, uint16(at.Port), remote})
	f.say(forwarding{"forwarding", at.String(), remote}, fmt.Sprintf("Forwarding from %s -> %d", at, remote))
	return uint16(at.Port), nil
}

// forwarding is what is listened on, or a connection that came, as JSON.
type forwarding struct {
	Type   string `json:"type"` // forwarding, connection
	Local  string `json:"local"`
	Remote int32  `json:"remote"`
}

func (f *forwarder) say(j forwarding, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.json {
		f.g.out.Println(text)
		return
	}
	b, err := json.Marshal(j)
	if err == nil { // strings and a number
		f.g.out.Println(string(b))
	}
}

// serve forwards until the context ends, which is no error, or the pod does.
func (f *forwarder) serve(ctx context.Context) error {
	all, running := errgroup.WithContext(ctx)
	for _, l := range f.open {
		all.Go(func() error { return f.accept(running, l) })
	}
	all.Go(func() error { return f.watch(running) })
	all.Go(func() error { // ends the listeners with the rest
		<-running.Done()
		f.close()
		return nil
	})
	if err := all.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func (f *forwarder) accept(ctx context.Context, l listening) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if c != nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("listen on port %d: %w", l.local, err)
		}
		f.say(forwarding{"connection", l.Addr().String(), l.remote}, fmt.Sprintf("Handling connection for %d", l.local))
		select {
		case f.turn <- struct{}{}:
		case <-ctx.Done():
			c.Close()
			return nil
		}
		conns.Go(func() {
			defer func() { <-f.turn }()
			if err := runtime.Forward(ctx, f.t.host, f.t.seen.SandboxID, l.remote, c); err != nil && ctx.Err() == nil {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.g.err.Printf("An error occurred forwarding %d -> %d of pod %s: %v\n", l.local, l.remote, f.t.pod.Address.Pod, err)
			}
		})
	}
}

// podWatch is how often a pod that is forwarded to is asked whether it is still there.
const podWatch = time.Second

// watch returns an error when the pod is gone.
func (f *forwarder) watch(ctx context.Context) error {
	tick := time.NewTicker(podWatch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		ready, err := runtime.SandboxReady(ctx, f.t.host, f.t.pod.UID, f.t.seen.SandboxID)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("lost connection to pod %s: %w", f.t.pod.Address.Pod, err)
		case !ready:
			return fail("Lost connection to pod", fmt.Sprintf("The pod %s is gone from %s, or was made anew there. Run the command again.", f.t.pod.Address.Pod, f.t.host.Name()))
		}
	}
}
