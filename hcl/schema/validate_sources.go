package schema

import (
	"fmt"
	"net/url"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"berth.dev/berth/api"
)

// sourced checks that it is said where a metric comes from that the container runtime does not have.
func (c *checker) sourced(p string, s *api.AutoscalerSpec, m *autoscalingv2.MetricSpec) {
	for _, at := range []struct {
		path   string
		metric *autoscalingv2.MetricIdentifier
	}{
		{p + ".pods.metric", identifierOf(m.Pods, func(v *autoscalingv2.PodsMetricSource) *autoscalingv2.MetricIdentifier { return &v.Metric })},
		{p + ".object.metric", identifierOf(m.Object, func(v *autoscalingv2.ObjectMetricSource) *autoscalingv2.MetricIdentifier { return &v.Metric })},
		{p + ".external.metric", identifierOf(m.External, func(v *autoscalingv2.ExternalMetricSource) *autoscalingv2.MetricIdentifier { return &v.Metric })},
	} {
		if at.metric == nil || at.metric.Name == "" {
			continue
		}
		source := s.Source(at.metric.Name)
		switch {
		case source == nil:
			c.invalid(at.path+".name", at.metric.Name, "nothing says where it comes from: add a block source \""+at.metric.Name+"\" with a `command` or a `prometheus` block")
		case at.metric.Selector != nil && len(source.Command) > 0:
			c.forbidden(at.path+".selector", "a command answers no series to select from: let the command select")
		}
	}
}

func identifierOf[T any](source *T, metric func(*T) *autoscalingv2.MetricIdentifier) *autoscalingv2.MetricIdentifier {
	if source == nil {
		return nil
	}
	return metric(source)
}

// sources checks where metrics come from.
func (c *checker) sources(s *api.AutoscalerSpec) {
	used := map[string]bool{}
	for i := range s.Metrics {
		m := &s.Metrics[i]
		switch {
		case m.Pods != nil:
			used[m.Pods.Metric.Name] = true
		case m.Object != nil:
			used[m.Object.Metric.Name] = true
		case m.External != nil:
			used[m.External.Metric.Name] = true
		}
	}
	seen := once{}
	for i, p := range elements("spec.sources", s.Sources, func(v *api.MetricSource) string { return v.Name }) {
		v := &s.Sources[i]
		if c.needs(p+".name", v.Name, "the name of the metric") {
			seen.add(c, p+".name", v.Name)
			if !used[v.Name] {
				c.invalid(p+".name", v.Name, "no metric of the autoscaler has this name")
			}
		}
		c.exactlyOne(p, []string{"command", "prometheus"}, len(v.Command) > 0, v.Prometheus != nil)
		if len(v.Command) > 0 && v.Command[0] == "" {
			c.invalid(p+".command", v.Command, "its first element names a program")
		}
		if v.TimeoutSeconds < 0 || v.TimeoutSeconds > api.MaxMetricTimeout {
			c.invalid(p+".timeoutSeconds", v.TimeoutSeconds, fmt.Sprintf("must be between 1 and %d, inclusive", api.MaxMetricTimeout))
		}
		if v.Prometheus != nil {
			c.prometheus(p+".prometheus", v.Prometheus)
		}
	}
}

func (c *checker) prometheus(p string, q *api.PrometheusQuery) {
	c.needs(p+".query", q.Query, "a query in PromQL")
	if !c.needs(p+".url", q.URL, "the server, as in http://10.0.0.5:9090") {
		return
	}
	u, err := url.Parse(q.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		c.invalid(p+".url", q.URL, "must be a URL with http or https and a host")
	case u.User != nil:
		c.invalid(p+".url", u.Redacted(), "must not hold a password: name a file with a token, `bearer_token_file`")
	case u.RawQuery != "" || u.Fragment != "":
		c.invalid(p+".url", q.URL, "must not have a query or a fragment: the server alone")
	case q.CAFile != "" && u.Scheme != "https":
		c.forbidden(p+".caFile", "only https has certificates to check")
	}
}
