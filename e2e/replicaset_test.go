package e2e

import (
	"slices"
	"testing"
)

const replicas = `
variable "replicas" {
  type    = number
  default = 2
}

variable "command" {
  type    = list(string)
  default = null
}

workload "replicationcontroller" "web" {
  labels   = { app = "web" }
  replicas = var.replicas

  container "app" {
    image   = image.app.ref
    command = var.command

    port "http" {
      container_port = 8080
    }

    # Without it one that takes long to begin would pass for ready before it crashes.
    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10

      http_get {
        path = "/healthz"
        port = "http"
      }
    }
  }
}

service "web" {
  type     = "NodePort"
  selector = workload.replicaset.web.labels

  port "http" {
    port        = 80
    target_port = "http"
    node_port   = 30092
  }
}
`

// A replica set keeps a number of pods. Those that run do not follow a new template, those that come do; one that a host has
// lost is made again.
func TestReplicaSet(t *testing.T) {
	s := begin(t, replicas)
	s.apply()
	first := names(s.pods("app=web"))
	s.exactly(first)
	s.answers(30092, "1")

	s.apply("--var", "release=2")
	if got := names(s.pods("app=web")); !slices.Equal(got, first) {
		t.Errorf("a new template replaced pods: %v became %v", first, got)
	}
	s.apply("--var", "release=2", "--var", "replicas=4")
	all := s.pods("app=web")
	s.exactly(names(all))
	for _, p := range all {
		want := "2 "
		if slices.Contains(first, p.Name) {
			want = "1 "
		}
		if got, err := fetchFrom(t, s, p); err != nil || got != want+p.Name {
			t.Errorf("%s answers %q (%v), want version %s", p.Name, got, err, want)
		}
	}
	s.settled("--var", "release=2", "--var", "replicas=4")

	gone := all[0]
	client := runtimeOf(t, s.lab, gone.Spec.NodeName)
	for _, c := range s.containers() {
		if c.Pod == gone.Name {
			removeSandbox(t, client, c.Sandbox)
		}
	}
	s.apply("--var", "release=2", "--var", "replicas=4")
	if got := s.pods("app=web"); len(got) != 4 {
		t.Errorf("%d pods after one was lost", len(got))
	}
	s.exactly(names(s.pods("app=web")))

	s.apply("--var", "release=2", "--var", "replicas=1")
	if got := s.pods("app=web"); len(got) != 1 {
		t.Errorf("%d pods, want 1", len(got))
	}
	one := names(s.pods("app=web"))
	s.exactly(one)

	s.fails([]string{"replicaset.web", "no such tape", "exit code 3"}, "apply", "--auto-approve", "--var", "release=2", "--var", "replicas=2", "--var", `command=["/app", "crash", "3", "no such tape"]`)
	if now := names(s.pods("app=web")); !contains(now, one) {
		t.Errorf("a new pod that crashes has cost %v: now %v", one, now)
	}
	s.apply("--var", "release=2", "--var", "replicas=2")
	two := names(s.pods("app=web"))
	if len(two) != 2 || !contains(two, one) {
		t.Errorf("after the crash pods %v, want two with %v", two, one)
	}
	s.exactly(two)
	s.settled("--var", "release=2", "--var", "replicas=2")
	s.write("main.hcl", `variable "replicas" { default = 0 }`)
	s.apply("--var", "release=2")
	s.exactly(nil)
}
