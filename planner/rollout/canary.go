package rollout

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
)

// Canary replaces some pods, passes a gate, and goes on. Slot 0 is the new template, slot 1 the old one.
type Canary struct {
	Strategy // its bounds
	Stages   []Stage
	From     int  // stages that are passed already
	Promoted bool // the gates that are left are passed over
}

// Stage is one step of a canary.
type Stage struct {
	New  int // so many pods are new
	Gate Gate
}

// canary resolves the steps against the number of replicas: shares round up.
func canary(c *api.CanaryDeployment, replicas int) (Canary, error) {
	if c == nil {
		c = &api.CanaryDeployment{}
	}
	out := Canary{Strategy: Strategy{Surge: 1}}
	var err error
	if c.MaxSurge != nil {
		if out.Surge, err = intstr.GetScaledValueFromIntOrPercent(c.MaxSurge, replicas, true); err != nil {
			return out, fmt.Errorf("max_surge: %w", err)
		}
	}
	if c.MaxUnavailable != nil {
		if out.Unavailable, err = intstr.GetScaledValueFromIntOrPercent(c.MaxUnavailable, replicas, false); err != nil {
			return out, fmt.Errorf("max_unavailable: %w", err)
		}
	}
	out.Unavailable = min(out.Unavailable, replicas)
	if out.Surge == 0 && out.Unavailable == 0 {
		out.Unavailable = min(1, replicas)
	}
	for i, s := range c.Steps {
		stage := Stage{New: replicas, Gate: Gate{Analysis: s.Analysis, Passed: i + 1}}
		if s.Replicas != nil {
			if stage.New, err = intstr.GetScaledValueFromIntOrPercent(s.Replicas, replicas, true); err != nil {
				return out, fmt.Errorf("step %d: replicas: %w", i+1, err)
			}
		}
		stage.New = min(stage.New, replicas)
		if i > 0 { // "2" after "50%" of three
			stage.New = max(stage.New, out.Stages[i-1].New)
		}
		if s.Pause != nil {
			stage.Gate.Hold = s.Pause.Seconds == nil
			if s.Pause.Seconds != nil {
				stage.Gate.Seconds = *s.Pause.Seconds
			}
		}
		out.Stages = append(out.Stages, stage)
	}
	return out, nil
}

// String describes the steps as plans show them: "canary 1, 5 of 10, surge 1, unavailable 0".
func (c Canary) String() string {
	var steps []string
	for _, s := range c.Stages {
		steps = append(steps, fmt.Sprint(s.New))
	}
	text := "canary"
	if len(steps) > 0 {
		text += " " + strings.Join(steps, ", ")
	}
	return text + ", " + c.Strategy.String()
}

// Evicting has at least so many pods serve.
func (c Canary) Evicting(least int) Order { c.Keep = least; return c }

// holds reports whether the plan ends before the last stage.
func (c Canary) holds() bool {
	return !c.Promoted && c.From < len(c.Stages) && slices.ContainsFunc(c.Stages[c.From:], func(s Stage) bool { return s.Gate.Hold })
}

// Waves goes from stage to stage, and ends at the first gate that somebody has to open. While a stage lasts, one pod at least
// stays old where the surge allows it: else there would be nothing to compare with, or to go back to. Old pods that are
// missing are made again only where the plan ends while some are to stay: a plan does not remove what it has made.
func (c Canary) Waves(w *Want, pods []Pod) []Wave {
	if len(w.Slots) < 2 {
		return c.Strategy.Waves(w, pods)
	}
	mended := 1
	if c.holds() {
		mended = 2
	}
	r := newSides(c.Strategy, w.Replicas, 2, mended, pods)
	var waves []Wave
	for i := c.From; i < len(c.Stages) && !c.Promoted; i++ {
		stage := c.Stages[i]
		old := w.Replicas - stage.New
		if old == 0 && c.Surge > 0 {
			old = min(1, w.Replicas)
		}
		if !stage.Gate.Hold {
			old = min(old, r.sides[1].count)
		}
		waves = append(append(waves, r.reach(stage.New, old)...), Wave{Gate: &stage.Gate})
		if stage.Gate.Hold {
			return Finish(waves)
		}
	}
	return Finish(append(waves, r.reach(w.Replicas, 0)...))
}
