package e2e

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const configured = `
variable "greeting" {
  type    = string
  default = "hello"
}

variable "level" {
  type    = string
  default = "info"
}

config_map "app" {
  data = {
    greeting = var.greeting
    constant = "stays"
  }
}

workload "deployment" "app" {
  labels   = { app = "app" }
  replicas = 2

  container "app" {
    image = image.app.ref
    env   = { LEVEL = var.level }

    volume_mount "config" {
      mount_path = "/etc/app"
    }
  }

  volume "config" {
    config_map {
      name = config_map.app.name
    }
  }
}
`

// A changed config map reaches its pods as a rolling update, like any other change of them: the plan shows which pods
// change, and a bad configuration cannot take all of them down.
func TestConfigChange(t *testing.T) {
	s := begin(t, configured)
	s.apply()
	read := func(file string) (all []string) {
		for _, p := range s.pods("app=app") {
			all = append(all, s.exec(p.Name, "/app", "cat", "/etc/app/"+file))
		}
		return all
	}
	if d := cmp.Diff([]string{"hello", "hello"}, read("greeting")); d != "" {
		t.Fatalf("the config map in the pods:\n%s", d)
	}
	old := names(s.pods("app=app"))
	s.says(s.ok("plan", "--var", "greeting=good evening"), `"hello" -> "good evening"`, old[0], old[1])
	s.apply("--var", "greeting=good evening")
	if d := cmp.Diff([]string{"good evening", "good evening"}, read("greeting")); d != "" {
		t.Errorf("the changed config map in the pods:\n%s", d)
	}
	if d := cmp.Diff([]string{"stays", "stays"}, read("constant")); d != "" {
		t.Errorf("the rest of the config map:\n%s", d)
	}
	s.exactly(names(s.pods("app=app")))
	s.settled("--var", "greeting=good evening")

	s.apply("--var", "greeting=good evening", "--var", "level=debug")
	for _, p := range s.pods("app=app") {
		if env := s.exec(p.Name, "/app", "env"); !strings.Contains(env, "LEVEL=debug\n") {
			t.Errorf("environment of %s:\n%s", p.Name, env)
		}
	}
	s.exactly(names(s.pods("app=app")))
	s.settled("--var", "greeting=good evening", "--var", "level=debug")
}
