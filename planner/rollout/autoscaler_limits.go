package rollout

import (
	"cmp"
	"maps"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// scalingRules bound one direction of scaling, with the defaults filled in.
type scalingRules struct {
	window    time.Duration
	policy    autoscalingv2.ScalingPolicySelect
	policies  []autoscalingv2.HPAScalingPolicy
	tolerance float64
}

// rulesOf fills in the defaults of both directions: up by four pods or by doubling each 15 s, whichever is more; down by any number
// that was enough for five minutes.
func rulesOf(b *autoscalingv2.HorizontalPodAutoscalerBehavior) (up, down scalingRules) {
	if b == nil {
		b = &autoscalingv2.HorizontalPodAutoscalerBehavior{}
	}
	up = scalingRules{policies: []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
		{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	}}
	down = scalingRules{window: 300 * time.Second, policies: []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	}}
	up.take(b.ScaleUp)
	down.take(b.ScaleDown)
	return up, down
}

func (r *scalingRules) take(given *autoscalingv2.HPAScalingRules) {
	r.policy, r.tolerance = autoscalingv2.MaxChangePolicySelect, defaultTolerance
	if given == nil {
		return
	}
	if given.StabilizationWindowSeconds != nil {
		r.window = time.Duration(*given.StabilizationWindowSeconds) * time.Second
	}
	if given.SelectPolicy != nil {
		r.policy = *given.SelectPolicy
	}
	if len(given.Policies) > 0 {
		r.policies = given.Policies
	}
	if given.Tolerance != nil {
		r.tolerance = given.Tolerance.AsApproximateFloat64()
	}
}

// restrain holds a proposal back: by what was proposed within the windows, by how fast the number may change, by its bounds.
func (a *autoscaler) restrain(proposal int32) int32 {
	a.proposed = &proposal
	stable := a.stabilize(proposal)
	switch {
	case stable == proposal:
		a.condition(autoscalingv2.AbleToScale, true, "ReadyForNewScale", "recommended size matches current size")
	case proposal >= a.Replicas:
		a.condition(autoscalingv2.AbleToScale, true, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation")
	default:
		a.condition(autoscalingv2.AbleToScale, true, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation")
	}
	n, reason, message := a.limit(stable)
	a.condition(autoscalingv2.ScalingLimited, n != stable, reason, "%s", message)
	return n
}

// stabilize goes up only as far as everything proposed within the window of up, and down only as far as that within the one of down.
func (a *autoscaler) stabilize(proposal int32) int32 {
	up, down := proposal, proposal
	for _, r := range a.Memory.Recommendations {
		if r.At.After(a.now.Add(-a.up.window)) {
			up = min(up, r.Replicas)
		}
		if r.At.After(a.now.Add(-a.down.window)) {
			down = max(down, r.Replicas)
		}
	}
	return min(max(a.Replicas, up), down)
}

func (a *autoscaler) limit(wanted int32) (n int32, reason, message string) {
	switch {
	case wanted > a.Replicas:
		most, reason, message := a.most, "TooManyReplicas", "the desired replica count is more than the maximum replica count"
		if rate := max(a.upLimit(), a.Replicas); rate < most {
			most, reason, message = rate, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"
		}
		if wanted > most {
			return most, reason, message
		}
	case wanted < a.Replicas:
		least, reason, message := a.least, "TooFewReplicas", "the desired replica count is less than the minimum replica count"
		if rate := min(a.downLimit(), a.Replicas); rate > least {
			least, reason, message = rate, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"
		}
		if wanted < least {
			return least, reason, message
		}
	}
	return wanted, "DesiredWithinRange", "the desired count is within the acceptable range"
}

// upLimit is how high the policies allow to go now.
func (a *autoscaler) upLimit() int32 {
	return a.choose(a.up, +1, func(start int32, p autoscalingv2.HPAScalingPolicy) int32 {
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return start + p.Value
		}
		return ceil(float64(start) * (1 + float64(p.Value)/100))
	})
}

// downLimit is how low the policies allow to go now.
func (a *autoscaler) downLimit() int32 {
	return a.choose(a.down, -1, func(start int32, p autoscalingv2.HPAScalingPolicy) int32 {
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return start - p.Value
		}
		return int32(float64(start) * (1 - float64(p.Value)/100))
	})
}

// choose takes the policy that allows the greatest change in a direction, or the smallest.
func (a *autoscaler) choose(r scalingRules, direction int32, propose func(start int32, p autoscalingv2.HPAScalingPolicy) int32) int32 {
	if r.policy == autoscalingv2.DisabledPolicySelect {
		return a.Replicas
	}
	farthest := r.policy != autoscalingv2.MinChangePolicySelect
	limit, first := int32(0), true
	for _, p := range r.policies {
		since := a.now.Add(-time.Duration(p.PeriodSeconds) * time.Second)
		n := propose(a.Replicas-changeSince(a.Memory.Up, since)+changeSince(a.Memory.Down, since), p)
		if first || farthest == (n*direction > limit*direction) {
			limit, first = n, false
		}
	}
	return limit
}

func changeSince(events []ScaleEvent, since time.Time) int32 {
	var n int32
	for _, e := range events {
		if e.At.After(since) {
			n += e.Change
		}
	}
	return n
}

// remember adds what was decided to the memory and drops what no window reaches any more.
func (a *autoscaler) remember(replicas int32) AutoscalerMemory {
	window := max(a.up.window, a.down.window)
	m := AutoscalerMemory{Recommendations: slices.Clone(a.Memory.Recommendations), Up: slices.Clone(a.Memory.Up), Down: slices.Clone(a.Memory.Down)}
	if a.proposed != nil {
		m.Recommendations = append(m.Recommendations, Recommendation{a.now, *a.proposed})
	}
	switch {
	case replicas > a.Replicas:
		m.Up = append(m.Up, ScaleEvent{a.now, replicas - a.Replicas})
	case replicas < a.Replicas:
		m.Down = append(m.Down, ScaleEvent{a.now, a.Replicas - replicas})
	}
	m.Recommendations = slices.DeleteFunc(m.Recommendations, func(r Recommendation) bool { return !r.At.After(a.now.Add(-window)) })
	period := time.Duration(0)
	for _, p := range slices.Concat(a.up.policies, a.down.policies) {
		period = max(period, time.Duration(p.PeriodSeconds)*time.Second)
	}
	old := func(e ScaleEvent) bool { return !e.At.After(a.now.Add(-period)) }
	m.Up, m.Down = slices.DeleteFunc(m.Up, old), slices.DeleteFunc(m.Down, old)
	return m
}

func sortedNames[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
