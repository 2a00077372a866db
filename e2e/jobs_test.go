package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// asking is a job whose pods ask the foreman how to end.
func asking(f *foreman, name, spec string) string {
	return fmt.Sprintf(`
workload "job" %q {
  restart_policy = "Never"
  %s

  container "task" {
    image = image.app.ref
    args  = ["ask", "%s/%s"]
  }
}
`, name, spec, f.url, name)
}

// Twenty completions, four at a time. One of the first pods fails, and others that succeed make up for it; the last one fails with
// none after it, so that the next waits ten seconds. In the end each completion has run once.
func TestJobRunsToItsCompletions(t *testing.T) {
	s := begin(t, "")
	f := newForeman(t, s)
	s.write("main.hcl", asking(f, "mig", "completions = 20\n  parallelism = 4"))
	r := s.start("apply", "--auto-approve")
	pods := map[string]bool{}
	take := func() *task {
		k := f.next("mig")
		pods[k.pod] = true
		return k
	}
	var at []*task
	for range 4 {
		at = append(at, take())
	}
	running := 0
	for _, c := range s.containers() {
		if c.Running && strings.HasPrefix(c.Pod, "mig-") {
			running++
		}
	}
	if running != 4 {
		t.Errorf("%d pods run, want the four that ask", running)
	}
	at[0].end(3, "the disk is on fire")
	at = at[1:]
	for range 19 {
		at[0].end(0, "done")
		if at = at[1:]; len(pods) < 21 {
			at = append(at, take())
		}
	}
	if len(at) != 1 {
		t.Fatalf("%d pods are left to end, want the last", len(at))
	}
	r.until(t, "19 of 20 completed, 1 failed", 1)
	failed := time.Now()
	at[0].end(3, "the disk is on fire again")
	r.until(t, "19 of 20 completed, 2 failed, the next pod waits until 10s after a failure", 1)
	last := take()
	if waited := last.at.Sub(failed); waited < 10*time.Second {
		t.Errorf("the next pod came %s after the failure", waited)
	}
	last.end(0, "done")
	if o := r.wait(t); o.code != 0 {
		t.Fatalf("%s", o)
	}
	if f.most["mig"] > 4 {
		t.Errorf("%d pods worked at once, 4 are allowed", f.most["mig"])
	}
	if st := s.runs()["mig"]; st.Succeeded != 20 || st.Failed != 2 {
		t.Errorf("the state counts %+v, 2 failed", st)
	}
	if left := s.pods("job-name=mig"); len(pods) != 22 || len(left) != 22 {
		t.Errorf("%d pods ran and %d stay, want 22", len(pods), len(left))
	}
	s.says(s.ok("get", "jobs"), "NAME STATUS COMPLETIONS DURATION AGE", "mig Complete 20/20")
	s.settled()
	s.apply()
	f.idle("mig")
}

// A job that nobody waits for is resized, suspended and let go on while it runs; what has succeeded counts on. With another template it is
// made anew, and with the job go its pods.
func TestJobsChangeWhileTheyRun(t *testing.T) {
	s := begin(t, "")
	f := newForeman(t, s)
	jobs := `
variable "width" { default = 1 }
variable "suspend" { default = true }
` + asking(f, "grow", "completions = 6\n  parallelism = var.width") + asking(f, "held", "suspend = var.suspend") +
		asking(f, "later", "lifecycle {\n    wait = false\n  }")
	s.write("main.hcl", jobs)
	s.apply("--no-wait")
	first, later := f.next("grow"), f.next("later")
	s.says(s.ok("get", "jobs"), "grow Running 0/6", "held Suspended 0/1", "later Running 0/1")
	f.idle("grow")
	f.idle("held")
	s.settled("--no-wait")

	first.end(0, "done")
	s.says(s.apply("--no-wait", "--var", "width=3"), "parallelism", "1 -> 3")
	wide := []*task{f.next("grow"), f.next("grow"), f.next("grow")}
	s.says(s.apply("--no-wait", "--var", "suspend=false"), "3 -> 1", "true -> false")
	kept := oneKept(wide)
	held := f.next("held")
	s.apply("--no-wait")
	held.stopped()
	s.says(s.ok("get", "jobs"), "grow Running 1/6", "held Suspended 0/1")
	s.says(s.ok("describe", "job", "held"), "Suspended True JobSuspended", "0 Active / 0 Succeeded / 0 Failed")

	// Now it is waited for, but for the one that says otherwise.
	kept.end(0, "done")
	f.all("grow")
	f.all("held")
	s.apply("--var", "suspend=false", "--var", "width=2")
	runs := s.runs()
	if runs["grow"].Succeeded != 6 || runs["grow"].Failed != 0 || runs["held"].Succeeded != 1 || runs["later"].Succeeded != 0 {
		t.Errorf("the state counts %+v", runs)
	}
	later.end(0, "done")
	ended := []string{"--var", "suspend=false", "--var", "width=2"}
	poll(t, deadline, "an apply finds that later has ended", func() bool {
		s.apply(ended...)
		return s.runs()["later"].Succeeded == 1
	})
	s.settled(ended...)

	before := s.pods("job-name=held")
	s.says(s.ok(append([]string{"plan", "--var", "release=2"}, ended...)...), "-/+", "job.held")
	s.apply(append(ended, "--no-wait", "--var", "release=2")...)
	if again := f.next("later"); again.version != "2" {
		t.Errorf("later runs again in version %q", again.version)
	}
	if now := s.pods("job-name=held"); len(now) == 0 || now[0].UID == before[0].UID {
		t.Errorf("job held was not made anew: pods %v, then %v", names(before), names(now))
	}
	s.write("main.hcl", "variable \"width\" { default = 1 }\nvariable \"suspend\" { default = true }\n")
	s.apply(ended...)
	s.exactly(nil)
	if runs := s.runs(); len(runs) != 0 {
		t.Errorf("the state still knows %v", runs)
	}
}

// oneKept waits until all of these pods but one have been stopped, and returns that one.
func oneKept(tasks []*task) *task {
	t := tasks[0].t
	t.Helper()
	var left *task
	poll(t, deadline, "all pods but one are stopped", func() bool {
		n := 0
		for _, k := range tasks {
			select {
			case <-k.gone:
			default:
				n, left = n+1, k
			}
		}
		return n == 1
	})
	return left
}

// A job ends early when its policy or its deadline says so, and a failure that the policy ignores does not count; the apply that waited
// says why. Those that failed are made anew; the pods of one that has completed go when their time is over.
func TestJobsEndEarly(t *testing.T) {
	s := begin(t, "")
	f := newForeman(t, s)
	policy := `backoff_limit = 0

  pod_failure_policy {
    rule {
      action = "Ignore"
      on_exit_codes {
        operator = "In"
        values   = [3]
      }
    }

    rule {
      action = "FailJob"
      on_exit_codes {
        operator = "In"
        values   = [42]
      }
    }
  }`
	s.write("main.hcl", "variable \"limit\" { default = 12 }\n"+asking(f, "policy", policy)+asking(f, "deadline", "active_deadline_seconds = var.limit")+
		asking(f, "ttl", "ttl_seconds_after_finished = 1")+
		strings.Replace(asking(f, "restarts", "backoff_limit = 1"), `"Never"`, `"OnFailure"`, 1)+
		asking(f, "each", "completions = 3\n  parallelism = 3\n  completion_mode = \"Indexed\"\n  backoff_limit_per_index = 0"))
	r := s.start("apply", "--auto-approve")
	f.next("ttl").end(0, "done")
	late := f.next("deadline")
	f.next("policy").end(3, "never mind")
	f.next("policy").end(42, "this will never work")
	f.next("restarts").end(5, "once")
	for range 3 {
		k := f.next("each")
		k.end(map[string]int{"1": 7}[k.index], "index "+k.index)
	}
	late.stopped()
	o := r.wait(t)
	if o.code != 1 {
		t.Fatalf("%s", o)
	}
	s.says(o.stderr,
		"Container task for pod default/policy-", "failed with exit code 42 matching FailJob rule at index 1 (PodFailurePolicy)", "this will never work",
		"job.deadline", "Job was active longer than specified deadline (DeadlineExceeded)",
		"job.restarts", "Job has reached the specified backoff limit (BackoffLimitExceeded)",
		"job.each", "Job has failed indexes (FailedIndexes)")
	runs := s.runs()
	if p, e := runs["policy"], runs["each"]; p.Failed != 1 || p.Succeeded != 0 || e.Failed != 1 || e.CompletedIndexes != "0,2" {
		t.Errorf("the state counts %+v of policy and %+v of each", p, e)
	}
	s.says(s.ok("get", "jobs"), "ttl Complete 1/1", "deadline Failed 0/1", "policy Failed 0/1", "restarts Failed 0/1", "each Failed 2/3")
	ttl := s.pods("job-name=ttl")
	if len(ttl) != 1 {
		t.Errorf("pods of ttl: %v", names(ttl))
	}

	for _, job := range []string{"policy", "deadline", "restarts", "each"} {
		f.all(job)
	}
	poll(t, deadline, "the pods of ttl are gone", func() bool {
		s.apply("--var", "limit=60")
		return len(s.pods("job-name=ttl")) == 0
	})
	f.idle("ttl")
	s.says(s.ok("get", "jobs"), "ttl Complete 1/1", "deadline Complete 1/1", "policy Complete 1/1", "restarts Complete 1/1", "each Complete 3/3")
	s.settled("--var", "limit=60")
}
