package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const moodyConfig = `
workload "deployment" "moody" {
  labels   = { app = "moody" }
  replicas = 2

  container "app" {
    image = image.app.ref
    args  = ["moody", ":8080"]

    port "http" {
      container_port = 8080
    }

    readiness_probe {
      period_seconds    = 1
      timeout_seconds   = 10
      failure_threshold = 1

      http_get {
        path = "/ready"
        port = "http"
      }
    }

    liveness_probe {
      initial_delay_seconds = 10 # by then it listens
      period_seconds        = 1
      timeout_seconds       = 10
      failure_threshold     = 2

      http_get {
        path = "/live"
        port = "http"
      }
    }
  }
}

service "moody" {
  selector = { app = "moody" }

  port "http" {
    port        = 80
    target_port = "http"
  }
}
`

// A pod that is not ready any more gets no traffic from any node, and again once it is. One whose liveness probe fails is restarted; one that
// cannot be asked, because its node's cable is out, is not, and stays what it was.
func TestWatchProbes(t *testing.T) {
	s := begin(t, moodyConfig)
	s.apply()
	w := s.watch().ready()
	pods := s.pods("app=moody")
	pod := pods[0]
	ask := tool(t, s.lab.Node(pod.Spec.NodeName))
	say := func(path string) {
		t.Helper()
		if _, err := ask("get", fmt.Sprintf("http://%s:8080%s", pod.Status.PodIP, path)); err != nil {
			t.Fatal(err)
		}
	}
	everywhere := func(want bool) {
		t.Helper()
		for _, n := range s.lab.Nodes() {
			poll(t, time.Minute, fmt.Sprintf("the rules of %s lead to the pod: %v", n.Name, want), func() bool { return leads(t, n, pod.Status.PodIP) == want })
		}
	}
	everywhere(true)
	say("/turn/off")
	everywhere(false)
	s.become("the loss of readiness", pod.Name, func(p *corev1.Pod) bool { return !isReady(p) && restarts(p) == 0 })
	say("/turn/on")
	everywhere(true)

	say("/kill")
	s.become("the restart", pod.Name, func(p *corev1.Pod) bool { return isReady(p) && restarts(p) == 1 })
	everywhere(true)

	other := pods[1]
	n := s.lab.Node(other.Spec.NodeName)
	if err := n.Unplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until(t, "Node "+n.Name+" cannot be watched", 1)
	if err := n.Plug(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until(t, "Node "+n.Name+" is watched again", 1)
	s.become("nothing", other.Name, func(p *corev1.Pod) bool { return isReady(p) && restarts(p) == 0 })
	for _, line := range strings.Split(w.stderr.String(), "\n") {
		if strings.Contains(line, "liveness") && strings.Contains(line, other.Name) {
			t.Errorf("a broken connection counts as a failed probe: %s", line)
		}
	}
}
