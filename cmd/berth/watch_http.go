package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// watchHTTP serves how the watchdog stands: /healthz whether it lives, /readyz whether it does its work, /metrics for Prometheus.
type watchHTTP struct {
	parts  *watchParts
	now    func() time.Time
	server *http.Server
	took   *prometheus.HistogramVec
	probes *prometheus.HistogramVec
	locks  prometheus.Histogram
	told   *prometheus.CounterVec
}

func newWatchHTTP(p *watchParts, now func() time.Time) *watchHTTP {
	w := &watchHTTP{parts: p, now: now}
	w.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "berth_watch_duration_seconds", Help: "How long things took: wait (a pod, from when it was due until it was tended), tend, round.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18),
	}, []string{"what"})
	reg := prometheus.NewRegistry()
	w.probes = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "berth_probe_duration_seconds", Help: "How long probes took, by their kind and by how they went: successful, failed, unknown.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"probe", "result"})
	w.locks = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "berth_lock_wait_seconds", Help: "How long the state's lock was waited for, from when another was found to have it.",
		Buckets: append([]float64{0}, prometheus.ExponentialBuckets(0.5, 2, 12)...),
	})
	w.told = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "berth_notifications_total", Help: "Notifications by the name of their block and by what came of them: sent, failed, dropped.",
	}, []string{"notify", "result"})
	reg.MustRegister(w.took, w.probes, w.locks, w.told, &watchCollector{w})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", w.healthz)
	mux.HandleFunc("GET /readyz", w.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	w.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return w
}

func (w *watchHTTP) observe(what string, took time.Duration) {
	w.took.WithLabelValues(what).Observe(took.Seconds())
}

// probed takes how a probe went.
func (w *watchHTTP) probed(kind, outcome string, took time.Duration) {
	w.probes.WithLabelValues(strings.ToLower(kind), outcome).Observe(took.Seconds())
}

// waited takes how long the state's lock was waited for.
func (w *watchHTTP) waited(d time.Duration) { w.locks.Observe(d.Seconds()) }

func (w *watchHTTP) run(l net.Listener) error {
	if err := w.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health and metrics: %w", err)
	}
	return nil
}

func (w *watchHTTP) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if w.server.Shutdown(ctx) != nil {
		_ = w.server.Close() // of those who do not hang up
	}
}

// healthz answers as long as the loop does, or another leads.
func (w *watchHTTP) healthz(rw http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), inWatch)
	defer cancel()
	if !w.answers(ctx) {
		http.Error(rw, "the loop does not answer", http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(rw, "ok")
}

// started reports whether the watchdog does, or stands by for, its work: that hosts cannot be reached is no reason to start it anew.
func (w *watchHTTP) started(ctx context.Context) bool {
	if w.parts.leader.standsBy() {
		return true
	}
	leads, _ := w.parts.dog.Leads()
	return leads && !w.parts.dog.Stats(ctx).Read.IsZero()
}

// answers reports whether the loop does, or another leads.
func (w *watchHTTP) answers(ctx context.Context) bool {
	leads, _ := w.parts.dog.Leads()
	return !leads || w.parts.dog.Answers(ctx)
}

// status is how things stand, in a line.
func (w *watchHTTP) status(ctx context.Context) string {
	if w.parts.leader.standsBy() {
		return "stands by: another watchdog leads"
	}
	if why := w.unready(ctx); why != "" {
		return why
	}
	s := w.parts.dog.Stats(ctx)
	ready := 0
	for _, p := range s.Pods {
		if p.Ready {
			ready++
		}
	}
	return fmt.Sprintf("leads: %d of %d pods are ready on %s", ready, len(s.Pods), several(len(s.Nodes), "node"))
}

// unready is what keeps the watchdog from its work, "" for nothing.
func (w *watchHTTP) unready(ctx context.Context) string {
	leads, _ := w.parts.dog.Leads()
	switch {
	case w.parts.leader.standsBy():
		return ""
	case !leads:
		return "it does not lead yet"
	}
	s := w.parts.dog.Stats(ctx)
	switch {
	case s.GoalError != "":
		return "the state cannot be read: " + s.GoalError
	case s.Read.IsZero():
		return "the state was not read yet"
	}
	var lost []string
	for _, n := range s.Nodes {
		if !n.Watched {
			lost = append(lost, n.Name)
		}
	}
	if len(lost) > 0 && len(lost) == len(s.Nodes) {
		return "no node is watched: " + strings.Join(lost, ", ")
	}
	return ""
}

func (w *watchHTTP) readyz(rw http.ResponseWriter, r *http.Request) {
	if why := w.unready(r.Context()); why != "" {
		http.Error(rw, why, http.StatusServiceUnavailable)
		return
	}
	text := "ok"
	if w.parts.leader.standsBy() {
		text = "ok: another watchdog leads"
	}
	fmt.Fprintln(rw, text)
}

// watchCollector makes metrics of how things stand when they are asked for.
type watchCollector struct{ w *watchHTTP }

var (
	metricLeader  = prometheus.NewDesc("berth_watch_leader", "1 while this watchdog acts.", nil, nil)
	metricNode    = prometheus.NewDesc("berth_node_watched", "1 while the node is watched.", []string{"node"}, nil)
	metricMass    = prometheus.NewDesc("berth_mass_loss", "1 while so many nodes have vanished at once that nothing is moved.", nil, nil)
	metricPods    = prometheus.NewDesc("berth_pods", "Pods by phase.", []string{"phase"}, nil)
	metricReady   = prometheus.NewDesc("berth_pods_ready", "Pods that are ready.", nil, nil)
	metricWaiting = prometheus.NewDesc("berth_pods_waiting", "Pods of which a container waits, by reason.", []string{"reason"}, nil)
	metricCounts  = prometheus.NewDesc("berth_watch_total", "What was counted while this watchdog has led: hints, restarts, errors, rounds, round_errors, chore_errors.", []string{"what"}, nil)
	metricSynced  = prometheus.NewDesc("berth_watch_last_round_timestamp_seconds", "When the last whole round ended well.", nil, nil)
	metricRead    = prometheus.NewDesc("berth_watch_state_read_timestamp_seconds", "When the state was last read.", nil, nil)
	metricDrift   = prometheus.NewDesc("berth_drift_changes", "Changes that --drift=report has found and not made.", nil, nil)
	metricPending = prometheus.NewDesc("berth_plan_waiting", "1 while a plan waits for approval.", nil, nil)
	metricApply   = prometheus.NewDesc("berth_last_apply_timestamp_seconds", "When somebody, or this watchdog, has last applied something.", nil, nil)
)

// Describe lists the metrics.
func (c *watchCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{metricLeader, metricNode, metricMass, metricPods, metricReady, metricWaiting, metricCounts, metricSynced, metricRead, metricDrift, metricPending, metricApply} {
		ch <- d
	}
	for _, d := range metricScalers.all() {
		ch <- d
	}
}

// Collect asks the loop.
func (c *watchCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), inWatch)
	defer cancel()
	s := c.w.parts.dog.Stats(ctx)
	leads, _ := c.w.parts.dog.Leads()
	gauge(metricLeader, boolFloat(leads))
	for _, n := range s.Nodes {
		gauge(metricNode, boolFloat(n.Watched), n.Name)
	}
	phases, waits, ready := map[string]int{"Pending": 0, "Running": 0, "Succeeded": 0, "Failed": 0, "Unknown": 0}, map[string]int{}, 0
	for _, p := range s.Pods {
		phase := p.Phase
		if phase == "" {
			phase = "Unknown"
		}
		phases[phase]++
		if p.Waiting != "" {
			waits[p.Waiting]++
		}
		if p.Ready {
			ready++
		}
	}
	for phase, n := range phases {
		gauge(metricPods, float64(n), phase)
	}
	for reason, n := range waits {
		gauge(metricWaiting, float64(n), reason)
	}
	gauge(metricReady, float64(ready))
	for what, n := range map[string]uint64{"hints": s.Hints, "restarts": s.Restarts, "errors": s.Errors, "rounds": s.Rounds, "round_errors": s.RoundErrors, "chore_errors": s.ChoreErrors} {
		ch <- prometheus.MustNewConstMetric(metricCounts, prometheus.CounterValue, float64(n), what)
	}
	gauge(metricMass, boolFloat(s.MassLoss != ""))
	gauge(metricDrift, float64(s.Drift))
	gauge(metricPending, boolFloat(s.Waiting != ""))
	metricScalers.collect(c.w.parts.goal.snapshot(), gauge)
	for d, t := range map[*prometheus.Desc]time.Time{metricSynced: s.Synced, metricRead: s.Read, metricApply: c.w.parts.goal.lastApply()} {
		if !t.IsZero() {
			gauge(d, float64(t.UnixMilli())/1000)
		}
	}
}

func boolFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
