package e2e

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A watchdog that is to report drift says what is not as applied, once, and changes nothing of it; it restarts containers all the same. One that is to
// repair does.
func TestWatchDrift(t *testing.T) {
	s := begin(t, web)
	s.apply()
	n := s.lab.Node("n2")
	sh(t, t.Context(), n, "iptables -t nat -F; iptables -F")
	w := s.watch("--drift=report").ready()
	w.until(t, "drift: ", 2) // of the node's network, and of the service
	poll(t, time.Minute, "the count of changes", func() bool { return strings.Contains(w.metrics(), "\nberth_drift_changes 2\n") })
	pods := s.pods("app=web")
	s.killIn(pods[0].Spec.NodeName, pods[0].Name, "app")
	s.become("the restart", pods[0].Name, func(p *corev1.Pod) bool { return restarts(p) == 1 && isReady(p) })
	poll(t, time.Minute, "the event", func() bool { return strings.Contains(s.ok("events"), "Drift") })
	if o := s.run("drift"); o.code != 2 || !strings.Contains(o.stdout, "pod network is not in force") { // the restart has set the service's rules
		t.Errorf("what was only to be reported was repaired: %s", o)
	}
	if said := strings.Count(w.stderr.String(), "drift: "); said != 2 {
		t.Errorf("two things were said %d times:\n%s", said, w.stderr)
	}
	w.stop()
	s.watch().ready()
	for _, p := range pods {
		poll(t, time.Minute, "the rules lead to "+p.Name, func() bool { return leads(t, n, p.Status.PodIP) })
	}
	poll(t, time.Minute, "no drift", func() bool { return s.run("drift").code == 0 })
	s.exactly(names(pods))
}

// A configuration is applied by itself when it changes, and only then: what somebody else applies is not undone, by no round and no other watchdog. The
// lock is taken for writing alone.
func TestWatchConfiguration(t *testing.T) {
	s := begin(t, web+bounded)
	s.apply()
	w := s.watch("--config", ".").ready()
	brought := func() string {
		_, rest, _ := strings.Cut(s.read("berth.state"), `"source": "`)
		digest, _, _ := strings.Cut(rest, `"`)
		return digest
	}
	poll(t, time.Minute, "what was applied is known as brought", func() bool { return brought() != "" })
	first := brought()
	s.write("change.auto.bvars", "replicas = 4\n")
	poll(t, time.Minute, "the fourth pod", func() bool { return len(s.pods("app=web")) == 4 })
	poll(t, time.Minute, "the change is known as brought", func() bool { return brought() != first })

	// Somebody applies something else, with the watchdog beside him; a pod goes over its limit of disk, so that the watchdog makes a round of its own.
	s.apply("--var", "release=2", "--lock-timeout=60s")
	s.answers(webPort, "2")
	over := s.pods("app=app")[0].Name
	put(s, over, "/scratch/much", strings.Repeat("x", 100_000))
	poll(t, time.Minute, "another pod instead of the one that writes too much", func() bool {
		now := s.pods("app=app")
		return len(now) == 1 && now[0].Name != over && isReady(&now[0])
	})
	s.answers(webPort, "2")
	w.stop()
	w = s.watch("--config", ".").ready()
	w.until(t, "why=\"the watchdog has started\"", 1)
	poll(t, time.Minute, "the state is not locked", func() bool { return s.run("scale", "deployment/web", "--replicas=5", "--auto-approve").code == 0 })
	s.answers(webPort, "2")
	if n := len(s.pods("app=web")); n != 5 {
		t.Errorf("%d pods, want 5", n)
	}
	// Only a new edit counts again.
	s.write("change.auto.bvars", "replicas = 2\n")
	poll(t, time.Minute, "two pods", func() bool { return len(s.pods("app=web")) == 2 })
	s.answers(webPort, "1")
}
