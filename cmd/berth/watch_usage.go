package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime"
)

// watchUsage is what containers use, from the counters of two looks at their nodes: one call to each node serves all autoscalers.
type watchUsage struct {
	host func(ctx context.Context, node string) (providers.Host, error)

	mu    sync.Mutex
	nodes map[string]nodeUsage
}

// nodeUsage is what one node has told.
type nodeUsage struct {
	counters map[string]runtime.ContainerStats // of the last look, by container
	rates    map[string]containerRates         // by pod
	err      error                             // why there are none
}

// containerRates are what the containers of one pod use, by name; At and window are those of the oldest and the shortest.
type containerRates struct {
	cpu, memory map[string]int64 // milli-cores, bytes
	at          time.Time
	window      time.Duration
}

// Limits of a look at what containers use.
const (
	usageTimeout = 10 * time.Second
	usageAtOnce  = 32
	// mostApart is how old the look before may be: what was used on the average of a longer time says little of now.
	mostApart = 2 * time.Minute
)

func (u *watchUsage) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.nodes = map[string]nodeUsage{}
}

// measure asks the nodes that have pods of autoscalers which go by what containers use. It returns what has gone wrong, by node.
func (u *watchUsage) measure(ctx context.Context, s *api.State, list []scaler) map[string]error {
	wanted := map[string]bool{}
	for i := range list {
		if !usesResources(list[i].spec) {
			continue
		}
		for _, p := range list[i].pods {
			wanted[p.Node] = true
		}
	}
	errs := map[string]error{}
	now := map[string]nodeUsage{}
	var mu sync.Mutex
	var all sync.WaitGroup
	free := make(chan struct{}, usageAtOnce)
	for node := range wanted {
		u.mu.Lock()
		before := u.nodes[node]
		u.mu.Unlock()
		all.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			stats, err := u.ask(ctx, node, s.Lineage)
			next := nodeUsage{counters: before.counters, err: err}
			if err == nil {
				next = usageSince(before.counters, stats)
			}
			mu.Lock()
			defer mu.Unlock()
			now[node] = next
			if err != nil && before.err == nil {
				errs[node] = err
			}
		})
	}
	all.Wait()
	u.mu.Lock()
	u.nodes = now
	u.mu.Unlock()
	return errs
}

func (u *watchUsage) ask(ctx context.Context, node, lineage string) ([]runtime.ContainerStats, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, usageTimeout, fmt.Errorf("it did not tell what its containers use within %s", usageTimeout))
	defer cancel()
	h, err := u.host(ctx, node)
	if err != nil {
		return nil, err
	}
	return runtime.Stats(ctx, h, lineage)
}

// usageSince makes rates of what a node says and what it said before.
func usageSince(before map[string]runtime.ContainerStats, stats []runtime.ContainerStats) nodeUsage {
	out := nodeUsage{counters: make(map[string]runtime.ContainerStats, len(stats)), rates: map[string]containerRates{}}
	for _, s := range stats {
		out.counters[s.ID] = s
		r, ok := out.rates[s.PodUID]
		if !ok {
			r = containerRates{cpu: map[string]int64{}, memory: map[string]int64{}, at: s.At}
		}
		if s.At.Before(r.at) {
			r.at = s.At
		}
		r.memory[s.Container] = int64(min(s.Memory, math.MaxInt64))
		old, known := before[s.ID]
		if apart := s.At.Sub(old.At); known && apart > 0 && apart <= mostApart && s.CPU >= old.CPU {
			r.cpu[s.Container] = int64(math.Ceil(float64(s.CPU-old.CPU) / float64(apart) * 1000))
			if r.window == 0 || apart < r.window {
				r.window = apart
			}
		}
		out.rates[s.PodUID] = r
	}
	return out
}

func usesResources(s *api.AutoscalerSpec) bool {
	return slices.ContainsFunc(metricsOf(s), func(m autoscalingv2.MetricSpec) bool { return m.Resource != nil || m.ContainerResource != nil })
}

// samples are what the pods of an autoscaler use of a resource. A pod of which a container was not measured is left out.
func (u *watchUsage) samples(k *scaler, name corev1.ResourceName) ([]rollout.Sample, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []rollout.Sample
	var errs []error
	asked := map[string]bool{}
	for _, p := range k.pods {
		n := u.nodes[p.Node]
		if n.err != nil && !asked[p.Node] {
			errs = append(errs, fmt.Errorf("node %s: %w", p.Node, n.err))
		}
		asked[p.Node] = true
		r, ok := n.rates[p.UID]
		used := r.memory
		if name == corev1.ResourceCPU {
			used = r.cpu
		}
		for _, c := range runningContainers(p.Spec) {
			_, measured := used[c.Name]
			ok = ok && measured
		}
		if ok && n.err == nil {
			out = append(out, rollout.Sample{Pod: p.Address.Pod, Usage: used, At: r.at, Window: r.window})
		}
	}
	if len(out) == 0 && len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// scaleSamples answers what the metrics of one autoscaler are.
type scaleSamples struct {
	ctx context.Context //nolint:containedctx // of one decision
	w   *watchScaler
	k   *scaler
}

// Resource is what containers use.
func (s *scaleSamples) Resource(name corev1.ResourceName) ([]rollout.Sample, error) {
	return s.w.usage.samples(s.k, name)
}

// Pods asks the source of a metric of pods.
func (s *scaleSamples) Pods(m autoscalingv2.MetricIdentifier) ([]rollout.Sample, error) {
	values, err := s.ask(m, "", true)
	if err != nil {
		return nil, err
	}
	var out []rollout.Sample
	for _, p := range s.k.pods {
		if v, ok := values[p.Address.Pod]; ok {
			out = append(out, rollout.Sample{Pod: p.Address.Pod, Usage: map[string]int64{"": v}, At: s.w.now()})
		}
	}
	return out, nil
}

// Object asks the source of a metric of an object.
func (s *scaleSamples) Object(o autoscalingv2.CrossVersionObjectReference, m autoscalingv2.MetricIdentifier) (int64, error) {
	return s.one(m, o.Kind+"/"+o.Name)
}

// External asks the source of a metric that no object has.
func (s *scaleSamples) External(m autoscalingv2.MetricIdentifier) (int64, error) { return s.one(m, "") }

func (s *scaleSamples) one(m autoscalingv2.MetricIdentifier, object string) (int64, error) {
	values, err := s.ask(m, object, false)
	return values[""], err
}

// ask returns a metric in thousandths, by pod or, under "", of everything.
func (s *scaleSamples) ask(m autoscalingv2.MetricIdentifier, object string, byPod bool) (map[string]int64, error) {
	source := s.k.spec.Source(m.Name)
	if source == nil {
		return nil, fmt.Errorf("nothing says where the metric %s comes from: add a source block", m.Name)
	}
	q := metricQuestion{source: source, namespace: s.k.object.Namespace, target: s.k.target.Address.String(), object: object, byPod: byPod}
	if m.Selector != nil {
		selector, err := metav1.LabelSelectorAsSelector(m.Selector)
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", m.Name, err)
		}
		q.selector = selector
	}
	values, err := s.w.sources.ask(s.ctx, q)
	if err != nil {
		return nil, fmt.Errorf("unable to get metric %s: %w", m.Name, err)
	}
	return values, nil
}
