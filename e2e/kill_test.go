package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// Berth is killed at one moment after the other of a first apply and of a rolling update; each time the next apply
// finds its way, without an orphan and without a duplicate.
func TestKillAndApplyAgain(t *testing.T) {
	s := begin(t, web)
	version := 1
	for _, lines := range []int{1, 4, 8, 12, 17, 23, 30} {
		t.Run(fmt.Sprintf("after %d lines", lines), func(t *testing.T) {
			args := []string{"apply", "--auto-approve", "--var", fmt.Sprintf("release=%d", version), "--var", "replicas=4"}
			killAfter(t, s, lines, args)
			s.ok(args...)
			pods := s.pods("app=web")
			if len(pods) != 4 {
				t.Errorf("%d pods, want 4", len(pods))
			}
			s.exactly(names(pods))
			s.answers(webPort, fmt.Sprint(version))
			s.settled(args[2:]...)
			version++
		})
	}
}

// killAfter kills an apply when it has reported so many lines of progress.
func killAfter(t *testing.T, s *story, lines int, args []string) {
	t.Helper()
	r := s.start(args...)
	poll(t, deadline, "progress of apply", func() bool {
		_, progress, _ := strings.Cut(r.stdout.String(), "Plan: ")
		if strings.Count(progress, "\n") > lines+2 {
			return true
		}
		select {
		case err := <-r.ended:
			r.ended <- err
			return true
		default:
			return false
		}
	})
	if err := r.Process.Kill(); err != nil {
		t.Logf("ended before it could be killed: %v", err)
	}
	if o := r.wait(t); o.code == 0 {
		t.Logf("was done before %d lines", lines)
	}
}

// The same for the very first apply on hosts that have nothing of Berth, and for destroy: whatever was cut off, the next
// destroy leaves nothing.
func TestKillFirstApplyAndDestroy(t *testing.T) {
	t.Parallel() // its parts wait for hosts beside all others
	for _, lines := range []int{2, 7, 13, 20} {
		t.Run(fmt.Sprintf("after %d lines", lines), func(t *testing.T) {
			s := begin(t, rich)
			killAfter(t, s, lines, []string{"apply", "--auto-approve"})
			s.apply()
			s.exactly(append(names(s.pods("app=web")), names(s.podsIn("other", "app=store"))...))
			s.settled()
			killAfter(t, s, lines, []string{"destroy", "--auto-approve"})
			s.ok("destroy", "--auto-approve")
			for _, n := range s.lab.Nodes() {
				if left := traces(t, t.Context(), n); left != "" {
					t.Errorf("left on %s:\n%s", n.Name, left)
				}
			}
		})
	}
}
