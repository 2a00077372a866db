package e2e

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A node that looks after itself restarts what ends on it, also after a boot, while nobody else is there; it does nothing while a watchdog is, and
// knows no more than its own pods need.
func TestWatchLocal(t *testing.T) {
	s := begin(t, web+`
secret "other" {
  string_data = { token = "not-for-n1" }
}
`)
	s.apply()
	n := s.lab.Node("n1")
	s.fails([]string{"name them with --on"}, "watch", "install", "--local")
	s.says(s.ok("watch", "install", "--local", "--on", "n1", "--listen", "none"), "n1: berth-watch-local.service is installed and started")
	s.says(s.ok("watch", "status", "--local", "--on", "n1,n2"), "n1: active, enabled", "n2: not installed")
	pods := s.pods("app=web")
	var mine corev1.Pod
	for _, p := range pods {
		if p.Spec.NodeName == "n1" {
			mine = p
		}
	}
	goal := sh(t, t.Context(), n, "stat -c %a /var/lib/berth/local/goal.state; cat /var/lib/berth/local/goal.state")
	if !strings.HasPrefix(goal, "600\n") || !strings.Contains(goal, mine.Name) || strings.Contains(goal, "not-for-n1") || strings.Contains(goal, "bm90LWZvci1uMQ") {
		t.Errorf("what n1 keeps:\n%s", goal)
	}
	for _, p := range pods {
		if p.Name != mine.Name && strings.Contains(goal, p.Name) {
			t.Errorf("n1 keeps %s of another node", p.Name)
		}
	}
	// For the node it is a while since somebody was there.
	const alone = "touch -d '5 minutes ago' /run/berth-watched"
	said := func() string {
		return sh(t, t.Context(), n, "cat /var/log/berth-watch-local.service.log 2>/dev/null || true")
	}
	poll(t, time.Minute, "it waits while somebody is there", func() bool { return strings.Contains(said(), "standing by") })
	sh(t, t.Context(), n, alone)
	poll(t, time.Minute, "it leads", func() bool { return strings.Contains(said(), "msg=leads") })
	s.killIn("n1", mine.Name, "app")
	s.become("the restart", mine.Name, func(p *corev1.Pod) bool { return restarts(p) == 1 && isReady(p) })

	if err := n.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	sh(t, t.Context(), n, alone)
	poll(t, 2*time.Minute, "its pod is there again after the boot", func() bool {
		for _, c := range containersOn(t, s.lab, "n1") {
			if c.Pod == mine.Name && c.Running {
				return true
			}
		}
		return false
	})

	// Where a watchdog is, that one does it.
	before := strings.Count(said(), "standing by")
	w := s.watch().ready()
	poll(t, time.Minute, "it stands by again", func() bool { return strings.Count(said(), "standing by") > before })
	now := s.become("the pod", mine.Name, isReady)
	s.killIn("n1", mine.Name, "app")
	s.become("the restart", mine.Name, func(p *corev1.Pod) bool { return restarts(p) == restarts(&now)+1 && isReady(p) })
	s.exactly(names(pods))
	s.apply("--var", "release=2", "--lock-timeout=60s")
	poll(t, time.Minute, "it has what was applied since", func() bool {
		text := sh(t, t.Context(), n, "cat /var/lib/berth/local/goal.state")
		return !strings.Contains(text, mine.Name)
	})
	w.stop()
	s.says(s.ok("watch", "uninstall", "--local", "--on", "n1"), "n1: berth-watch-local.service is gone")
	if left := sh(t, t.Context(), n, "ls -d /var/lib/berth/local /etc/systemd/system/*local* /usr/local/lib/berth 2>/dev/null || true"); left != "" {
		t.Errorf("left on n1: %s", left)
	}
	s.settled("--var", "release=2")
}
