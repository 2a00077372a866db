package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// leads waits until one of some watchdogs leads, and returns it.
func (s *story) leads(since time.Time, among ...*watchdog) *watchdog {
	s.t.Helper()
	var leader *watchdog
	poll(s.t, time.Minute, "another watchdog leads", func() bool {
		for _, w := range among {
			if strings.Contains(w.stderr.String(), "msg=leads ") {
				leader = w
			}
		}
		return leader != nil
	})
	s.t.Logf("another leads %s after", time.Since(since).Round(10*time.Millisecond))
	return leader
}

// Three watchdogs run over one state. One that is killed is followed by another, so is one that does not move any more; when that one wakes up it has
// nothing to say, and whatever it would still do to hosts they refuse.
func TestWatchdogsTakeOver(t *testing.T) {
	s := begin(t, web)
	s.apply()
	first := s.watch().ready()
	others := []*watchdog{s.watch(), s.watch()}
	for _, w := range others {
		w.until(t, "standing by", 1)
	}
	pods := s.pods("app=web")
	restart := func(i int, times int32) {
		t.Helper()
		s.become("the restart", pods[i].Name, func(p *corev1.Pod) bool { return restarts(p) == times && isReady(p) })
	}

	killed := time.Now()
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	second := s.leads(killed, others...)
	s.killIn(pods[0].Spec.NodeName, pods[0].Name, "app")
	restart(0, 1)

	// It sleeps with something to do: of a container that ends then it hears when it wakes up.
	third := others[1-slices.Index(others, second)]
	second.ready()
	asleep := time.Now()
	if err := second.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer second.Process.Signal(syscall.SIGCONT) //nolint:errcheck // it may have ended
	s.killIn(pods[1].Spec.NodeName, pods[1].Name, "app")
	s.leads(asleep, third)
	restart(1, 1)
	third.ready() // every host has heard of it
	if err := second.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	second.until(t, "leads no more", 1)
	second.until(t, "standing by", 2)
	restart(1, 1)
	s.exactly(names(pods))

	// Hosts have the last word: to the one that leads, another with a greater number seems to have been there. It is refused, and takes a number
	// that is greater still, because the lead is its own.
	for _, n := range s.lab.Nodes() {
		s.mark(n, `s/"term":[0-9]*/"term":77/`)
	}
	s.killIn(pods[2].Spec.NodeName, pods[2].Name, "app")
	third.until(t, "a watchdog that leads since has been here", 1)
	restart(2, 1)
	third.ready()
	for _, n := range s.lab.Nodes() {
		if mark := sh(t, t.Context(), n, "cat "+api.MarkFile); !strings.Contains(mark, `"term":78,`) {
			t.Errorf("%s remembers %s", n.Name, mark)
		}
	}
	s.exactly(names(pods))
	if plan := s.run("plan", "--detailed-exitcode"); plan.code != 0 {
		t.Errorf("there is something left to apply: %s", plan.stdout)
	}
}
