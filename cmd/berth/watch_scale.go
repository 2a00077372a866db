package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
	"berth.dev/berth/statefile"
	"berth.dev/berth/watchdog"
)

// watchScaler has autoscalers measured and decided about: by the planner's arithmetic, from what containers use and what sources say.
type watchScaler struct {
	goal    *watchGoal
	hands   *watchHands
	usage   *watchUsage
	sources *metricSources
	events  *watchEvents
	log     *slog.Logger
	now     func() time.Time

	mu     sync.Mutex
	memory map[api.Address]*scaleMemory // by autoscaler
}

func newWatchScaler(r *round, goal *watchGoal, sight *watchSight, hands *watchHands, events *watchEvents, log *slog.Logger) *watchScaler {
	return &watchScaler{
		goal: goal, hands: hands, events: events, log: log, now: r.g.proc.Now,
		usage: &watchUsage{host: sight.host, nodes: map[string]nodeUsage{}}, sources: &metricSources{dir: r.g.dir, env: r.g.proc.Env},
	}
}

// scaleMemory is what is remembered of one autoscaler during a term.
type scaleMemory struct {
	target api.Address
	rollout.AutoscalerMemory
	said string // what could not be measured, as it was last told
}

// Limits of a sync.
const (
	scalersAtOnce = 16
	statusEvery   = time.Minute // how an autoscaler stands is written at most so often, when its number stays
)

// Sync looks at all autoscalers once. The first look of a term only measures: rates need two.
func (w *watchScaler) Sync(ctx context.Context, anew bool) ([]watchdog.Scale, error) {
	state := w.goal.snapshot()
	if state == nil {
		return nil, nil
	}
	if anew {
		w.mu.Lock()
		w.memory = map[api.Address]*scaleMemory{}
		w.mu.Unlock()
		w.usage.forget()
	}
	list := scalersOf(state)
	w.keepOnly(list)
	for node, err := range w.usage.measure(ctx, state, list) {
		w.log.Warn("what containers use is not known", "node", node, "error", err.Error())
	}
	if anew || len(list) == 0 {
		return nil, ctx.Err()
	}
	found := make([]*watchdog.Scale, len(list))
	var all sync.WaitGroup
	free := make(chan struct{}, scalersAtOnce)
	for i := range list {
		all.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			found[i] = w.decide(ctx, state, &list[i])
		})
	}
	all.Wait()
	var out []watchdog.Scale
	for _, s := range found {
		if s != nil {
			out = append(out, *s)
		}
	}
	return out, ctx.Err()
}

// scaler is one autoscaler with its target and that one's pods.
type scaler struct {
	address  api.Address
	spec     *api.AutoscalerSpec
	object   api.EventObject
	target   *api.Object
	replicas int32         // that the target is to have
	override *api.Override // by a person, of the number; nil for none
	pods     []*api.PodState
}

// scalersOf lists the autoscalers whose targets were applied, by address.
func scalersOf(s *api.State) []scaler {
	var out []scaler
	byTarget := map[api.Address]int{}
	for _, o := range s.Objects {
		h, ok := o.Value.(*api.Autoscaler)
		if !ok {
			continue
		}
		for _, t := range s.Objects {
			if h.Scales(t) {
				k := scaler{address: o.Address, spec: &h.Spec, target: t, object: api.EventObject{Address: o.Address, Namespace: o.Namespace(), Name: o.Name()}}
				k.replicas, k.override = wantedReplicas(s, o.Address, t)
				byTarget[t.Address] = len(out)
				out = append(out, k)
				break
			}
		}
	}
	for i := range s.Pods {
		if k, ok := byTarget[s.Pods[i].Address.Owner()]; ok {
			out[k].pods = append(out[k].pods, &s.Pods[i])
		}
	}
	return out
}

// wantedReplicas is the number that an autoscaler starts from: what it has chosen, or what was applied; and what a person has set instead.
func wantedReplicas(s *api.State, autoscaler api.Address, target *api.Object) (int32, *api.Override) {
	for _, o := range s.OverridesOf(target.Address) {
		if o.Path == replicasPath {
			n, _ := rollout.Replicas(target)
			return int32(n), &o //nolint:gosec // made from an int32
		}
	}
	n, _ := rollout.Replicas(target)
	if chosen, ok := s.Chosen(autoscaler, target.Address); ok && n > 0 {
		return chosen, nil
	}
	return int32(n), nil //nolint:gosec // made from an int32
}

// replicasUnder is the number that a person's has taken the place of.
func replicasUnder(s *api.State, k *scaler) int32 {
	configured, err := k.target.Configured(s.OverridesOf(k.target.Address))
	if err != nil {
		return k.replicas
	}
	n, _ := rollout.Replicas(configured)
	return int32(n) //nolint:gosec // made from an int32
}

// keepOnly forgets autoscalers that are gone, or scale something else by now.
func (w *watchScaler) keepOnly(list []scaler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := map[api.Address]*scaleMemory{}
	for i := range list {
		k := &list[i]
		m := w.memory[k.address]
		if m == nil || m.target != k.target.Address {
			// Whoever begins to look knows nothing of what was needed before: what there is counts as that, as in Kubernetes.
			m = &scaleMemory{target: k.target.Address}
			m.Recommendations = []rollout.Recommendation{{At: w.now(), Replicas: k.replicas}}
		}
		now[k.address] = m
	}
	w.memory = now
}

// decide works out what one autoscaler would have; nil when there is nothing to be recorded.
func (w *watchScaler) decide(ctx context.Context, s *api.State, k *scaler) *watchdog.Scale {
	now := w.now().UTC()
	was := s.Autoscaler(k.address)
	if was != nil && was.Target != k.target.Address {
		was = nil
	}
	next := &api.AutoscalerState{Address: k.address, Target: k.target.Address, Replicas: k.replicas, At: now}
	if was != nil {
		next.LastScale = was.LastScale
	}
	if k.override != nil {
		next.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{
			Type: autoscalingv2.AbleToScale, Status: corev1.ConditionFalse, Reason: "Overridden", LastTransitionTime: metav1.NewTime(now),
			Message: fmt.Sprintf("%s has set the number (%s): the autoscaler waits until that is taken back", k.override.Who, k.override.Reason),
		}}
		next.Replicas = replicasUnder(s, k) // what counts again afterwards
		if was != nil {
			next.Replicas = was.Replicas
		}
		return statusOf(k, was, next)
	}
	w.mu.Lock()
	m := w.memory[k.address]
	memory := m.AutoscalerMemory
	w.mu.Unlock()
	d := rollout.Autoscale(&k.spec.HorizontalPodAutoscalerSpec, rollout.AutoscalerSeen{
		Replicas: k.replicas, Current: int32(len(k.pods)), Pods: w.podsOf(k), Memory: memory, //nolint:gosec // no more than fit into the state
		Samples: &scaleSamples{ctx: ctx, w: w, k: k},
	}, now)
	w.tell(k, m, d.Failures, len(k.spec.Metrics))
	next.Metrics, next.Conditions = d.Metrics, conditionsOf(d, k.replicas, now)
	if d.Replicas == k.replicas {
		w.mu.Lock()
		m.AutoscalerMemory = d.Memory
		w.mu.Unlock()
		return statusOf(k, was, next)
	}
	w.mu.Lock()
	m.Recommendations = d.Memory.Recommendations // a change counts once it was recorded
	w.mu.Unlock()
	next.Replicas, next.LastScale = d.Replicas, &now
	keepTransitions(was, next)
	return &watchdog.Scale{State: *next, From: k.replicas, Why: d.Reason, Done: func() {
		w.mu.Lock()
		m.Up, m.Down = d.Memory.Up, d.Memory.Down
		w.mu.Unlock()
		w.events.add(api.ObjectEvent{Object: k.object, Reason: "SuccessfulRescale", Message: fmt.Sprintf("New size: %d; reason: %s", d.Replicas, d.Reason), Source: "horizontal-pod-autoscaler"})
	}}
}

// conditionsOf are the conditions of a decision as Kubernetes' controller sets them.
func conditionsOf(d rollout.AutoscalerDecision, from int32, now time.Time) []autoscalingv2.HorizontalPodAutoscalerCondition {
	able := autoscalingv2.HorizontalPodAutoscalerCondition{
		Type: autoscalingv2.AbleToScale, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now),
		Reason: "SucceededGetScale", Message: "the HPA controller was able to get the target's current scale",
	}
	var others []autoscalingv2.HorizontalPodAutoscalerCondition
	for _, c := range d.Conditions {
		if c.Type == autoscalingv2.AbleToScale {
			able = c
		} else {
			others = append(others, c)
		}
	}
	if d.Replicas != from {
		able.Reason, able.Message = "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", d.Replicas)
	}
	return slices.Insert(others, 0, able)
}

// statusOf is a record of how an autoscaler stands whose number stays; nil when there is nothing to tell, or something was told just now.
func statusOf(k *scaler, was, next *api.AutoscalerState) *watchdog.Scale {
	keepTransitions(was, next)
	if was != nil && (next.At.Sub(was.At) < statusEvery && active(was) == active(next) || !moved(k.spec, was, next)) {
		return nil
	}
	return &watchdog.Scale{State: *next, From: k.replicas}
}

// active is what the condition ScalingActive says.
func active(a *api.AutoscalerState) corev1.ConditionStatus {
	for _, c := range a.Conditions {
		if c.Type == autoscalingv2.ScalingActive {
			return c.Status
		}
	}
	return ""
}

// keepTransitions leaves the times of conditions as they were whose status is the same.
func keepTransitions(was, next *api.AutoscalerState) {
	if was == nil {
		return
	}
	for i := range next.Conditions {
		for _, old := range was.Conditions {
			if c := &next.Conditions[i]; c.Type == old.Type && c.Status == old.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
	}
}

// moved reports whether conditions have changed, or what was measured by more than a tenth of its target.
func moved(spec *api.AutoscalerSpec, was, next *api.AutoscalerState) bool {
	if len(was.Conditions) != len(next.Conditions) || len(was.Metrics) != len(next.Metrics) {
		return true
	}
	for i, c := range next.Conditions {
		if o := was.Conditions[i]; c.Type != o.Type || c.Status != o.Status || c.Reason != o.Reason {
			return true
		}
	}
	for _, m := range metricsOf(spec) {
		now, _ := share(m, next.Metrics)
		before, _ := share(m, was.Metrics)
		if now > before+0.1 || now < before-0.1 {
			return true
		}
	}
	return false
}

// podsOf are an autoscaler's pods as the arithmetic sees them.
func (w *watchScaler) podsOf(k *scaler) []rollout.ScaledPod {
	out := make([]rollout.ScaledPod, 0, len(k.pods))
	for _, p := range k.pods {
		s := w.hands.stand(p.UID)
		out = append(out, rollout.ScaledPod{
			Name: p.Address.Pod, Phase: s.phase, Started: s.started, Ready: s.ready, ReadySince: s.readySince, Requests: requestsOf(p.Spec),
		})
	}
	return out
}

// requestsOf are what the containers of a pod request that run as long as it does: milli-cores, bytes.
func requestsOf(spec *corev1.PodSpec) map[string]map[corev1.ResourceName]int64 {
	out := map[string]map[corev1.ResourceName]int64{}
	for _, c := range runningContainers(spec) {
		out[c.Name] = map[corev1.ResourceName]int64{}
		for name, q := range c.Resources.Requests {
			out[c.Name][name] = q.Value()
			if name == corev1.ResourceCPU {
				out[c.Name][name] = q.MilliValue()
			}
		}
	}
	return out
}

// runningContainers are the containers of a pod and its sidecars.
func runningContainers(spec *corev1.PodSpec) []corev1.Container {
	if spec == nil {
		return nil
	}
	out := slices.Clone(spec.Containers)
	for _, c := range spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	return out
}

// tell says what could not be measured, once for as long as it is the same.
func (w *watchScaler) tell(k *scaler, m *scaleMemory, failures []rollout.MetricFailure, metrics int) {
	var said []string
	for _, f := range failures {
		said = append(said, f.Reason+": "+f.Message)
	}
	text := strings.Join(said, "\n")
	w.mu.Lock()
	same := m.said == text
	m.said = text
	w.mu.Unlock()
	if same || text == "" {
		return
	}
	warn := func(reason, message string) {
		w.events.add(api.ObjectEvent{Object: k.object, Type: corev1.EventTypeWarning, Reason: reason, Message: message, Source: "horizontal-pod-autoscaler"})
	}
	for _, f := range failures {
		warn(f.Reason, f.Message)
	}
	if len(failures) >= max(1, metrics) {
		warn("FailedComputeMetricsReplicas", fmt.Sprintf("invalid metrics (%d invalid out of %d), first error is: %s", len(failures), max(1, metrics), failures[0].Message))
	}
}

// recordScales writes down what autoscalers have come to. What was decided from something that is no longer so is left out: it is decided
// again from what is so now.
func recordScales(f *statefile.File, scales []watchdog.Scale) error {
	for i := range scales {
		c := &scales[i]
		s := f.State()
		o, target := s.Object(c.State.Address), s.Object(c.State.Target)
		if o == nil || target == nil {
			continue
		}
		h, ok := o.Value.(*api.Autoscaler)
		if !ok || !h.Scales(target) {
			continue
		}
		if n, override := wantedReplicas(s, c.State.Address, target); n != c.From || override != nil && c.Why != "" {
			continue
		}
		if err := f.Record(api.Delta{PutAutoscaler: &c.State}); err != nil {
			return err
		}
		if c.Done != nil {
			c.Done()
		}
	}
	return nil
}

// scaledOf are the workloads that do not have the number yet that their autoscalers have chosen.
func scaledOf(s *api.State) []api.Address {
	found := map[api.Address]bool{}
	for i, list := 0, scalersOf(s); i < len(list); i++ {
		k := &list[i]
		least, most := k.spec.Bounds()
		now, _ := rollout.Replicas(k.target)
		if k.override == nil && now > 0 && now != int(min(max(k.replicas, least), most)) {
			found[k.target.Address] = true
		}
	}
	return slices.SortedFunc(maps.Keys(found), api.Address.Compare)
}
