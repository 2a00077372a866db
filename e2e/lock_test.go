package e2e

import (
	"os"
	"os/user"
	"testing"
	"time"
)

// Of two applies at once, one works and the other is told who does, or waits for its turn.
func TestTwoAppliesAtOnce(t *testing.T) {
	s := begin(t, web)
	slow := []string{"apply", "--auto-approve", "--var", `env={SLOW="6s"}`}
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
	o := s.fails([]string{"locked", me.Username + "@" + host, "apply"}, slow...)
	if o.took > 5*time.Second {
		t.Errorf("was refused after %s", o.took)
	}
	second := s.start(append(slow, "--lock-timeout", "2m")...)
	second.until(t, "locked", 1)
	if o := first.wait(t); o.code != 0 {
		t.Errorf("the first apply: %s", o)
	}
	o = second.wait(t)
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
	r := s.start("apply", "--auto-approve", "--var", "replicas=1", "--var", `env={SLOW="5s"}`)
	r.until(t, "Creating", 1)
	for _, args := range [][]string{{"plan"}, {"get", "pods"}, {"show"}, {"state", "list"}, {"output"}} {
		s.ok(args...)
	}
	if o := r.wait(t); o.code != 0 {
		t.Error(o)
	}
}
