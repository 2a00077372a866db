package e2e

import (
	"os"
	"os/user"
	"testing"
)

// Of two applies at once, one works and the other is told who does, or waits for its turn.
func TestTwoAppliesAtOnce(t *testing.T) {
	s := begin(t, web)
	g := newGate(t, s)
	slow := []string{"apply", "--auto-approve", "--var", g.env}
	first := s.start(slow...)
	first.until(t, "Creating", 1)

	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	s.fails([]string{"locked", me.Username + "@" + host, "apply"}, slow...) // at once: the first one would wait for ever
	second := s.start(append(slow, "--lock-timeout", "4m")...)
	second.until(t, "locked", 1)
	g.lift()
	if o := first.wait(t); o.code != 0 {
		t.Errorf("the first apply: %s", o)
	}
	o := second.wait(t)
	if o.code != 0 {
		t.Errorf("the second apply: %s", o)
	}
	s.says(o.stdout, "No changes.")
	s.exactly(names(s.pods("app=web")))
}

// Reading commands wait for nobody.
func TestReadingNeedsNoLock(t *testing.T) {
	s := begin(t, web)
	s.apply("--var", "replicas=1")
	g := newGate(t, s)
	r := s.start("apply", "--auto-approve", "--var", "replicas=1", "--var", g.env)
	r.until(t, "Creating", 1)
	for _, args := range [][]string{{"plan"}, {"get", "pods"}, {"show"}, {"state", "list"}, {"output"}} {
		s.ok(args...)
	}
	g.lift()
	if o := r.wait(t); o.code != 0 {
		t.Error(o)
	}
}
