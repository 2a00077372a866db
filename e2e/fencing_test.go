package e2e

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
)

// A holder of the lock falls asleep in the middle of an apply, another one has been at the hosts when it wakes up: the hosts refuse it,
// pods included, and nothing changes on them any more.
func TestSleepingHolderIsRefused(t *testing.T) {
	s := begin(t, web)
	s.apply()
	r := s.start("apply", "--auto-approve", "--var", "release=2", "--var", newGate(t, s).env)
	r.until(t, "Creating", 1)
	if err := r.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// What a newer holder leaves on every host with its first step. The story's own number comes back before the end.
	for _, n := range s.lab.Nodes() {
		s.mark(n, `s/"fence":\([0-9]*\)}/"fence":9\1}/`)
	}
	defer func() {
		for _, n := range s.lab.Nodes() {
			s.mark(n, `s/"fence":9\([0-9]*\)}/"fence":\1}/`)
		}
	}()
	before := s.quiet(t) // what containerd was asked for before comes to its end
	if err := r.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	o := r.wait(t)
	if o.code != 1 {
		t.Errorf("exit code %d", o.code)
	}
	s.says(o.stdout+o.stderr, "a newer holder of the lock has been here")
	if after := s.containerIDs(); !slices.Equal(before, after) {
		t.Errorf("containers were changed by who lost the lock:\n%v\n%v", before, after)
	}
	// Nor can it begin anything anew: a pod that goes, one that comes, an image.
	for _, args := range [][]string{{"scale", "deployment/web", "--replicas", "1", "--auto-approve"}, {"apply", "--auto-approve", "--var", "release=3"}} {
		s.fails([]string{"a newer holder of the lock has been here"}, args...)
	}
	if after := s.containerIDs(); !slices.Equal(before, after) {
		t.Errorf("containers were changed:\n%v\n%v", before, after)
	}
}

// quiet returns the containers when nothing has changed about them for two seconds.
func (s *story) quiet(t *testing.T) []string {
	t.Helper()
	last, since := s.containerIDs(), time.Now()
	poll(t, deadline, "hosts on which nothing happens", func() bool {
		if now := s.containerIDs(); !slices.Equal(now, last) {
			last, since = now, time.Now()
		}
		return time.Since(since) > 2*time.Second
	})
	return last
}

// mark edits a host's mark.
func (s *story) mark(n *lab.Node, edit string) {
	s.t.Helper()
	if _, err := n.Exec(context.WithoutCancel(s.t.Context()), "sed", "-i", edit, api.MarkFile); err != nil {
		s.t.Fatal(err)
	}
}

// containerIDs are the sandboxes and containers on all hosts, whatever became of them.
func (s *story) containerIDs() []string {
	s.t.Helper()
	var out []string
	for _, c := range s.containers() {
		out = append(out, c.Node+" "+c.Pod+" "+c.Sandbox+" "+c.ID)
	}
	return out
}
