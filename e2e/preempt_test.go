package e2e

import (
	"strings"
	"testing"
)

// preempting is a workload that has a port of every node, and a more important one that wants it.
const preempting = `
variable "urgent" {
  type    = number
  default = 0
}

priority_class "high" {
  value = 1000
}

workload "deployment" "low" {
  labels   = { app = "low" }
  replicas = 3

  container "app" {
    image = image.app.ref

    port "http" {
      container_port = 8080
      host_port      = 8095
    }
  }
}

workload "deployment" "urgent" {
  labels              = { app = "urgent" }
  replicas            = var.urgent
  priority_class_name = priority_class.high.name

  container "app" {
    image = image.app.ref

    port "http" {
      container_port = 8080
      host_port      = 8095
    }
  }
}
`

// An important pod takes the room of one that is not: that one goes, the next plan is content with what is left, and once there is
// room again everything is as it was.
func TestImportantPodsTakeRoom(t *testing.T) {
	s := begin(t, preempting)
	s.apply()
	low := names(s.pods("app=low"))

	out := s.run("apply", "--auto-approve", "--var", "urgent=1")
	s.says(out.String(), "exit code 0", "preempted by deployment.urgent", "1 of 3 pods", "Pods stay pending")
	urgent, left := s.pods("app=urgent"), names(s.pods("app=low"))
	if len(urgent) != 1 || len(left) != 2 || !contains(low, left) {
		t.Fatalf("%d important pods and %v of %v: want one, and two of the three", len(urgent), left, low)
	}
	s.exactly(names(s.pods("")))
	if events := s.ok("events", "--types", "Normal"); !strings.Contains(events, "Preempted by deployment.urgent on node "+urgent[0].Spec.NodeName) {
		t.Errorf("no event tells of it:\n%s", events)
	}
	s.settled("--var", "urgent=1")

	s.apply()
	if n := len(s.pods("app=low")); n != 3 {
		t.Errorf("%d pods once there is room again, want all three", n)
	}
	s.exactly(names(s.pods("")))
	s.settled()
}
