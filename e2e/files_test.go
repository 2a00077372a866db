package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const living = `
variable "greeting" {
  type    = string
  default = "one"
}

variable "token" {
  type      = string
  default   = "t-one"
  sensitive = true
}

variable "way" {
  type    = string
  default = "update"
}

config_map "app" {
  data = {
    greeting = var.greeting
    constant = "stays"
  }
}

secret "app" {
  string_data = { token = var.token }
}

workload "deployment" "app" {
  labels           = { app = "app" }
  replicas         = 3
  on_config_change = var.way

  container "app" {
    image = image.app.ref
    args  = ["watch", "/etc/app/greeting"]

    env "GREETING" {
      value_from {
        config_map_key_ref {
          name = config_map.app.name
          key  = "greeting"
        }
      }
    }

    volume_mount "config" {
      mount_path = "/etc/app"
    }

    volume_mount "secret" {
      mount_path = "/secret"
    }
  }

  volume "config" {
    config_map {
      name = config_map.app.name
    }
  }

  volume "secret" {
    secret {
      secret_name = secret.app.name
    }
  }
}
`

// seen is one line of the watching app: what it read, when, and which process it was.
type seen struct {
	at    time.Time
	began string
	text  string
}

func (s *story) watched(pod string) []seen {
	s.t.Helper()
	var out []seen
	for line := range strings.Lines(s.ok("logs", pod)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			s.t.Fatalf("pod %s says %q", pod, line)
		}
		at, err := time.Parse(time.RFC3339Nano, f[0])
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, seen{at, f[1], f[2]})
	}
	return out
}

// identities names every container of the app's pods.
func (s *story) identities() []string {
	s.t.Helper()
	var out []string
	for _, p := range s.pods("app=app") {
		for _, c := range p.Status.ContainerStatuses {
			out = append(out, fmt.Sprint(p.Name, " ", c.ContainerID, " ", c.RestartCount))
		}
	}
	return out
}

// With on_config_change = "update" a changed config map reaches the running processes within a second of apply: same
// processes, same containers. The plan names the pods, and the variables that keep what they had.
func TestConfigUpdatesInPlace(t *testing.T) {
	s := begin(t, living)
	s.apply()
	before := s.identities()
	if len(before) != 3 || !strings.Contains(before[0], "containerd://") {
		t.Fatalf("containers: %q", before)
	}

	o := s.run("plan", "--var", "greeting=two", "--var", "token=t-two")
	plan := o.stdout + o.stderr
	for _, p := range s.pods("app=app") {
		s.says(plan, "~ pod "+p.Name)
	}
	s.says(plan, "config_map.app changed, secret.app changed: files updated in place", "3 to get new files", "Running pods keep old values",
		"the old variable GREETING of container app until they are made anew, for example with --replace=deployment.app")
	start := time.Now()
	s.apply("--var", "greeting=two", "--var", "token=t-two")
	for _, p := range s.pods("app=app") { // the files are there when apply has ended; their readers need a processor to see it
		if got := s.exec(p.Name, "/app", "cat", "/etc/app/greeting"); got != "two" {
			t.Errorf("the file of pod %s holds %q", p.Name, got)
		}
		poll(t, time.Minute, "pod "+p.Name+" has read it", func() bool { return len(s.watched(p.Name)) > 1 })
	}
	applied := time.Now()
	s.settled("--var", "greeting=two", "--var", "token=t-two")

	if d := cmp.Diff(before, s.identities()); d != "" {
		t.Errorf("containers (-before +after):\n%s", d)
	}
	for _, p := range s.pods("app=app") {
		lines := s.watched(p.Name)
		if len(lines) != 2 || lines[0].text != "one" || lines[1].text != "two" || lines[0].began != lines[1].began {
			t.Fatalf("pod %s read %v, want one and two by one process", p.Name, lines)
		}
		if at := lines[1].at; at.Before(start) || at.After(applied) {
			t.Errorf("pod %s read the new text at %s; apply went from %s to %s", p.Name, at, start, applied)
		}
		if got := s.exec(p.Name, "/app", "cat", "/secret/token"); got != "t-two" {
			t.Errorf("the secret's file in pod %s holds %q", p.Name, got)
		}
		if got := s.exec(p.Name, "/app", "stat", "/secret/token"); got != "0644 0:0 tmpfs\n" {
			t.Errorf("the secret's file in pod %s is %q", p.Name, got)
		}
		if env := s.exec(p.Name, "/app", "env"); !strings.Contains(env, "GREETING=one\n") {
			t.Errorf("the variables of pod %s:\n%s", p.Name, env)
		}
	}

	s.apply("--var", "greeting=three", "--var", "token=t-two", "--replace", "deployment.app")
	for _, p := range s.pods("app=app") {
		if env := s.exec(p.Name, "/app", "env"); !strings.Contains(env, "GREETING=three\n") {
			t.Errorf("the variables of pod %s, which was made anew:\n%s", p.Name, env)
		}
	}
}

// Berth is killed while it rewrites files, and while it rolls for the same change; the next apply does the rest, and
// only that.
func TestKillWhileConfigChanges(t *testing.T) {
	s := begin(t, living)
	s.apply()
	before := s.identities()
	for i, lines := range []int{0, 1} {
		args := []string{"apply", "--auto-approve", "--parallelism", "1", "--var", fmt.Sprint("greeting=", i)}
		killAfter(t, s, lines, args)
		s.ok(args...)
		s.settled("--var", fmt.Sprint("greeting=", i))
		for _, p := range s.pods("app=app") {
			lines := s.watched(p.Name)
			if last := lines[len(lines)-1]; last.text != fmt.Sprint(i) || last.began != lines[0].began {
				t.Errorf("pod %s read %v, want %d in the end, by one process", p.Name, lines, i)
			}
		}
	}
	if d := cmp.Diff(before, s.identities()); d != "" {
		t.Errorf("containers (-before +after):\n%s", d)
	}

	args := []string{"apply", "--auto-approve", "--var", "way=roll", "--var", "greeting=rolled"}
	killAfter(t, s, 3, args)
	s.ok(args...)
	s.settled(args[2:]...)
	pods := s.pods("app=app")
	if slices.ContainsFunc(names(pods), func(n string) bool { return strings.Contains(strings.Join(before, " "), n) }) || len(pods) != 3 {
		t.Errorf("pods %v, want three new ones", names(pods))
	}
	for _, p := range pods {
		if env := s.exec(p.Name, "/app", "env"); !strings.Contains(env, "GREETING=rolled\n") {
			t.Errorf("the variables of pod %s:\n%s", p.Name, env)
		}
	}
}
