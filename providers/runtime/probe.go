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
)

// maxProbeOutput bounds what is read of a probe's answer.
const maxProbeOutput = 10 << 10

// attempt returns the function that runs a probe once. It returns why the probe failed, "" when it succeeded, or an error when nothing
// can be said about the container. All connections are opened on the pod's node.
func (w *watch) attempt(c *watched, p *corev1.Probe) func(ctx context.Context) (string, error) {
	switch {
	case p.HTTPGet != nil:
		return func(ctx context.Context) (string, error) { return w.httpGet(ctx, c.spec, p.HTTPGet) }
	case p.TCPSocket != nil:
		return func(ctx context.Context) (string, error) { return w.tcp(ctx, c.spec, p.TCPSocket) }
	case p.Exec != nil:
		return func(ctx context.Context) (string, error) {
			return w.exec(ctx, c, p.Exec, time.Duration(cmp.Or(p.TimeoutSeconds, 1))*time.Second)
		}
	case p.GRPC != nil:
		return func(ctx context.Context) (string, error) { return w.grpc(ctx, p.GRPC) }
	}
	return func(context.Context) (string, error) { return "", errors.New("the probe has no handler") }
}

func (w *watch) httpGet(ctx context.Context, c *corev1.Container, a *corev1.HTTPGetAction) (string, error) {
	req, err := w.probeRequest(ctx, c, a)
	if err != nil {
		return "", err
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       w.m.Dial,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as upstream: the probe is about health, not identity
		},
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
	if resp.StatusCode >= 200 && resp.StatusCode < 400 {
		return "", nil
	}
	return fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode), nil
}

func (w *watch) probeRequest(ctx context.Context, c *corev1.Container, a *corev1.HTTPGetAction) (*http.Request, error) {
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
	u.Host = net.JoinHostPort(cmp.Or(a.Host, w.b.ip), strconv.Itoa(port))
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

func (w *watch) tcp(ctx context.Context, c *corev1.Container, a *corev1.TCPSocketAction) (string, error) {
	port, err := portNumber(c, a.Port)
	if err != nil {
		return "", err
	}
	conn, err := w.m.Dial(ctx, "tcp", net.JoinHostPort(cmp.Or(a.Host, w.b.ip), strconv.Itoa(port)))
	if err != nil {
		return probeFailure(err)
	}
	return "", conn.Close()
}

func (w *watch) exec(ctx context.Context, c *watched, a *corev1.ExecAction, timeout time.Duration) (string, error) {
	literal := func(name string) (string, bool) {
		for _, e := range c.spec.Env {
			if e.Name == name && e.ValueFrom == nil {
				return e.Value, true
			}
		}
		return "", false
	}
	resp, err := w.m.cri.Runtime.ExecSync(ctx, &runtimev1.ExecSyncRequest{ContainerId: c.id, Cmd: expandAll(a.Command, literal), Timeout: int64(timeout.Seconds())})
	if status.Code(err) == codes.DeadlineExceeded || ctx.Err() != nil {
		return fmt.Sprintf("command timed out after %s", timeout), nil
	}
	if err != nil {
		return "", errors.New(criText(err))
	}
	if resp.GetExitCode() == 0 {
		return "", nil
	}
	text := strings.TrimSpace(string(resp.GetStdout()) + string(resp.GetStderr()))
	return cmp.Or(strings.ToValidUTF8(text[:min(len(text), maxProbeOutput)], "\uFFFD"), fmt.Sprintf("command ended with exit code %d", resp.GetExitCode())), nil
}

func (w *watch) grpc(ctx context.Context, a *corev1.GRPCAction) (string, error) {
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(w.b.ip, strconv.Itoa(int(a.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/berth"),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return w.m.Dial(ctx, "tcp", addr) }))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	req := &healthv1.HealthCheckRequest{}
	if a.Service != nil {
		req.Service = *a.Service
	}
	resp, err := healthv1.NewHealthClient(conn).Check(ctx, req)
	if err != nil {
		return criText(err), nil
	}
	if resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return fmt.Sprintf("service unhealthy (responded with %q)", resp.GetStatus()), nil
	}
	return "", nil
}

// probeFailure takes a connection that failed for a failure, unless it is our way to the host that broke.
func probeFailure(err error) (string, error) {
	if errors.Is(err, providers.ErrUnreachable) || errors.Is(err, providers.ErrForwardingRefused) {
		return "", err
	}
	return err.Error(), nil
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
