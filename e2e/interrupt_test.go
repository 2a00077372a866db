package e2e

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// The first Ctrl-C gives up waiting, finishes what changes hosts, and saves; the next apply goes on from there.
func TestInterruptOnce(t *testing.T) {
	s := begin(t, web)
	g := newGate(t, s)
	args := []string{"apply", "--auto-approve", "--var", g.env}
	r := s.start(args...)
	r.until(t, "Waiting until ready", 1)
	interrupt(t, r)
	o := r.wait(t)
	if o.code != 130 && o.code != 1 {
		t.Errorf("exit code %d after one Ctrl-C\n%s", o.code, o)
	}
	s.says(o.stdout+o.stderr, "Interrupt received.", "the next apply goes on from there")
	before := names(s.pods("app=web"))
	g.lift()
	s.ok(args...)
	after := names(s.pods("app=web"))
	s.exactly(after)
	for _, name := range before {
		if !slices.Contains(after, name) {
			t.Errorf("pod %s was made before the interrupt and thrown away after it", name)
		}
	}
	s.answers(webPort, "1")
	s.settled(args[2:]...)
}

const deaf = `
variable "replicas" {
  type    = number
  default = 1
}

workload "deployment" "deaf" {
  labels                           = { app = "deaf" }
  replicas                         = var.replicas
  termination_grace_period_seconds = 600

  container "app" {
    image = image.app.ref
    args  = ["sleep", "1h"]
  }
}
`

// The first Ctrl-C waits for what changes a host, as here for a container that takes its grace period; the second one
// stops at once, and the next apply takes over what is half done.
func TestInterruptTwice(t *testing.T) {
	s := begin(t, deaf)
	s.apply()
	pod := s.pods("app=deaf")[0]
	r := s.start("apply", "--auto-approve", "--var", "replicas=0")
	r.until(t, "Stopping", 1)
	interrupt(t, r)
	r.until(t, "Interrupt received.", 1)
	time.Sleep(time.Second) // it must not end by itself
	select {
	case err := <-r.ended:
		t.Fatalf("ended at the first Ctrl-C, %v:\n%s%s", err, r.stdout, r.stderr)
	default:
	}
	start := time.Now()
	interrupt(t, r)
	o := r.wait(t)
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %s after the second Ctrl-C", took)
	}
	if o.code == 0 {
		t.Errorf("exit code 0 after two Ctrl-C\n%s", o)
	}
	s.killIn(pod.Spec.NodeName, pod.Name, "app") // it would take ten minutes
	s.apply("--var", "replicas=0")
	s.exactly(nil)
	s.settled("--var", "replicas=0")
}

func interrupt(t *testing.T, r *running) {
	t.Helper()
	if err := r.Process.Signal(os.Signal(syscall.SIGINT)); err != nil {
		t.Fatal(err)
	}
}
