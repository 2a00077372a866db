package e2e

import (
	"slices"
	"testing"
)

const bare = `
variable "command" {
  type    = list(string)
  default = null
}

workload "pod" "solo" {
  labels = { app = "solo" }

  container "app" {
    image   = image.app.ref
    command = var.command

    # Without it one that takes long to begin would pass for ready before it crashes.
    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10

      http_get {
        path = "/healthz"
        port = 8080
      }
    }
  }
}
`

// A bare pod is made once: a change makes another one, one that crashes fails the apply, and one that somebody has removed
// stays away until it is asked for.
func TestBarePod(t *testing.T) {
	s := begin(t, bare)
	s.apply()
	first := s.pods("app=solo")
	if got := names(first); !slices.Equal(got, []string{"solo"}) {
		t.Fatalf("pods %v", got)
	}
	s.exactly([]string{"solo"})
	s.settled()

	s.apply("--var", "release=2")
	second := s.pods("app=solo")
	if got, err := fetchFrom(t, s, second[0]); second[0].UID == first[0].UID || err != nil || got != "2 solo" {
		t.Errorf("after a change the pod answers %q (%v), another one: %v", got, err, second[0].UID != first[0].UID)
	}
	s.exactly([]string{"solo"})

	client := runtimeOf(t, s.lab, second[0].Spec.NodeName)
	for _, c := range s.containers() {
		removeSandbox(t, client, c.Sandbox)
	}
	o := s.run("apply", "--auto-approve", "--var", "release=2")
	s.says(o.stdout+o.stderr, "Pod is gone", "--replace=pod.solo")
	s.exactly(nil)
	if got := s.pods("app=solo"); len(got) != 0 {
		t.Errorf("get pods still shows %v", names(got))
	}
	s.settled("--var", "release=2")
	s.apply("--var", "release=2", "--replace", "pod.solo")
	s.exactly([]string{"solo"})
	s.settled("--var", "release=2")

	s.fails([]string{"pod.solo"}, "apply", "--auto-approve", "--var", "release=2", "--var", `command=["/app", "crash", "3", "no such luck"]`)
	s.write("main.hcl", `variable "command" { default = null }`)
	s.apply("--var", "release=2")
	s.exactly(nil)
	s.settled("--var", "release=2")
}
