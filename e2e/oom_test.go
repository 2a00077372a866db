package e2e

import (
	"strings"
	"testing"
)

const hungry = `
workload "pod" "hungry" {
  container "app" {
    image = image.app.ref
    args  = ["eat", "64"]

    resources {
      limits = { memory = "32Mi" }
    }

    readiness_probe { # nobody listens: without it the pod may be ready before it has eaten too much
      tcp_socket {
        port = 9
      }
    }
  }
}
`

// A container that uses more memory than its limit is killed by the kernel, and that is what people are told.
func TestOutOfMemory(t *testing.T) {
	s := begin(t, hungry)
	s.fails([]string{"OOMKilled", "exit code 137", "32Mi", "raise resources.limits.memory"}, "apply", "--auto-approve")
	if got := s.ok("get", "pods"); !strings.Contains(got, "OOMKilled") && !strings.Contains(got, "CrashLoopBackOff") {
		t.Errorf("get pods:\n%s", got)
	}
	p := s.pods("")[0]
	c := p.Status.ContainerStatuses[0]
	if c.State.Terminated == nil && c.LastTerminationState.Terminated == nil {
		t.Fatalf("status: %+v", c)
	}
	last := c.State.Terminated
	if last == nil {
		last = c.LastTerminationState.Terminated
	}
	if last.Reason != "OOMKilled" || last.ExitCode != 137 {
		t.Errorf("terminated: %+v", last)
	}
}
