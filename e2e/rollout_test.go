package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A new image replaces every pod while clients ask without a break, and none of them gets an error.
func TestRollingUpdateDropsNoRequest(t *testing.T) {
	s := begin(t, web)
	env := []string{"--var", `env={DRAIN="1s",SLOW="500ms"}`}
	s.apply(env...)
	old := names(s.pods("app=web"))
	load := clients(t, s.lab, webPort, "http://"+s.ok("output", "--raw", "ip")+"/")
	out := s.apply(append(env, "--var", "release=2")...)
	noneFailed(t, load, "1", "2")
	s.says(out, "Apply complete!")

	pods := names(s.pods("app=web"))
	s.exactly(pods)
	for _, p := range pods {
		if slices.Contains(old, p) {
			t.Errorf("pod %s was not replaced", p)
		}
	}
	s.answers(webPort, "2")
	s.settled(append(env, "--var", "release=2")...)
}

// A release that never becomes ready fails the apply in time and says why; the old pods go on serving, and the next
// apply cleans up.
func TestReleaseThatIsNotReady(t *testing.T) {
	s := begin(t, web)
	s.apply()
	s.write("main.hcl", strings.ReplaceAll(web, "progress_deadline_seconds = 300", "progress_deadline_seconds = 6"))
	s.apply() // the pods that there are had more time: a machine may be slow
	old := names(s.pods("app=web"))
	load := clients(t, s.lab, webPort, "http://"+s.ok("output", "--raw", "ip")+"/")
	o := s.fails([]string{"deployment.web", "503"}, "apply", "--auto-approve", "--var", "release=2", "--var", `env={SLOW="1h"}`)
	if o.took > 2*time.Minute { // the pod would be ready after an hour
		t.Errorf("took %s to see that the progress deadline of 6s is over", o.took)
	}
	noneFailed(t, load, "1")
	poll(t, deadline, "the progress deadline is over", func() bool {
		return strings.Contains(s.ok("describe", "deployment", "web"), "ProgressDeadlineExceeded")
	})
	s.says(s.ok("describe", "deployment", "web"), "Available True MinimumReplicasAvailable", "Progressing False ProgressDeadlineExceeded")
	for _, p := range old {
		if !slices.Contains(names(s.pods("app=web")), p) {
			t.Errorf("the old pod %s is gone although no new one was ready", p)
		}
	}
	s.answers(webPort, "1")

	s.write("main.hcl", web)
	s.apply("--var", "release=3")
	s.answers(webPort, "3")
	s.exactly(names(s.pods("app=web")))
	s.settled("--var", "release=3")
}

// A container that crashes fails the apply with its exit code and last words instead of hanging.
func TestReleaseThatCrashes(t *testing.T) {
	patient := strings.ReplaceAll(web, "progress_deadline_seconds = 300", "progress_deadline_seconds = 600")
	s := begin(t, patient)
	s.apply()
	s.write("main.hcl", strings.ReplaceAll(patient, `    env   = var.env`, `    env   = var.env
    args  = ["crash", "3", "the", "disk", "is", "upside", "down"]`))
	o := s.fails([]string{"the disk is upside down", "3", "deployment.web"}, "apply", "--auto-approve")
	if o.took > 3*time.Minute {
		t.Errorf("took %s to see a crash", o.took)
	}
	s.answers(webPort, "1")
	s.write("main.hcl", web)
	s.apply()
	s.exactly(names(s.pods("app=web")))
	s.settled()
}

// An image that does not exist fails where the nodes would pull it, by name; nothing else is harmed.
func TestImageThatIsNotThere(t *testing.T) {
	s := begin(t, web)
	s.apply()
	r := newRegistry(t, s, "", "")
	s.write("more.hcl", `
workload "deployment" "ghost" {
  labels = { app = "ghost" }

  container "app" {
    image = "`+r.host+`/nobody/ghost:1"
  }
}
`)
	s.fails([]string{"Image not found", "more.hcl line 6", "nobody/ghost:1"}, "apply", "--auto-approve")
	s.answers(webPort, "1")
	s.exactly(names(s.pods("app=web")))
}
