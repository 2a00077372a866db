package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// job is a configuration with one job, whose pods note in a directory of their node what they did.
func job(name, spec, args string) string {
	return fmt.Sprintf(`
workload "job" %q {
  restart_policy = "Never"
  %s

  container "task" {
    image = image.app.ref
    args  = [%s]

    volume_mount "notes" {
      mount_path = "/notes"
    }
  }

  volume "notes" {
    host_path {
      path = "/run/e2e-notes"
      type = "DirectoryOrCreate"
    }
  }
}
`, name, spec, args)
}

// notes lists what the pods of jobs have noted on all hosts, and forgets it at the end.
func (s *story) notes() []string {
	s.t.Helper()
	var all []string
	for _, n := range s.lab.Nodes() {
		all = append(all, strings.Fields(sh(s.t, s.t.Context(), n, "ls /run/e2e-notes 2>/dev/null || true"))...)
	}
	return all
}

func (s *story) forgetNotes() {
	s.t.Helper()
	for _, n := range s.lab.Nodes() {
		afterwards(s.t, n, "rm -rf /run/e2e-notes")
	}
}

func count(list []string, prefix string) int {
	n := 0
	for _, s := range list {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

// states is the part of the state that jobs have.
func (s *story) runs() map[string]jobStatus {
	s.t.Helper()
	var state struct {
		Jobs []struct {
			Name   string    `json:"name"`
			Status jobStatus `json:"status"`
		} `json:"jobs"`
	}
	out := s.ok("state", "pull")
	if err := json.Unmarshal([]byte(out), &state); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	runs := map[string]jobStatus{}
	for _, j := range state.Jobs {
		runs[j.Name] = j.Status
	}
	return runs
}

type jobStatus struct {
	Succeeded        int    `json:"succeeded"`
	Failed           int    `json:"failed"`
	CompletedIndexes string `json:"completedIndexes"`
}

// Each index runs once, and knows its number by variable, annotation and host name.
func TestIndexedJob(t *testing.T) {
	s := begin(t, job("mig", `completions = 5
  parallelism     = 3
  completion_mode = "Indexed"`, `"attempt", "/notes", "0", "10ms"`))
	s.forgetNotes()
	s.apply()
	notes := s.notes()
	for i := range 5 {
		if n := count(notes, fmt.Sprintf("done-%d-mig-%d-", i, i)); n != 1 {
			t.Errorf("index %d ran %d times: %q", i, n, notes)
		}
	}
	for _, p := range s.pods("job-name=mig") {
		index := p.Labels["batch.kubernetes.io/job-completion-index"]
		if index == "" || !strings.HasPrefix(p.Name, "mig-"+index+"-") {
			t.Errorf("pod %s has index %q", p.Name, index)
		}
	}
	if st := s.runs()["mig"]; st.CompletedIndexes != "0-4" {
		t.Errorf("status %+v", st)
	}
	s.settled()
}

const afterJob = `
workload "deployment" "web" {
  labels     = { app = "web" }
  depends_on = [workload.job.mig]

  container "app" {
    image = image.app.ref
  }
}
`

// What depends on a job comes after its end. A job that fails fails the apply with its last log lines, and keeps back what
// depends on it; the next apply runs it anew.
func TestWhatDependsOnAJobWaitsForItsEnd(t *testing.T) {
	s := begin(t, job("mig", "backoff_limit = 0", `"attempt", "/notes", "1", "1s"`)+afterJob)
	s.forgetNotes()
	o := s.fails([]string{"Job failed", "Job has reached the specified backoff limit (BackoffLimitExceeded)", "ended with exit code 3", "the disk is on fire"}, "apply", "--auto-approve")
	if pods := s.pods("app=web"); len(pods) != 0 {
		t.Errorf("web runs, though the job failed: %s\n%s", names(pods), o)
	}
	out := s.ok("plan")
	s.says(out, "its last run failed: BackoffLimitExceeded")
	// The second attempt may go to another host: let the first there succeed.
	for _, n := range s.lab.Nodes() {
		sh(t, t.Context(), n, "mkdir -p /run/e2e-notes && touch /run/e2e-notes/try-0")
	}
	r := s.start("apply", "--auto-approve")
	poll(t, time.Minute, "web runs or apply ends", func() bool {
		for _, c := range s.containers() {
			if strings.HasPrefix(c.Pod, "web-") && count(s.notes(), "done-") == 0 {
				t.Fatal("web was made before the job had completed")
			}
		}
		select {
		case err := <-r.ended:
			r.ended <- err
			return true
		default:
			return false
		}
	})
	if o := r.wait(t); o.code != 0 {
		t.Fatalf("%s", o)
	}
	if pods := s.pods("app=web"); len(pods) != 1 {
		t.Errorf("web has %d pods", len(pods))
	}
	s.settled()
}

// An apply that is killed while a job runs loses nothing: the next one carries the job on, and nothing that has succeeded runs again. The first
// interrupt leaves the pods of a job running, too, and the next apply waits for them.
func TestJobGoesOnAfterAKill(t *testing.T) {
	s := begin(t, "")
	f := newForeman(t, s)
	s.write("main.hcl", asking(f, "mig", "completions = 6\n  parallelism = 2"))
	r := s.start("apply", "--auto-approve")
	first, second := f.next("mig"), f.next("mig")
	first.end(0, "done")
	third := f.next("mig") // comes when the first has ended
	if err := r.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	r.wait(t)
	r = s.start("apply", "--auto-approve")
	second.end(0, "done")
	fourth := f.next("mig")
	interrupt(t, r)
	if o := r.wait(t); o.code == 0 {
		t.Fatalf("%s", o)
	}
	f.idle("mig")
	r = s.start("apply", "--auto-approve")
	third.end(0, "done")
	fourth.end(0, "done")
	f.next("mig").end(0, "done")
	f.next("mig").end(0, "done")
	if o := r.wait(t); o.code != 0 {
		t.Fatalf("%s", o)
	}
	f.idle("mig")
	if st := s.runs()["mig"]; st.Succeeded != 6 || st.Failed != 0 {
		t.Errorf("status %+v", st)
	}
	s.settled()
}

// A plan that a namespace does not allow is refused at its place in the file, before anything is made.
func TestQuotaRefusesAPlan(t *testing.T) {
	s := begin(t, `
resource_quota "team" {
  hard = { pods = 2, "requests.cpu" = "1" }
}

limit_range "usual" {
  limit {
    type            = "Container"
    default_request = { cpu = "100m" }
    max             = { memory = "64Mi" }
  }
}

workload "deployment" "web" {
  labels   = { app = "web" }
  replicas = 3

  container "app" {
    image = image.app.ref

    resources {
      limits = { memory = "32Mi" }
    }
  }
}
`)
	s.fails([]string{"main.hcl line 16", "is forbidden: exceeded quota: team, requested: pods=1, used: pods=2, limited: pods=2", "main.hcl:2,1"}, "apply", "--auto-approve")
	if n := len(s.containers()); n != 0 {
		t.Errorf("%d containers run", n)
	}
}
