package life_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"berth.dev/berth/api"
)

// aPod is any pod that validation lets through, as far as life is concerned.
func aPod(t *rapid.T) *corev1.Pod {
	policy := rapid.SampledFrom([]corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}).Draw(t, "policy")
	var inits []string
	for i := range rapid.IntRange(0, 3).Draw(t, "inits") {
		name := fmt.Sprintf("i%d", i)
		if rapid.Bool().Draw(t, "sidecar") {
			name += "+"
		}
		inits = append(inits, name)
	}
	var apps []string
	for i := range rapid.IntRange(1, 3).Draw(t, "apps") {
		apps = append(apps, fmt.Sprintf("a%d", i))
	}
	p := pod(policy, strings.Join(inits, " "), strings.Join(apps, " "))
	p.Spec.TerminationGracePeriodSeconds = new(rapid.Int64Range(0, 20).Draw(t, "grace"))
	if rapid.Bool().Draw(t, "has a deadline") {
		p.Spec.ActiveDeadlineSeconds = new(rapid.Int64Range(1, 400).Draw(t, "deadline"))
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			c := &list[i]
			if c.RestartPolicy == nil && strings.HasPrefix(c.Name, "i") {
				continue
			}
			aProbe := func(what string) *corev1.Probe {
				if !rapid.Bool().Draw(t, what) {
					return nil
				}
				return &corev1.Probe{
					InitialDelaySeconds: rapid.Int32Range(0, 5).Draw(t, "delay"), PeriodSeconds: rapid.Int32Range(1, 10).Draw(t, "period"),
					FailureThreshold: rapid.Int32Range(1, 4).Draw(t, "failures"),
				}
			}
			c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = aProbe("startup"), aProbe("liveness"), aProbe("readiness")
			hooks(c, rapid.Bool().Draw(t, "postStart"), rapid.Bool().Draw(t, "preStop"))
		}
	}
	return p
}

func aPlay(t *rapid.T) play {
	some := func(what string, most int64) time.Duration {
		return time.Duration(rapid.Int64Range(0, most).Draw(t, what)) * 100 * time.Millisecond
	}
	return play{
		lasts: some("lasts", 900), code: rapid.Int32Range(0, 2).Draw(t, "code"), stops: some("stops", 300) - sec/2, post: some("post", 50), pre: some("pre", 200),
		postBad: rapid.IntRange(0, 4).Draw(t, "post bad") == 0, preBad: rapid.Bool().Draw(t, "pre bad"), startsUp: some("starts up", 100), sickAt: some("sick", 600),
	}
}

// Whatever a pod is and whatever its containers do: init containers run before the others, nothing runs twice at once, pauses grow as
// they should, and a pod that is to go is gone within its grace period, its sidecars last.
func TestAnyLife(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := aPod(rt)
		script := map[string][]play{}
		for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
			for i := range list {
				script[list[i].Name] = rapid.SliceOfN(rapid.Custom(aPlay), 1, 3).Draw(rt, list[i].Name)
			}
		}
		s := newSim(t, p, script) // fails when a container is started that runs, or when it does not come to rest
		s.run(time.Duration(rapid.IntRange(1, 1200).Draw(rt, "until")) * sec)
		lived := spaced(s.log)
		initsFirst(rt, p, lived)
		for _, c := range s.seen.Containers {
			if !slices.Contains([]int32{0, 10, 20, 40, 80, 160, 300}, c.BackoffSeconds) {
				rt.Fatalf("%s has a pause of %d s", c.Name, c.BackoffSeconds)
			}
		}
		grace := time.Duration(*p.Spec.TerminationGracePeriodSeconds) * sec
		began, n := s.now, len(s.log)
		running := map[string]bool{}
		for _, c := range s.seen.Containers {
			running[c.Name] = c.State == api.ContainerRunning
		}
		s.remove(grace).run(s.now.Sub(start) + time.Hour)
		if took := s.now.Sub(began); !s.gone || took > grace+4*sec {
			rt.Fatalf("gone %v after %s with a grace period of %s:\n%s", s.gone, took, grace, strings.Join(s.log[n:], "\n"))
		}
		for _, c := range s.seen.Containers {
			if c.State == api.ContainerRunning {
				rt.Fatalf("%s runs on", c.Name)
			}
		}
		sidecarsLast(rt, s.log[n:], running, began.Sub(start)+grace)
		for _, l := range spaced(s.log[n:]) {
			if strings.Contains(l, " start ") || strings.Contains(l, "Liveness") || strings.Contains(l, "Startup") {
				rt.Fatalf("in a pod that is to go: %s", l)
			}
		}
	})
}

// sidecarsLast checks that no sidecar is told to stop while an app container runs, as long as there is time to wait for it.
func sidecarsLast(t *rapid.T, log []string, running map[string]bool, until time.Duration) {
	for _, l := range spaced(log) {
		var at float64
		f := strings.Fields(l)
		if _, err := fmt.Sscan(f[0], &at); err != nil {
			t.Fatal(err)
		}
		switch {
		case len(f) == 4 && f[2] == "ends":
			running[f[1]] = false
		case f[1] == "stop" && strings.HasPrefix(f[2], "i") && time.Duration(at*float64(sec)) < until-sec:
			for name, runs := range running {
				if runs && strings.HasPrefix(name, "a") {
					t.Fatalf("%s is stopped while %s runs:\n%s", f[2], name, strings.Join(log, "\n"))
				}
			}
		}
	}
}

// initsFirst checks that no app container starts before every init container that ends by itself has ended well, in this order.
func initsFirst(t *rapid.T, p *corev1.Pod, log []string) {
	done := map[string]bool{}
	for _, l := range log {
		f := strings.Fields(l)
		switch {
		case f[1] == "sandbox":
			done = map[string]bool{}
		case len(f) == 4 && f[2] == "ends" && f[3] == "0":
			done[f[1]] = true
		case f[1] == "start":
			for _, c := range p.Spec.InitContainers {
				if c.Name == f[2] {
					break
				}
				if c.RestartPolicy == nil && !done[c.Name] {
					t.Fatalf("%s starts before %s has ended well:\n%s", f[2], c.Name, strings.Join(log, "\n"))
				}
			}
		}
	}
}
