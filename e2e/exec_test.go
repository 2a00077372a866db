package e2e

import (
	"strings"
	"testing"
	"time"
)

const talking = `
workload "deployment" "talk" {
  labels = { app = "talk" }

  container "app" {
    image = image.app.ref
    args  = ["say", "line", "20"]
  }

  container "other" {
    image = image.app.ref
    args  = ["say", "word", "2"]
  }
}
`

// exec carries input, output, errors and the exit code; logs print what was said, all of it or the end.
func TestExecAndLogs(t *testing.T) {
	s := begin(t, talking)
	s.apply()
	pod := s.pods("app=talk")[0].Name

	if o := s.run("exec", pod, "-c", "app", "--", "/app", "crash", "7", "good", "bye"); o.code != 7 || o.stdout != "good bye\n" {
		t.Errorf("exec of what ends with 7: %s", o)
	}
	if o := s.run("exec", pod, "-c", "app", "--", "/app", "cat", "/none"); o.code != 1 || !strings.Contains(o.stderr, "/none") {
		t.Errorf("exec of what fails: %s", o)
	}
	if o := s.run("exec", pod, "--", "/app", "env"); o.code != 0 || !strings.Contains(o.stderr, `Defaulted container "app" out of: app, other`) {
		t.Errorf("exec without -c: %s", o)
	}
	s.fails([]string{"no container", "third"}, "exec", pod, "-c", "third", "--", "/app", "env")
	s.fails([]string{"not found"}, "logs", "nobody")

	cmd := s.command(t.Context(), "exec", "-i", "deployment.talk", "-c", "other", "--", "/app", "echo")
	cmd.Stdin = strings.NewReader(strings.Repeat("piped\n", 10000))
	if out, err := cmd.Output(); err != nil || strings.Count(string(out), "piped\n") != 10000 {
		t.Errorf("10000 lines through exec: %d came back, %v", strings.Count(string(out), "piped\n"), err)
	}

	poll(t, time.Minute, "the pod has said all", func() bool { return strings.Contains(s.ok("logs", pod, "-c", "app"), "line 19\n") })
	if got := s.ok("logs", pod, "-c", "app"); strings.Count(got, "line ") != 20 {
		t.Errorf("logs: %q", got)
	}
	if got := s.ok("logs", "deployment.talk", "-c", "app", "--tail", "2"); got != "line 18\nline 19\n" {
		t.Errorf("logs --tail 2: %q", got)
	}
	r := s.start("logs", "-f", pod, "-c", "other")
	r.until(t, "word 1", 1)
	time.Sleep(300 * time.Millisecond) // it must not end by itself
	select {
	case <-r.ended:
		t.Errorf("logs -f ended by itself:\n%s%s", r.stdout, r.stderr)
	default:
	}
	interrupt(t, r)
	if o := r.wait(t); o.stdout != "word 0\nword 1\n" {
		t.Errorf("logs -f: %s", o)
	}
}
