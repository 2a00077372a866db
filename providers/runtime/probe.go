package runtime

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime/life"
)

// maxProbeOutput bounds what is read of a probe's answer.
const maxProbeOutput = 10 << 10

// probeResult is what one run of a probe gave. No failure is success.
type probeResult struct {
	failure string
	event   string // the failure without what a container has written
	warning string
	// answered says that the failure is what the container itself has said: that nothing came of a probe may be the way's fault.
	answered bool
}

func failed(format string, args ...any) probeResult {
	text := fmt.Sprintf(format, args...)
	return probeResult{failure: text, event: text}
}

// refused is a failure that the container has answered with.
func refused(format string, args ...any) probeResult {
	r := failed(format, args...)
	r.answered = true
	return r
}

// attempt returns the function that runs a probe once. It returns an error when nothing can be said about the container. All connections
// are opened on the pod's node.
func (k *keeper) attempt(c *corev1.Container, id string, p *corev1.Probe) func(ctx context.Context) (probeResult, error) {
	switch {
	case p.HTTPGet != nil:
		return func(ctx context.Context) (probeResult, error) { return k.httpGet(ctx, c, p.HTTPGet) }
	case p.TCPSocket != nil:
		return func(ctx context.Context) (probeResult, error) { return k.tcp(ctx, c, p.TCPSocket) }
	case p.Exec != nil:
		return func(ctx context.Context) (probeResult, error) { return k.exec(ctx, c, id, p.Exec, life.Timeout(p)) }
	case p.GRPC != nil:
		return func(ctx context.Context) (probeResult, error) { return k.grpc(ctx, p.GRPC) }
	}
	return func(context.Context) (probeResult, error) {
		return probeResult{}, errors.New("the probe has no handler")
	}
}

// transport opens connections on the pod's node, one for each request, without a proxy and without a look at certificates.
func (k *keeper) transport() *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext:       k.m.Dial,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as upstream: it is about health, not identity
	}
}

func (k *keeper) httpGet(ctx context.Context, c *corev1.Container, a *corev1.HTTPGetAction) (probeResult, error) {
	req, err := k.probeRequest(ctx, c, a)
	if err != nil {
		return probeResult{}, err
	}
	client := http.Client{
		Transport: k.transport(),
		CheckRedirect: func(to *http.Request, via []*http.Request) error {
			if to.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse // alive enough to send us away
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
	resp, err := client.Do(req)
	if err != nil {
		return probeFailure(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxProbeOutput)); err != nil {
		return probeFailure(err)
	}
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return probeResult{warning: "Probe terminated redirects"}, nil
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return probeResult{}, nil
	}
	return refused("HTTP probe failed with statuscode: %d", resp.StatusCode), nil
}

func (k *keeper) probeRequest(ctx context.Context, c *corev1.Container, a *corev1.HTTPGetAction) (*http.Request, error) {
	port, err := portNumber(c, a.Port)
	if err != nil {
		return nil, err
	}
	path := cmp.Or(a.Path, "/")
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	u, err := url.Parse(path)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", a.Path, err)
	}
	u.Scheme = strings.ToLower(cmp.Or(string(a.Scheme), "http"))
	u.Host = net.JoinHostPort(cmp.Or(a.Host, k.b.ip), strconv.Itoa(port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "kube-probe/berth")
	req.Header.Set("Accept", "*/*")
	for _, h := range a.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		req.Header.Set(h.Name, h.Value)
	}
	return req, nil
}

func (k *keeper) tcp(ctx context.Context, c *corev1.Container, a *corev1.TCPSocketAction) (probeResult, error) {
	port, err := portNumber(c, a.Port)
	if err != nil {
		return probeResult{}, err
	}
	conn, err := k.m.Dial(ctx, "tcp", net.JoinHostPort(cmp.Or(a.Host, k.b.ip), strconv.Itoa(port)))
	if err != nil {
		return probeFailure(err)
	}
	return probeResult{}, conn.Close()
}

// exec runs a command in the container. Its output goes into the failure that a person sees, and into no event.
func (k *keeper) exec(ctx context.Context, c *corev1.Container, id string, a *corev1.ExecAction, timeout time.Duration) (probeResult, error) {
	literal := func(name string) (string, bool) {
		for _, e := range c.Env {
			if e.Name == name && e.ValueFrom == nil {
				return e.Value, true
			}
		}
		return "", false
	}
	resp, err := k.m.cri.Runtime.ExecSync(ctx, &runtimev1.ExecSyncRequest{ContainerId: id, Cmd: expandAll(a.Command, literal), Timeout: int64(timeout.Seconds())})
	if status.Code(err) == codes.DeadlineExceeded || ctx.Err() != nil {
		return failed("command timed out after %s", timeout), nil
	}
	if err != nil {
		return probeResult{}, errors.New(criText(err))
	}
	if resp.GetExitCode() == 0 {
		return probeResult{}, nil
	}
	r := refused("command ended with exit code %d", resp.GetExitCode())
	text := strings.TrimSpace(string(resp.GetStdout()) + string(resp.GetStderr()))
	r.failure = cmp.Or(strings.ToValidUTF8(text[:min(len(text), maxProbeOutput)], "\uFFFD"), r.failure)
	return r, nil
}

func (k *keeper) grpc(ctx context.Context, a *corev1.GRPCAction) (probeResult, error) {
	var mu sync.Mutex
	var dialled error // our way to the host, rather than the container
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(k.b.ip, strconv.Itoa(int(a.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/berth"),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := k.m.Dial(ctx, "tcp", addr)
			if errors.Is(err, providers.ErrUnreachable) || errors.Is(err, providers.ErrForwardingRefused) {
				mu.Lock()
				dialled = err
				mu.Unlock()
			}
			return c, err
		}))
	if err != nil {
		return probeResult{}, err
	}
	defer conn.Close()
	req := &healthv1.HealthCheckRequest{}
	if a.Service != nil {
		req.Service = *a.Service
	}
	resp, err := healthv1.NewHealthClient(conn).Check(ctx, req)
	mu.Lock()
	defer mu.Unlock()
	switch {
	case err != nil && dialled != nil:
		return probeResult{}, dialled
	case status.Code(err) == codes.Unimplemented:
		return refused("this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", criText(err)), nil
	case status.Code(err) == codes.DeadlineExceeded:
		return failed("timeout: health rpc did not complete within the probe's timeout"), nil
	case err != nil:
		return failed("health rpc failed: %s", criText(err)), nil
	case resp.GetStatus() != healthv1.HealthCheckResponse_SERVING:
		return refused("service unhealthy (responded with %q)", resp.GetStatus()), nil
	}
	return probeResult{}, nil
}

// probeFailure takes a connection that failed for a failure, unless it is our way to the host that broke.
func probeFailure(err error) (probeResult, error) {
	if errors.Is(err, providers.ErrUnreachable) || errors.Is(err, providers.ErrForwardingRefused) {
		return probeResult{}, err
	}
	return failed("%s", err), nil
}

// portNumber resolves a port that may be named.
func portNumber(c *corev1.Container, p intstr.IntOrString) (int, error) {
	if p.Type == intstr.Int {
		return p.IntValue(), nil
	}
	for _, port := range c.Ports {
		if port.Name == p.StrVal {
			return int(port.ContainerPort), nil
		}
	}
	if n, err := strconv.Atoi(p.StrVal); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("the container has no port named %q", p.StrVal)
}
