package life_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime/life"
)

var start = time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// pod has the init containers and the containers named; an init container with a "+" is a sidecar.
func pod(policy corev1.RestartPolicy, inits, apps string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "shop", UID: "u1"}, Spec: corev1.PodSpec{RestartPolicy: policy}}
	for _, name := range strings.Fields(inits) {
		c := corev1.Container{Name: strings.TrimSuffix(name, "+"), Image: "i"}
		if strings.HasSuffix(name, "+") {
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	}
	for _, name := range strings.Fields(apps) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, Image: "i"})
	}
	return p
}

// see is a pod whose sandbox runs, with containers such as "app=run", "app=0" (exited with that code), "app=made", "app=unknown",
// "app=1~10" (exited, and the next start is delayed by 10 s).
func see(t *testing.T, containers string) life.Seen {
	t.Helper()
	o := &api.ObservedPod{SandboxID: "sb", SandboxReady: true, IP: "10.244.1.5", CreatedAt: start, StartedAt: start}
	for _, word := range strings.Fields(containers) {
		name, state, _ := strings.Cut(word, "=")
		c := api.ObservedContainer{Name: name, ID: "id-" + name, Image: "i", ImageID: "sha256:1", CreatedAt: at(1), StartedAt: at(1)}
		state, delay, delayed := strings.Cut(state, "~")
		if delayed {
			c.BackoffSeconds, c.Attempt = number(t, delay), 1
		}
		switch state {
		case "run":
			c.State = api.ContainerRunning
		case "made":
			c.State = api.ContainerCreated
		case "unknown":
			c.State = api.ContainerUnknown
		default:
			c.State, c.ExitCode, c.FinishedAt = api.ContainerExited, number(t, state), at(2)
			c.Signal = api.SignalOf(c.ExitCode)
		}
		o.Containers = append(o.Containers, c)
	}
	return life.SeenOf(o)
}

func number(t *testing.T, s string) int32 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return int32(n)
}

func TestPhase(t *testing.T) {
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	tests := []struct {
		policy           corev1.RestartPolicy
		init, apps, seen string
		deleted          bool
		want             corev1.PodPhase
	}{
		{always, "", "a", "", false, corev1.PodPending},
		{always, "", "a", "a=made", false, corev1.PodPending},
		{always, "", "a", "a=run", false, corev1.PodRunning},
		{always, "", "a b", "a=run", false, corev1.PodPending},
		{always, "", "a b", "a=run b=1", false, corev1.PodRunning},
		{always, "", "a b", "a=run b=1~10", false, corev1.PodRunning},
		{always, "", "a", "a=0", false, corev1.PodRunning},
		{always, "", "a", "a=1", false, corev1.PodRunning},
		{always, "", "a", "a=1~10", false, corev1.PodRunning},
		{always, "", "a", "a=0", true, corev1.PodSucceeded},
		{always, "", "a b", "a=0 b=137", true, corev1.PodFailed},
		{always, "", "a b", "a=0 b=run", true, corev1.PodRunning},
		{onFailure, "", "a", "a=0", false, corev1.PodSucceeded},
		{onFailure, "", "a", "a=1", false, corev1.PodRunning},
		{onFailure, "", "a b", "a=0 b=1~10", false, corev1.PodRunning},
		{onFailure, "", "a b", "a=0 b=run", false, corev1.PodRunning},
		{never, "", "a", "a=0", false, corev1.PodSucceeded},
		{never, "", "a", "a=1", false, corev1.PodFailed},
		{never, "", "a b", "a=0 b=1", false, corev1.PodFailed},
		{never, "", "a b", "a=1 b=run", false, corev1.PodRunning},
		{never, "", "a", "a=unknown", false, corev1.PodFailed},

		{always, "i", "a", "", false, corev1.PodPending},
		{always, "i", "a", "i=run", false, corev1.PodPending},
		{always, "i", "a", "i=0", false, corev1.PodPending},
		{always, "i", "a", "i=1", false, corev1.PodPending},
		{always, "i", "a", "i=1~10", false, corev1.PodPending},
		{never, "i", "a", "i=1", false, corev1.PodFailed},
		{onFailure, "i", "a", "i=1", false, corev1.PodPending},
		{always, "i", "a", "i=0 a=run", false, corev1.PodRunning},
		{always, "i j", "a", "i=0 j=run", false, corev1.PodPending},

		{always, "s+", "a", "s=run", false, corev1.PodPending},
		{always, "s+", "a", "s=run a=run", false, corev1.PodRunning},
		{always, "s+", "a", "s=1 a=run", false, corev1.PodRunning},
		{always, "s+", "a", "s=1~20 a=run", false, corev1.PodRunning},
		{never, "s+", "a", "s=run a=0", false, corev1.PodRunning},
		{never, "s+", "a", "s=143 a=0", false, corev1.PodSucceeded},
		{never, "s+ i", "a", "s=run i=2", false, corev1.PodFailed},
	}
	for _, tt := range tests {
		seen := see(t, tt.seen)
		if tt.deleted {
			seen.Deletion = &life.Deletion{At: at(3)}
		}
		if got := life.Status(pod(tt.policy, tt.init, tt.apps), seen, at(5)).Phase; got != tt.want {
			t.Errorf("%s, init [%s], containers [%s], seen [%s], deleted %v: %s, want %s", tt.policy, tt.init, tt.apps, tt.seen, tt.deleted, got, tt.want)
		}
	}
}

func TestContainerStates(t *testing.T) {
	tests := []struct {
		name, seen string
		change     func(p *corev1.Pod, c *life.Container)
		now        float64
		want       string // waiting reason, "running", or "terminated CODE SIGNAL REASON"
		restarts   int32
		ready      bool
	}{
		{name: "nothing yet", seen: "", want: "ContainerCreating"},
		{name: "init first", seen: "", change: func(p *corev1.Pod, _ *life.Container) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i"}}
		}, want: "PodInitializing"},
		{name: "runs", seen: "app=run", want: "running", ready: true},
		{name: "completed", seen: "app=0", change: never, want: "terminated 0 0 Completed"},
		{name: "failed", seen: "app=3", change: never, want: "terminated 3 0 Error"},
		{name: "killed", seen: "app=137", change: never, want: "terminated 137 9 Error"},
		{name: "out of memory", seen: "app=137", change: func(p *corev1.Pod, c *life.Container) { never(p, c); c.Reason = "OOMKilled" }, want: "terminated 137 9 OOMKilled"},
		{name: "to be started at once", seen: "app=1", want: "terminated 1 0 Error"},
		{name: "delayed", seen: "app=1~10", now: 11.9, want: "CrashLoopBackOff", restarts: 1},
		{name: "delay over", seen: "app=1~10", now: 12.1, want: "terminated 1 0 Error", restarts: 1},
		{name: "asked for since", seen: "app=1~10", now: 5, change: func(_ *corev1.Pod, c *life.Container) { c.FinishedAt = at(-3) }, want: "terminated 1 0 Error", restarts: 1},
		{name: "status lost", seen: "app=unknown", want: "terminated 137 0 ContainerStatusUnknown"},
		{name: "could not be made", seen: "app=made", change: func(_ *corev1.Pod, c *life.Container) {
			c.Trouble = &life.Trouble{Reason: "CreateContainerConfigError", Message: `secret "x" not found`}
		}, want: "CreateContainerConfigError"},
		{name: "hook failed", seen: "app=run", change: func(_ *corev1.Pod, c *life.Container) {
			c.PostStart.State = life.HookFailed
		}, want: "PostStartHookError"},
		{name: "not started yet", seen: "app=run", change: func(p *corev1.Pod, _ *life.Container) {
			p.Spec.Containers[0].StartupProbe = &corev1.Probe{}
		}, want: "running"},
		{name: "started by record", seen: "app=run", change: func(p *corev1.Pod, c *life.Container) {
			p.Spec.Containers[0].StartupProbe, c.Recorded = &corev1.Probe{}, true
		}, want: "running", ready: true},
		{name: "not ready yet", seen: "app=run", change: func(p *corev1.Pod, _ *life.Container) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{}
		}, want: "running"},
		{name: "ready by probe", seen: "app=run", change: func(p *corev1.Pod, c *life.Container) {
			p.Spec.Containers[0].ReadinessProbe, c.Readiness.Verdict = &corev1.Probe{}, life.Success
		}, want: "running", ready: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, seen := pod(corev1.RestartPolicyAlways, "", "app"), see(t, tt.seen)
			if tt.name == "asked for since" {
				seen.Asked = at(0)
			}
			if tt.change != nil {
				tt.change(p, seen.Container("app"))
			}
			st := life.Status(p, seen, at(max(tt.now, 3)))
			c := st.ContainerStatuses[0]
			if got := stateWord(c.State); got != tt.want {
				t.Errorf("state %s, want %s", got, tt.want)
			}
			if c.RestartCount != tt.restarts || c.Ready != tt.ready {
				t.Errorf("%d restarts, ready %v", c.RestartCount, c.Ready)
			}
			if c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" {
				if want := "back-off 10s restarting failed container=app pod=web-1_shop(u1)"; c.State.Waiting.Message != want {
					t.Errorf("message %q, want %q", c.State.Waiting.Message, want)
				}
				if c.LastTerminationState.Terminated == nil || c.LastTerminationState.Terminated.ExitCode != 1 {
					t.Errorf("last state %+v", c.LastTerminationState)
				}
			}
		})
	}
}

func never(p *corev1.Pod, _ *life.Container) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }

func stateWord(s corev1.ContainerState) string {
	switch {
	case s.Waiting != nil:
		return s.Waiting.Reason
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return fmt.Sprintf("terminated %d %d %s", s.Terminated.ExitCode, s.Terminated.Signal, s.Terminated.Reason)
	}
	return "nothing"
}

func TestConditions(t *testing.T) {
	tests := []struct {
		name, init, apps, seen string
		policy                 corev1.RestartPolicy
		want                   map[corev1.PodConditionType]string // "True", or the reason and message
	}{
		{"starting", "i s+", "a b", "i=run", corev1.RestartPolicyAlways, map[corev1.PodConditionType]string{
			corev1.PodReadyToStartContainers: "True", corev1.PodScheduled: "True",
			corev1.PodInitialized:  "ContainersNotInitialized: containers with incomplete status: [i s]",
			corev1.ContainersReady: "ContainersNotReady: containers with unready status: [s a b]", corev1.PodReady: "ContainersNotReady: containers with unready status: [s a b]",
		}},
		{"ready", "i s+", "a", "i=0 s=run a=run", corev1.RestartPolicyAlways, map[corev1.PodConditionType]string{
			corev1.PodInitialized: "True", corev1.ContainersReady: "True", corev1.PodReady: "True",
		}},
		{"one is down", "", "a b", "a=run b=1~10", corev1.RestartPolicyAlways, map[corev1.PodConditionType]string{
			corev1.PodInitialized: "True", corev1.PodReady: "ContainersNotReady: containers with unready status: [b]",
		}},
		{"sidecar is down", "s+", "a", "s=1~10 a=run", corev1.RestartPolicyAlways, map[corev1.PodConditionType]string{
			corev1.PodInitialized: "True", corev1.PodReady: "ContainersNotReady: containers with unready status: [s]",
		}},
		{"done", "i", "a", "i=0 a=0", corev1.RestartPolicyNever, map[corev1.PodConditionType]string{
			corev1.PodInitialized: "True", corev1.PodReady: "PodCompleted: ", corev1.ContainersReady: "PodCompleted: ",
		}},
		{"failed", "", "a", "a=1", corev1.RestartPolicyNever, map[corev1.PodConditionType]string{corev1.PodReady: "PodFailed: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := life.Status(pod(tt.policy, tt.init, tt.apps), see(t, tt.seen), at(5))
			got := map[corev1.PodConditionType]string{}
			for _, c := range st.Conditions {
				got[c.Type] = c.Reason + ": " + c.Message
				if c.Status == corev1.ConditionTrue {
					got[c.Type] = "True"
				}
				if c.LastTransitionTime.IsZero() {
					t.Errorf("%s has no time", c.Type)
				}
			}
			for k, want := range tt.want {
				if got[k] != want {
					t.Errorf("%s: %q, want %q", k, got[k], want)
				}
			}
			if len(st.Conditions) != 5 || st.PodIP != "10.244.1.5" || st.StartTime == nil || st.QOSClass != corev1.PodQOSBestEffort {
				t.Errorf("status %+v", st)
			}
		})
	}
}

func TestDeadlineExceeded(t *testing.T) {
	p := pod(corev1.RestartPolicyNever, "", "a")
	p.Spec.ActiveDeadlineSeconds = new(int64(60))
	for _, tt := range []struct {
		seen   string
		now    float64
		phase  corev1.PodPhase
		reason string
	}{
		{"a=run", 59, corev1.PodRunning, ""},
		{"a=run", 61, corev1.PodRunning, ""}, // until it is stopped
		{"", 61, corev1.PodFailed, "DeadlineExceeded"},
		{"a=0", 61, corev1.PodSucceeded, ""}, // it had ended before
		{"a=1", 61, corev1.PodFailed, ""},
	} {
		if st := life.Status(p, see(t, tt.seen), at(tt.now)); st.Phase != tt.phase || st.Reason != tt.reason {
			t.Errorf("[%s] after %.0fs: %s %s, want %s %s", tt.seen, tt.now, st.Phase, st.Reason, tt.phase, tt.reason)
		}
	}
	seen := see(t, "a=137")
	seen.Containers[0].FinishedAt = at(62)
	if st := life.Status(p, seen, at(70)); st.Phase != corev1.PodFailed || st.Reason != "DeadlineExceeded" || st.Message != "Pod was active on the node longer than the specified deadline" {
		t.Errorf("killed at the deadline: %s %s %q", st.Phase, st.Reason, st.Message)
	}
}
