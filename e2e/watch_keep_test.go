package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A watchdog restarts what ends, where it is: a container, everything of a containerd that was killed, everything of a host that was started
// anew. It never makes a pod twice, and leaves nothing for an apply to do.
func TestWatchKeepsPodsRunning(t *testing.T) {
	s := begin(t, web)
	s.apply()
	w := s.watch().ready()
	pods := s.pods("app=web")
	first := pods[0]
	s.killIn(first.Spec.NodeName, first.Name, "app")
	now := s.become("the restart", first.Name, func(p *corev1.Pod) bool { return restarts(p) == 1 && isReady(p) })
	if now.UID != first.UID || now.Status.PodIP != first.Status.PodIP {
		t.Errorf("it is another pod: %s at %s", now.UID, now.Status.PodIP)
	}

	// A containerd that is killed takes no container with it, and the watchdog takes no container for dead.
	second := pods[1]
	n := s.lab.Node(second.Spec.NodeName)
	before := s.containers()
	load := webClient(t, n)
	sh(t, t.Context(), n, `for p in /proc/[0-9]*; do if [ "$(cat $p/comm 2>/dev/null)" = containerd ]; then kill -9 "${p#/proc/}"; fi; done; `+containerdAnswers)
	w.until(t, "cannot be watched", 1)
	w.until(t, "is watched again", 1)
	if r, err := load.stop(); err != nil || r.Failed > 0 || r.Requests == 0 {
		t.Errorf("%d of %d requests failed while containerd was away: %q, %v", r.Failed, r.Requests, r.Failures, err)
	}
	if after := s.containers(); !slices.Equal(before, after) {
		t.Errorf("the containers were\n%v\nand are, after the kill of containerd,\n%v", before, after)
	}

	// While containerd is away nothing is known of the node; what happened meanwhile is found when it is back.
	sh(t, t.Context(), n, `systemctl stop containerd`)
	w.until(t, "cannot be watched", 2)
	sh(t, t.Context(), n, `for p in /proc/[0-9]*; do case "$(tr '\0' ' ' <$p/cmdline 2>/dev/null)" in /app*) kill -9 "${p#/proc/}";; esac; done; systemctl start containerd`)
	s.become("the restart", second.Name, func(p *corev1.Pod) bool { return restarts(p) == 1 && isReady(p) })

	// A host that boots anew has its pods again, with other addresses, and the services know.
	third := pods[2]
	n = s.lab.Node(third.Spec.NodeName)
	if err := n.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = s.become("the new sandbox", third.Name, func(p *corev1.Pod) bool { return isReady(p) && restarts(p) >= 1 })
	if now.UID != third.UID || now.Spec.NodeName != third.Spec.NodeName {
		t.Errorf("it is another pod: %s on %s", now.UID, now.Spec.NodeName)
	}
	for _, n := range s.lab.Nodes() {
		poll(t, time.Minute, "the rules of "+n.Name+" lead to the pod's address", func() bool { return leads(t, n, now.Status.PodIP) })
	}
	s.exactly(names(pods))
	poll(t, time.Minute, "there is nothing left to apply", func() bool { return s.run("plan", "--detailed-exitcode").code == 0 })
	s.answers(webPort, "1")
	for _, want := range []string{"Rebooted", "Started", "SandboxChanged"} {
		poll(t, time.Minute, "the event "+want, func() bool { return strings.Contains(s.ok("events"), want) })
	}
	if got := s.run("get", "pods").stderr; !strings.Contains(got, "Watchdog: ") || !strings.Contains(got, "seen ") {
		t.Errorf("a command says of the watchdog: %q", got)
	}
	w.stop()
	if got := s.run("get", "pods").stderr; !strings.Contains(got, "Watchdog: stopped") {
		t.Errorf("a command says of the watchdog that has stopped: %q", got)
	}
}

// What others apply while a watchdog runs counts at once, and nothing of it is undone. A watchdog that was killed has left nothing that the
// next one would do twice, and one that stands by takes over.
func TestWatchBesideApplies(t *testing.T) {
	s := begin(t, web)
	s.apply()
	w := s.watch().ready()
	standby := s.watch()
	standby.until(t, "standing by", 1)
	s.apply("--var", "release=2", "--lock-timeout=60s")
	s.answers(webPort, "2")
	s.exactly(names(s.pods("app=web")))
	s.ok("scale", "deployment/web", "--replicas=5", "--auto-approve", "--lock-timeout=60s")
	pods := s.pods("app=web")
	if len(pods) != 5 {
		t.Fatalf("there are %d pods", len(pods))
	}
	if err := w.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	standby.until(t, "leads", 1)
	t.Logf("another leads %v after", time.Since(killed).Round(10*time.Millisecond))
	standby.ready()
	last := pods[len(pods)-1]
	s.killIn(last.Spec.NodeName, last.Name, "app")
	s.become("the restart", last.Name, func(p *corev1.Pod) bool { return restarts(p) == 1 && isReady(p) })
	s.exactly(names(pods))
	s.ok("destroy", "--auto-approve", "--lock-timeout=60s")
	s.exactly(nil)
}
