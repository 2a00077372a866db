package life_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/providers/runtime/life"
)

// What was noted before a host's clock was set back lies too far ahead, and is due now. What is due by right is waited for.
func TestClockSetBack(t *testing.T) {
	liveness := func(p *corev1.Pod, _ *life.Container) {
		p.Spec.Containers[0].LivenessProbe = &corev1.Probe{PeriodSeconds: 10, InitialDelaySeconds: 60}
	}
	for _, tt := range []struct {
		name, containers string
		with             func(*corev1.Pod, *life.Container)
		now              float64
		want             life.Do
	}{
		{"a probe waits for its period", "a=run", func(p *corev1.Pod, c *life.Container) {
			liveness(p, c)
			c.Liveness.Next, c.Liveness.Period = at(110), at(110)
		}, 100, ""},
		{"a probe an hour ahead", "a=run", func(p *corev1.Pod, c *life.Container) {
			liveness(p, c)
			c.Liveness.Next, c.Liveness.Period = at(3700), at(3700)
		}, 100, life.RunProbe},
		{"a first probe waits for its delay", "a=run", liveness, 1, ""},
		{"a first probe of a container that started an hour ahead", "a=run", liveness, -3600, life.RunProbe},
		{"a restart waits for its pause", "a=1~40", nil, 2, ""},
		{"a restart after an end an hour ahead", "a=1~40", nil, -3600, life.StartOne},
		{"an end is a moment ahead", "a=1~40", nil, 0, ""},
		{"a restart without a pause after an end an hour ahead", "a=1", nil, -3600, life.StartOne},
		{"trouble waits", "a=made", func(_ *corev1.Pod, c *life.Container) { c.Trouble = &life.Trouble{At: at(100)} }, 100, ""},
		{"trouble an hour ahead", "a=made", func(_ *corev1.Pod, c *life.Container) { c.Trouble = &life.Trouble{At: at(3700)} }, 100, life.StartOne},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, seen := pod(corev1.RestartPolicyAlways, "", "a"), see(t, tt.containers)
			if tt.with != nil {
				tt.with(p, &seen.Containers[0])
			}
			d := life.Next(p, seen, at(tt.now))
			var got life.Do
			if len(d.Actions) > 0 {
				got = d.Actions[0].Do
			}
			if got != tt.want || (tt.want == "") == d.Again.IsZero() {
				t.Errorf("it does %q, and something is due at %s; want %q", got, d.Again, tt.want)
			}
		})
	}
}

// A probe whose host's clock is set back goes on with its runs a period apart, and they count.
func TestProbesGoOnWhenTheClockIsSetBack(t *testing.T) {
	spec := &corev1.Probe{PeriodSeconds: 10, FailureThreshold: 3}
	for _, back := range []time.Duration{16 * time.Second, time.Hour, time.Hour + 7*time.Second} {
		for _, kind := range []life.ProbeKind{life.Liveness, life.Readiness, life.Startup} {
			p := life.Probe{}.Counted(kind, spec, life.Result{Began: at(0)}, at(0))
			for i, want := range []life.Verdict{life.Unknown, life.Failure} {
				now := at(10 * float64(i)).Add(-back)
				if p.Early(spec, now) {
					t.Errorf("%s, %s back: run %d does not count", kind, back, i)
				}
				p = p.Counted(kind, spec, life.Result{Began: now}, now)
				if p.Verdict != want || !p.Period.Equal(now.Add(10*time.Second)) {
					t.Errorf("%s, %s back: after run %d: %q, again in %s", kind, back, i, p.Verdict, p.Period.Sub(now))
				}
			}
		}
		during := life.Probe{}.Counted(life.Liveness, spec, life.Result{Began: at(0)}, at(1).Add(-back))
		if want := at(11).Add(-back); !during.Period.Equal(want) {
			t.Errorf("set %s back during a run: again at %s, want %s", back, during.Period, want)
		}
	}
}

// What is left of a grace period is never more than all of it.
func TestGraceWhenTheClockIsSetBack(t *testing.T) {
	for _, tt := range []struct{ now, want float64 }{{100, 30}, {110, 20}, {129, 2}, {-3500, 30}} {
		seen := see(t, "a=run")
		seen.Deletion = &life.Deletion{At: at(100), Grace: 30 * sec}
		d := life.Next(pod(corev1.RestartPolicyAlways, "", "a"), seen, at(tt.now))
		if len(d.Actions) != 1 || d.Actions[0].Do != life.StopOne || d.Actions[0].Grace.Seconds() != tt.want {
			t.Errorf("at %v: %+v, want %v s", tt.now, d.Actions, tt.want)
		}
	}
}
