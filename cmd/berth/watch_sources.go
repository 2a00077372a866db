package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	promapi "github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
)

// metricSources ask commands and Prometheus servers for metrics.
type metricSources struct {
	dir string // where commands run, and what names of files are relative to
	env []string
}

// metricQuestion is a metric that is asked for.
type metricQuestion struct {
	source    *api.MetricSource
	namespace string
	target    string          // the workload: "deployment.web"
	object    string          // "Service/web"; "" when the metric is of none
	selector  labels.Selector // nil for all series
	byPod     bool
}

// ask returns the metric in thousandths, by pod or, under "", of everything.
func (m *metricSources) ask(parent context.Context, q metricQuestion) (map[string]int64, error) {
	seconds := q.source.TimeoutSeconds
	if seconds <= 0 {
		seconds = api.DefaultMetricTimeout
	}
	limit := time.Duration(seconds) * time.Second
	ctx, cancel := context.WithTimeoutCause(parent, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	ask := m.run
	if q.source.Prometheus != nil {
		ask = m.query
	}
	values, err := ask(ctx, q)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return values, err
}

// run runs a command: no shell, no input, bounded in time and output.
func (m *metricSources) run(ctx context.Context, q metricQuestion) (map[string]int64, error) {
	command := q.source.Command
	name := command[0]
	if strings.ContainsRune(name, filepath.Separator) && !filepath.IsAbs(name) {
		dir, err := filepath.Abs(m.dir)
		if err != nil {
			return nil, fmt.Errorf("find the command: %w", err)
		}
		name = filepath.Join(dir, name)
	}
	cmd := exec.CommandContext(ctx, name, command[1:]...)
	cmd.Dir, cmd.WaitDelay = m.dir, time.Second
	cmd.Env = append(slices.Clone(m.env), "BERTH_METRIC="+q.source.Name, "BERTH_NAMESPACE="+q.namespace, "BERTH_TARGET="+q.target, "BERTH_OBJECT="+q.object)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with what it has started
	stdout, stderr := limitedBuffer{left: api.MetricOutputLimit}, limitedBuffer{left: 4 << 10, quiet: true}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if stdout.left == 0 {
			err = fmt.Errorf("it prints more than %d bytes", api.MetricOutputLimit)
		}
		if said := strings.TrimSpace(stderr.kept.String()); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return nil, fmt.Errorf("command %s: %w", command[0], err)
	}
	values, err := parseMetric(stdout.kept.Bytes(), q.byPod)
	if err != nil {
		return nil, fmt.Errorf("command %s: %w", command[0], err)
	}
	return values, nil
}

// parseMetric reads what a command prints: a number, or lines with the name of a pod and a number.
func parseMetric(text []byte, byPod bool) (map[string]int64, error) {
	out := map[string]int64{}
	if !byPod {
		v, err := parseNumber(string(text))
		out[""] = v
		return out, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) == 0 {
			continue
		}
		if len(f) != 2 {
			return nil, fmt.Errorf("line %q is not the name of a pod and a number", shortened(lines.Text()))
		}
		v, err := parseNumber(f[1])
		if err != nil {
			return nil, fmt.Errorf("pod %s: %w", f[0], err)
		}
		if _, twice := out[f[0]]; twice {
			return nil, fmt.Errorf("pod %s is there twice", f[0])
		}
		out[f[0]] = v
	}
	return out, lines.Err()
}

// parseNumber reads a number as Kubernetes writes quantities, in thousandths.
func parseNumber(text string) (int64, error) {
	text = strings.TrimSpace(text)
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return 0, fmt.Errorf("it answers %q, which is no number", shortened(text))
	}
	return thousandths(q.AsApproximateFloat64())
}

// thousandths of a value that can be compared with a target.
func thousandths(v float64) (int64, error) {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return 0, fmt.Errorf("it answers %v, which is no number", v)
	case v < 0:
		return 0, fmt.Errorf("it answers %v: what is less than nothing cannot be compared with a target", v)
	case v > 1e15:
		return 0, fmt.Errorf("it answers %v, which is too much", v)
	}
	return int64(math.Round(v * 1000)), nil
}

func shortened(text string) string {
	if len(text) > 60 {
		return text[:60] + "..."
	}
	return text
}

// query asks a Prometheus.
func (m *metricSources) query(ctx context.Context, q metricQuestion) (map[string]int64, error) {
	p := q.source.Prometheus
	client, err := m.client(p)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	c, err := promapi.NewClient(promapi.Config{Address: p.URL, Client: client})
	if err != nil {
		return nil, err
	}
	value, _, err := promv1.NewAPI(c).Query(ctx, p.Query, time.Time{})
	if err != nil {
		return nil, fmt.Errorf("prometheus at %s: %w", p.URL, err)
	}
	values, err := seriesOf(value, q)
	if err != nil {
		return nil, fmt.Errorf("prometheus at %s: %w", p.URL, err)
	}
	return values, nil
}

// client reaches one server: it follows no redirections, which could lead a token elsewhere.
func (m *metricSources) client(p *api.PrometheusQuery) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if p.CAFile != "" {
		pem, err := os.ReadFile(inDir(m.dir, p.CAFile))
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s has no certificate", p.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	token := ""
	if p.BearerTokenFile != "" {
		text, err := os.ReadFile(inDir(m.dir, p.BearerTokenFile))
		if err != nil {
			return nil, fmt.Errorf("read bearer_token_file: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	return &http.Client{
		Transport:     &metricTransport{transport, token},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// metricTransport adds a token, and reads no more of an answer than it may have.
type metricTransport struct {
	*http.Transport
	token string
}

// RoundTrip sends one request.
func (t *metricTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+t.token)
	}
	resp, err := t.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = &limitedBody{resp.Body, api.MetricOutputLimit}
	}
	return resp, err
}

// limitedBody is an answer that fails where it becomes too long.
type limitedBody struct {
	io.ReadCloser
	left int
}

// Read reads on.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("the answer has more than %d bytes", api.MetricOutputLimit)
	}
	return n, err
}

// seriesOf adds up the series of an answer that are asked for.
func seriesOf(value model.Value, q metricQuestion) (map[string]int64, error) {
	out := map[string]int64{}
	switch v := value.(type) {
	case *model.Scalar:
		if q.byPod || q.selector != nil {
			return nil, errors.New("the query answers a number without labels")
		}
		n, err := thousandths(float64(v.Value))
		out[""] = n
		return out, err
	case model.Vector:
		sums := map[string]float64{}
		for _, s := range v {
			pod, ok := podOfSeries(s.Metric, q)
			if ok {
				sums[pod] += float64(s.Value)
			}
		}
		if len(sums) == 0 {
			return nil, errors.New("the query answers nothing that counts here")
		}
		for pod, sum := range sums {
			n, err := thousandths(sum)
			if err != nil {
				return nil, err
			}
			out[pod] = n
		}
		return out, nil
	}
	return nil, fmt.Errorf("the query answers a %s: it has to answer an instant vector or a scalar", value.Type())
}

// podOfSeries says whose a series is: "" when that is not asked; false for one that does not count.
func podOfSeries(m model.Metric, q metricQuestion) (string, bool) {
	set := labels.Set{}
	for name, value := range m {
		set[string(name)] = string(value)
	}
	switch {
	case q.selector != nil && !q.selector.Matches(set):
		return "", false
	case !q.byPod:
		return "", true
	case set["namespace"] != "" && set["namespace"] != q.namespace:
		return "", false
	}
	return set["pod"], set["pod"] != ""
}

// limitedBuffer keeps the beginning of what is written to it. More than that is an error, unless it is quiet.
type limitedBuffer struct {
	kept  bytes.Buffer
	left  int
	quiet bool
}

// Write keeps what there is room for.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	keep := p[:min(len(p), b.left)]
	b.left -= len(keep)
	b.kept.Write(keep)
	if len(keep) < len(p) && !b.quiet {
		return len(keep), io.ErrShortWrite
	}
	return len(p), nil
}
