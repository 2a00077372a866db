package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const policed = `
variable "replicas" { default = 2 }
variable "least" { default = 2 }
variable "up" { default = 1 }

priority_class "vital" {
  value = 1000
}

workload "deployment" "web" {
  labels              = { app = "web" }
  replicas            = var.replicas
  priority_class_name = priority_class.vital.name

  container "app" {
    image = image.app.ref
  }
}

disruption_budget "web" {
  max_unavailable = var.up

  selector {
    match_labels = { app = "web" }
  }
}
`

const scaled = `
autoscaler "web" {
  min_replicas = var.least
  max_replicas = 4

  scale_target_ref {
    name = workload.deployment.web.name
  }

  metric {
    resource {
      name = "cpu"

      target {
        average_utilization = 60
      }
    }
  }
}
`

// What stands beside workloads is applied, changed, shown and deleted: a priority class, a disruption budget, an autoscaler, whose
// replicas are no drift. A workload that selects another's pods is refused. Pods that the state has lost are taken over where they are
// wanted, and go where they are not.
func TestWhatStandsBesideWorkloads(t *testing.T) {
	s := begin(t, policed+scaled)
	s.apply()
	first := s.pods("app=web")
	for _, p := range first {
		if p.Spec.Priority == nil || *p.Spec.Priority != 1000 || p.Spec.PriorityClassName != "vital" {
			t.Errorf("pod %s has priority %v of class %q", p.Name, p.Spec.Priority, p.Spec.PriorityClassName)
		}
	}
	s.says(s.ok("get", "disruption_budgets"), "NAME MIN AVAILABLE MAX UNAVAILABLE ALLOWED DISRUPTIONS", "web N/A 1 1")
	s.says(s.ok("get", "autoscalers"), "web Deployment/web cpu: <unknown>/60% 2 4 2")
	s.says(s.ok("get", "priority_classes"), "vital 1000 false")
	s.settled("--var", "replicas=3")

	s.says(s.apply("--var", "least=3", "--var", "up=2"), "max_unavailable", "1 -> 2", "min_replicas", "2 -> 3")
	if pods := s.pods("app=web"); len(pods) != 3 || !contains(names(pods), names(first)) {
		t.Errorf("pods %v, want three with %v", names(pods), names(first))
	}
	s.says(s.ok("describe", "disruption_budget", "web"), "Max unavailable: 2", "Allowed disruptions: 2", "Current: 3")

	s.write("more.hcl", `
workload "deployment" "greedy" {
  labels = { app = "web", tier = "greedy" }

  container "app" {
    image = image.app.ref
  }
}
`)
	s.write("main.hcl", strings.Replace(policed, `labels              = { app = "web" }`, `labels              = { app = "web" }
  pod_labels          = { tier = "greedy" }`, 1)+scaled)
	s.fails([]string{"deployment.greedy", "deployment.web", "main.hcl", "more.hcl"}, "apply", "--auto-approve", "--var", "least=3")
	s.write("more.hcl", "")
	s.exactly(names(s.pods("app=web")))

	// Without the autoscaler the configuration's number counts.
	s.write("main.hcl", policed)
	s.apply()
	two := s.pods("app=web")
	if len(two) != 2 {
		t.Errorf("%d pods without the autoscaler, want 2", len(two))
	}
	s.write("old.state", s.ok("state", "pull"))
	s.apply("--var", "replicas=4")
	four := names(s.pods("app=web"))
	s.ok("state", "push", "--force", "old.state")
	s.says(s.apply("--var", "replicas=4"), "started by an apply that did not finish")
	if got := names(s.pods("app=web")); !slices.Equal(got, four) {
		t.Errorf("pods %v were taken over as %v", four, got)
	}
	s.exactly(four)
	s.settled("--var", "replicas=4")
	s.ok("state", "push", "--force", "old.state")
	s.apply()
	s.exactly(names(two))
	s.settled()
	s.write("main.hcl", "variable \"replicas\" { default = 2 }\n")
	s.apply()
	s.exactly(nil)
}

// A pod of a stateful set that somebody has taken away comes back where its data lies. The proof that it is dead is that its host answers
// and has no such pod, and the plan says so.
func TestStatefulSetComesBackToItsData(t *testing.T) {
	s := begin(t, withClaims(`    when_deleted = "Delete"`))
	two := []string{"--var", "replicas=2"}
	s.apply(two...)
	before := s.pods("app=db")
	for _, p := range before {
		put(s, p.Name, "/data/whose", p.Name)
	}
	s.watcher().lose("db-1")
	s.says(s.apply(two...), before[1].Spec.NodeName+" answers and has no such pod")
	after := s.pods("app=db")
	if after[0].Status.PodIP != before[0].Status.PodIP || after[1].Spec.NodeName != before[1].Spec.NodeName {
		t.Errorf("db-0 was %s and is %s, db-1 was on %s and is on %s", before[0].Status.PodIP, after[0].Status.PodIP, before[1].Spec.NodeName, after[1].Spec.NodeName)
	}
	if got := s.exec("db-1", "/app", "cat", "/data/whose"); got != "db-1" {
		t.Errorf("its volume holds %q", got)
	}
	s.exactly([]string{"db-0", "db-1"})
	s.settled(two...)
}

func cron(f *foreman) string {
	return fmt.Sprintf(`
variable "suspend" { default = false }

workload "cronjob" "backup" {
  schedule                      = "0 3 * * *"
  suspend                       = var.suspend
  successful_jobs_history_limit = 2
  backoff_limit                 = 0
  restart_policy                = "Never"

  container "task" {
    image = image.app.ref
    args  = ["ask", "%s/backup"]
  }
}
`, f.url)
}

// A cronjob runs when somebody asks for it, also while it is suspended; a run that fails says why; a change counts for the next run; its
// history keeps as many runs as it says, and with the cronjob go its runs.
func TestCronJobLife(t *testing.T) {
	s := begin(t, "")
	f := newForeman(t, s)
	s.write("main.hcl", cron(f))
	s.apply()
	f.idle("backup")
	s.says(s.ok("get", "cronjobs"), "NEXT SCHEDULE", "backup 0 3 * * * <none> False 0 <none> 20", "T03:00:00Z")
	run := func(name string, code int) outcome {
		t.Helper()
		r := s.start("job", "run", "backup", "--auto-approve", "--name", name)
		f.next("backup").end(code, "the tape is full")
		return r.wait(t)
	}
	for _, name := range []string{"good-1", "good-2"} {
		if o := run(name, 0); o.code != 0 || !strings.Contains(o.stdout, "job.batch/"+name+" completed") {
			t.Errorf("%s", o)
		}
	}
	for _, name := range []string{"bad-1", "bad-2"} {
		o := run(name, 9)
		if o.code != 1 {
			t.Errorf("%s", o)
		}
		s.says(o.stderr, "Job default/"+name, "BackoffLimitExceeded", "exit code 9", "the tape is full")
	}
	s.fails([]string{"already exists"}, "job", "run", "backup", "--auto-approve", "--name", "good-2")
	s.fails([]string{`cronjobs.batch "other" not found`}, "job", "run", "other", "--auto-approve")

	s.apply("--var", "release=2", "--var", "suspend=true")
	f.idle("backup")
	s.says(s.ok("get", "cronjobs"), "backup 0 3 * * * <none> True 0")
	s.ok("job", "run", "backup", "--auto-approve", "--name", "good-3", "--no-wait")
	k := f.next("backup")
	if k.version != "2" {
		t.Errorf("the run is of version %q", k.version)
	}
	s.says(s.ok("get", "cronjobs"), "True 1")
	k.end(0, "done")
	changed := []string{"--var", "release=2", "--var", "suspend=true"}
	poll(t, deadline, "an apply finds that good-3 has ended", func() bool {
		s.apply(changed...)
		return s.runs()["good-3"].Succeeded == 1
	})
	s.apply(changed...) // it counts in the history from now on
	var kept []string
	for name := range s.runs() {
		kept = append(kept, name)
	}
	slices.Sort(kept)
	if want := []string{"bad-2", "good-2", "good-3"}; !slices.Equal(kept, want) {
		t.Errorf("runs that are kept: %v, want %v", kept, want)
	}
	if pods := s.pods("job-name"); len(pods) != 3 {
		t.Errorf("pods that are kept: %v", names(pods))
	}
	s.settled(changed...)

	s.ok("job", "run", "backup", "--auto-approve", "--name", "last", "--no-wait")
	k = f.next("backup")
	s.write("main.hcl", "variable \"suspend\" { default = false }\n")
	s.apply(changed...)
	k.stopped()
	s.exactly(nil)
	if runs := s.runs(); len(runs) != 0 {
		t.Errorf("the state still knows %v", runs)
	}
}

// Ctrl-C ends the wait of a canary's pause, and the next apply goes on from there; an HTTP analysis that finds the new pods unfit stops the
// rollout, with what they answered, until it finds them fit.
func TestCanaryIsInterruptedAndUnfit(t *testing.T) {
	config := strings.Replace(staged(`
    type = "Canary"

    canary {
      step {
        replicas = 1

        pause {
          seconds = var.pause
        }

        analysis {
          http_get {
            path = var.path
            port = "http"
          }
        }
      }
    }`), "default = 4", "default = 2", 1) + `
variable "pause" { default = 600 }
variable "path" { default = "/nothing" }
`
	s := begin(t, config)
	s.apply()
	r := s.start("apply", "--auto-approve", "--var", "release=2")
	r.until(t, "deployment.web: Waiting...", 1)
	interrupt(t, r)
	if o := r.wait(t); o.code == 0 {
		t.Errorf("%s", o)
	}
	s.hasVersions(map[string]int{"1": 1, "2": 1})
	s.fails([]string{"Analysis failed", "404", "deployment.web"}, "apply", "--auto-approve", "--var", "release=2", "--var", "pause=0")
	s.hasVersions(map[string]int{"1": 1, "2": 1})
	s.apply("--var", "release=2", "--var", "pause=0", "--var", "path=/healthz")
	s.hasVersions(map[string]int{"2": 2})
	s.exactly(names(s.pods("app=web")))
	s.settled("--var", "release=2", "--var", "pause=0", "--var", "path=/healthz")
}
