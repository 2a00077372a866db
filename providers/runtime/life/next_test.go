package life_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime/life"
)

const sec = time.Second

func hooks(c *corev1.Container, post, pre bool) {
	c.Lifecycle = &corev1.Lifecycle{}
	if post {
		c.Lifecycle.PostStart = &corev1.LifecycleHandler{}
	}
	if pre {
		c.Lifecycle.PreStop = &corev1.LifecycleHandler{}
	}
}

func TestOrderOfAWholeLife(t *testing.T) {
	p := pod(corev1.RestartPolicyAlways, "one s+ two", "a b")
	p.Spec.TerminationGracePeriodSeconds = new(int64(30))
	p.Spec.InitContainers[1].StartupProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 30}
	hooks(&p.Spec.Containers[0], true, true)
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1}
	s := newSim(t, p, map[string][]play{
		"one": {{lasts: 2 * sec}}, "two": {{lasts: 3 * sec}}, "s": {{startsUp: 3 * sec, stops: sec}},
		"a": {{post: 4 * sec, pre: 5 * sec, stops: sec}}, "b": {{stops: 2 * sec}},
	})
	s.run(20*sec).remove(30*sec).run(100*sec).want(
		"0.0 sandbox 0", "0.0 start one", "2.0 one ends 0", "2.0 start s", "5.0 s Startup: success",
		"5.0 start two", "8.0 two ends 0", "8.0 start a", "8.0 postStart a", "12.0 a Readiness: success", "12.0 start b",
		"20.0 delete", "20.0 preStop a", "20.0 stop b within 30s", "22.0 b ends 143",
		"25.0 stop a within 25s", "26.0 a ends 143", "26.0 stop s within 24s", "27.0 s ends 143", "27.0 remove pod",
	)
}

func TestTermination(t *testing.T) {
	tests := []struct {
		name   string
		grace  time.Duration
		change func(p *corev1.Pod)
		script map[string][]play
		want   []string
	}{
		{name: "one that obeys", grace: 10 * sec, script: map[string][]play{"a": {{stops: sec}}},
			want: []string{"stop a within 10s", "1.0 a ends 143", "remove pod"}},
		{name: "one that does not", grace: 10 * sec, script: map[string][]play{"a": {{stops: -1}}},
			want: []string{"stop a within 10s", "10.0 a ends 137"}},
		{name: "no time", grace: 0, change: func(p *corev1.Pod) { hooks(&p.Spec.Containers[0], false, true) }, script: map[string][]play{"a": {{stops: -1}}},
			want: []string{"stop a within 2s", "2.0 a ends 137"}},
		{name: "a hook that takes all of it", grace: 5 * sec, change: func(p *corev1.Pod) { hooks(&p.Spec.Containers[0], false, true) },
			script: map[string][]play{"a": {{pre: 60 * sec, stops: -1}}}, want: []string{"preStop a", "5.0 preStop a fails", "5.0 stop a within 2s", "7.0 a ends 137"}},
		{name: "a hook that fails", grace: 5 * sec, change: func(p *corev1.Pod) { hooks(&p.Spec.Containers[0], false, true) },
			script: map[string][]play{"a": {{pre: 1500 * time.Millisecond, preBad: true, stops: sec}}}, want: []string{"preStop a", "1.5 preStop a fails", "1.5 stop a within 4s", "2.5 a ends 143"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := pod(corev1.RestartPolicyAlways, "", "a")
			if tt.change != nil {
				tt.change(p)
			}
			s := newSim(t, p, tt.script)
			s.run(0)
			s.log = nil
			s.remove(tt.grace).run(time.Hour)
			has(t, spaced(s.log[1:]), tt.want...)
			if !s.gone {
				t.Error("the pod is still there")
			}
		})
	}
}

// TestDeletionAgain: a second wish for the end of a pod may only shorten its grace period, which counts from the first.
func TestDeletionAgain(t *testing.T) {
	for _, tt := range []struct{ first, after, again, want float64 }{
		{30, 10, 30, 30}, // the same again
		{30, 10, 60, 30}, // longer
		{30, 10, 5, 15},
		{30, 10, 0, 10}, // at once
		{30, 45, 30, 30},
		{5, 2, 30, 5},
	} {
		d := life.Deletion{At: at(0), Grace: time.Duration(tt.first * float64(sec))}.Again(at(tt.after), time.Duration(tt.again*float64(sec)))
		if !d.At.Equal(at(0)) || d.Grace.Seconds() != tt.want {
			t.Errorf("%v: %+v", tt, d)
		}
	}
}

func TestSidecarsStopLastInReverse(t *testing.T) {
	s := newSim(t, pod(corev1.RestartPolicyAlways, "s1+ s2+", "a b"), map[string][]play{
		"s1": {{stops: sec}}, "s2": {{stops: sec}}, "a": {{stops: 3 * sec}}, "b": {{stops: sec}},
	})
	s.run(0)
	s.log = nil
	s.remove(30*sec).run(time.Hour).want("0.0 delete", "0.0 stop a within 30s", "0.0 stop b within 30s", "1.0 b ends 143", "3.0 a ends 143",
		"3.0 stop s2 within 27s", "4.0 s2 ends 143", "4.0 stop s1 within 26s", "5.0 s1 ends 143", "5.0 remove pod")

	// An app container that does not obey uses up the time of all.
	s = newSim(t, pod(corev1.RestartPolicyAlways, "s1+ s2+", "a"), map[string][]play{"s1": {{stops: -1}}, "s2": {{stops: -1}}, "a": {{stops: -1}}})
	s.run(0)
	s.log = nil
	s.remove(10*sec).run(time.Hour).want("0.0 delete", "0.0 stop a within 10s", "10.0 a ends 137",
		"10.0 stop s1 within 2s", "10.0 stop s2 within 2s", "12.0 s1 ends 137", "12.0 s2 ends 137", "12.0 remove pod")
}

// has checks that lines occur in this order, others between them.
func has(t *testing.T, log []string, lines ...string) {
	t.Helper()
	i := 0
	for _, l := range log {
		if i < len(lines) && contains(l, lines[i]) {
			i++
		}
	}
	if i < len(lines) {
		t.Errorf("%q is missing in %q", lines[i], log)
	}
}

func TestBackoffSeries(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy corev1.RestartPolicy
		script []play
		want   []float64 // the moments of starts
	}{
		{"crashes at once", corev1.RestartPolicyAlways, []play{{lasts: sec, code: 1}}, []float64{0, 1, 12, 33, 74, 155, 316, 617, 918, 1219}},
		{"ends well", corev1.RestartPolicyAlways, []play{{lasts: sec}}, []float64{0, 1, 12, 33, 74}},
		{"on failure", corev1.RestartPolicyOnFailure, []play{{lasts: sec, code: 1}, {lasts: sec, code: 1}, {lasts: sec}}, []float64{0, 1, 12}},
		{"never", corev1.RestartPolicyNever, []play{{lasts: sec, code: 1}}, []float64{0}},
		{"a long run begins anew", corev1.RestartPolicyAlways, []play{{lasts: sec, code: 1}, {lasts: sec, code: 1}, {lasts: 601 * sec, code: 1}, {lasts: sec, code: 1}, {lasts: sec, code: 1}},
			[]float64{0, 1, 12, 613, 624, 645}},
		{"not long enough", corev1.RestartPolicyAlways, []play{{lasts: sec, code: 1}, {lasts: sec, code: 1}, {lasts: 600 * sec, code: 1}, {lasts: sec, code: 1}}, []float64{0, 1, 12, 632, 673}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSim(t, pod(tt.policy, "", "a"), map[string][]play{"a": tt.script})
			s.run(time.Duration(tt.want[len(tt.want)-1])*sec + sec/2)
			if got := s.moments("start a"); !equal(got, tt.want) {
				t.Errorf("started at %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBackoffMemory(t *testing.T) {
	c := &life.Container{}
	c.CreatedAt, c.FinishedAt, c.BackoffSeconds, c.Hash = at(0), at(5), 40, "h"
	if b := life.BackoffOf(c, "h", time.Time{}); !b.Until.Equal(at(45)) || b.Next != 80*sec {
		t.Errorf("%+v", b)
	}
	if b := life.BackoffOf(c, "changed", time.Time{}); !b.Until.Equal(at(5)) || b.Next != 10*sec {
		t.Errorf("a changed container: %+v", b)
	}
	if b := life.BackoffOf(c, "h", at(6)); !b.Until.Equal(at(5)) || b.Next != 80*sec {
		t.Errorf("asked for since: %+v", b)
	}
	c.BackoffSeconds = 300
	if b := life.BackoffOf(c, "h", time.Time{}); b.Next != 300*sec {
		t.Errorf("the most: %+v", b)
	}
}

func TestProbesKill(t *testing.T) {
	tests := []struct {
		name   string
		probe  func(c *corev1.Container)
		script []play
		policy corev1.RestartPolicy
		want   []string
	}{
		{"startup fails", func(c *corev1.Container) {
			c.StartupProbe = &corev1.Probe{PeriodSeconds: 2, FailureThreshold: 3}
		}, []play{{startsUp: time.Hour, stops: sec}}, corev1.RestartPolicyAlways, []string{"4.0 a Startup: failure", "4.0 stop a within 30s", "5.0 a ends 143", "5.0 start a 1", "9.0 a Startup: failure", "10.0 a ends 143", "20.0 start a 2"}},
		{"startup gates the others", func(c *corev1.Container) {
			c.StartupProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 60}
			c.LivenessProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1}
			c.ReadinessProbe = &corev1.Probe{PeriodSeconds: 10}
		}, []play{{startsUp: 20 * sec, stops: sec}}, corev1.RestartPolicyAlways, []string{"20.0 a Startup: success", "20.0 a Liveness: success", "20.0 a Readiness: success"}},
		{"liveness fails", func(c *corev1.Container) {
			c.LivenessProbe = &corev1.Probe{PeriodSeconds: 5, FailureThreshold: 2, InitialDelaySeconds: 3, TerminationGracePeriodSeconds: new(int64(7))}
		}, []play{{sickAt: 10 * sec, stops: -1}, {stops: sec}}, corev1.RestartPolicyAlways, []string{"3.0 a Liveness: success", "18.0 a Liveness: failure", "18.0 stop a within 7s", "25.0 a ends 137", "25.0 start a 1"}},
		{"killed and left", func(c *corev1.Container) {
			c.LivenessProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1}
		}, []play{{sickAt: 5 * sec, stops: sec}}, corev1.RestartPolicyNever, []string{"5.0 a Liveness: failure", "6.0 a ends 143", "6.0 over: Failed", "6.0 stop sandbox"}},
		{"readiness kills nobody", func(c *corev1.Container) {
			c.ReadinessProbe = &corev1.Probe{PeriodSeconds: 2, FailureThreshold: 2, SuccessThreshold: 2}
		}, []play{{startsUp: 3 * sec, sickAt: 11 * sec}}, corev1.RestartPolicyAlways, []string{"2.0 a Readiness: failure", "6.0 a Readiness: success", "14.0 a Readiness: failure"}},
		{"a hook that fails", func(c *corev1.Container) { hooks(c, true, true) }, []play{{post: 2 * sec, postBad: true, pre: sec, stops: sec}, {}}, corev1.RestartPolicyAlways,
			[]string{"0.0 postStart a", "2.0 postStart a fails", "2.0 preStop a", "3.0 stop a within 29s", "4.0 a ends 143", "4.0 start a 1", "4.0 postStart a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := pod(tt.policy, "", "a")
			tt.probe(&p.Spec.Containers[0])
			s := newSim(t, p, map[string][]play{"a": tt.script})
			s.run(28 * sec)
			has(t, spaced(s.log), tt.want...)
			if tt.name == "readiness kills nobody" && s.starts["a"] != 1 {
				t.Errorf("started %d times", s.starts["a"])
			}
		})
	}
}

func TestInitContainersAndSandboxes(t *testing.T) {
	t.Run("restarts with back-off", func(t *testing.T) {
		s := newSim(t, pod(corev1.RestartPolicyAlways, "i", "a"), map[string][]play{"i": {{lasts: sec, code: 1}, {lasts: sec, code: 1}, {lasts: sec}}})
		s.run(60*sec).want("0.0 sandbox 0", "0.0 start i", "1.0 i ends 1", "1.0 start i 1", "2.0 i ends 1", "12.0 start i 2", "13.0 i ends 0", "13.0 start a")
	})
	t.Run("never", func(t *testing.T) {
		s := newSim(t, pod(corev1.RestartPolicyNever, "s+ i", "a"), map[string][]play{"i": {{lasts: sec, code: 3}}, "s": {{stops: sec}}})
		s.run(60*sec).want("0.0 sandbox 0", "0.0 start s", "0.0 start i", "1.0 i ends 3", "1.0 over: Failed", "1.0 stop s within 30s", "2.0 s ends 143", "2.0 stop sandbox")
	})
	t.Run("a sidecar does not keep a job alive", func(t *testing.T) {
		s := newSim(t, pod(corev1.RestartPolicyNever, "s+", "a"), map[string][]play{"a": {{lasts: 5 * sec}}, "s": {{stops: sec}}})
		s.run(60*sec).want("0.0 sandbox 0", "0.0 start s", "0.0 start a", "5.0 a ends 0", "5.0 over: Succeeded", "5.0 stop s within 30s", "6.0 s ends 143", "6.0 stop sandbox")
	})
	t.Run("a sidecar restarts whatever the policy", func(t *testing.T) {
		s := newSim(t, pod(corev1.RestartPolicyNever, "s+", "a"), map[string][]play{"s": {{lasts: 3 * sec, code: 1}, {}}})
		s.run(60*sec).want("0.0 sandbox 0", "0.0 start s", "0.0 start a", "3.0 s ends 1", "3.0 start s 1")
	})
	t.Run("a lost sandbox", func(t *testing.T) {
		s := newSim(t, pod(corev1.RestartPolicyOnFailure, "i", "a b"), map[string][]play{"i": {{lasts: sec}}, "b": {{lasts: sec}}})
		s.run(10 * sec)
		s.log = nil
		s.lose()
		s.run(20*sec).want("10.0 sandbox 1", "10.0 start i 1", "11.0 i ends 0", "11.0 start a 1")
	})
	t.Run("a lost sandbox of a pod that never restarts", func(t *testing.T) {
		s := newSim(t, pod(corev1.RestartPolicyNever, "", "a"), nil)
		s.run(10 * sec)
		s.log = nil
		s.lose()
		s.run(20 * sec).want("10.0 over: Failed")
	})
	t.Run("deadline", func(t *testing.T) {
		p := pod(corev1.RestartPolicyOnFailure, "", "a")
		p.Spec.ActiveDeadlineSeconds = new(int64(20))
		s := newSim(t, p, map[string][]play{"a": {{stops: 2 * sec}}})
		s.run(60*sec).want("0.0 sandbox 0", "0.0 start a", "20.0 over: Failed DeadlineExceeded", "20.0 stop a within 30s", "22.0 a ends 143", "22.0 stop sandbox")
	})
}

// lose is what a reboot does to the pod.
func (s *sim) lose() {
	s.seen.Sandbox.Ready = false
	for i := range s.seen.Containers {
		if c := &s.seen.Containers[i]; c.State == api.ContainerRunning {
			c.State, c.ExitCode, c.FinishedAt = api.ContainerExited, 255, s.now
		}
	}
}
