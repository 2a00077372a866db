package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
)

const ticking = `
workload "cronjob" "tick" {
  schedule       = "@every 2s"
  restart_policy = "Never"

  container "app" {
    image = image.app.ref
    args  = ["echo"]
  }
}
`

// Cronjobs run by their schedules while a watchdog runs; after a time without one a single run is caught up on, and remembered.
func TestWatchRunsCronjobs(t *testing.T) {
	s := begin(t, ticking)
	s.apply()
	applied := time.Now()
	if n := len(s.runs()); n != 0 {
		t.Fatalf("there are %d runs before a watchdog", n)
	}
	for time.Since(applied) < 5*time.Second { // two times come, and nobody is there
		time.Sleep(100 * time.Millisecond)
	}
	w := s.watch()
	w.until(t, "its time has come", 1)
	poll(t, time.Minute, "a run is complete", func() bool { return strings.Contains(s.ok("get", "jobs"), "Complete") })
	last := s.lastScheduled()
	if last.Before(applied.Add(-2*time.Second)) || last.After(time.Now()) {
		t.Errorf("the last run is recorded as of %s", last)
	}
	// Runs are named by the minute: another one may have begun since, and no more.
	if n := strings.Count(w.stderr.String(), "its time has come"); n > 1+int(time.Since(applied)/time.Minute)+1 {
		t.Errorf("%d runs were begun:\n%s", n, w.stderr)
	}
	// Another watchdog knows of it, also when this one had no time to say anything.
	if err := w.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-w.ended
	w.ended <- nil
	began := time.Now()
	again := s.watch().ready()
	again.stop()
	if n := strings.Count(again.stderr.String(), "its time has come"); n > 1+int(time.Since(began)/time.Minute) {
		t.Errorf("another watchdog has begun %d runs:\n%s", n, again.stderr)
	}
	if now := s.lastScheduled(); now.Before(last) {
		t.Errorf("the last run is recorded as of %s, and was as of %s", now, last)
	}
}

// lastScheduled is when the last run of the cronjob was due.
func (s *story) lastScheduled() time.Time {
	s.t.Helper()
	var list struct {
		Items []batchv1.CronJob `json:"items"`
	}
	if err := json.Unmarshal([]byte(s.ok("get", "cronjobs", "-o", "json")), &list); err != nil || len(list.Items) != 1 || list.Items[0].Status.LastScheduleTime == nil {
		s.t.Fatalf("no last run: %v %+v", err, list.Items)
	}
	return list.Items[0].Status.LastScheduleTime.Time
}

// What the configuration says is planned whenever it changes, and waits for approval; what the hosts have lost is only reported where that is asked for.
func TestWatchApproval(t *testing.T) {
	s := begin(t, web)
	s.apply()
	w := s.watch("--config", ".", "--approve=manual", "--drift=report").ready()
	s.fails([]string{"There is no plan that waits"}, "approve", "--auto-approve")
	poll(t, time.Minute, "what was applied is known as brought", func() bool { return strings.Contains(s.read("berth.state"), `"source"`) })
	s.write("change.auto.bvars", "replicas = 4\n")
	w.until(t, "a plan waits for approval", 1)
	if got := len(s.pods("app=web")); got != 3 {
		t.Fatalf("%d pods before the approval", got)
	}
	s.says(s.run("approve").stdout, "scale 3 → 4", "1 to change", "Not approved")
	s.says(s.ok("approve", "--auto-approve", "--lock-timeout=60s"), "Approved.")
	poll(t, time.Minute, "the fourth pod", func() bool { return len(s.pods("app=web")) == 4 })
	poll(t, time.Minute, "nothing waits any more", func() bool { return s.run("approve", "--auto-approve").code == 1 })

}
