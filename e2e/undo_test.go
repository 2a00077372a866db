package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A rollout that is interrupted and paused is a canary: both templates stay, through an apply too, until it is resumed. Then
// it goes back to a revision by its number, and to the one before, with the image that each had.
func TestPauseResumeUndo(t *testing.T) {
	s := begin(t, web)
	s.apply()
	s.write("main.hcl", strings.Replace(web, "  labels                    = { app = \"web\" }\n", "  labels                    = { app = \"web\" }\n  annotations               = { \"kubernetes.io/change-cause\" = \"second\" }\n", 1))
	g := newGate(t, s)
	g.let(1)
	second := []string{"--var", "release=2", "--var", g.env}
	r := s.start(append([]string{"apply", "--auto-approve"}, second...)...)
	r.until(t, "Stopping...", 1)
	if err := r.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if o := r.wait(t); o.code != 130 {
		t.Fatalf("an interrupted apply: %s", o)
	}
	g.lift()
	mixed := s.versions()
	if mixed["1"] == 0 || mixed["2"] == 0 {
		t.Fatalf("interrupted in the middle, the pods are of the releases %v", mixed)
	}
	s.says(s.ok("rollout", "pause", "deployment/web", "--auto-approve"), "deployment.apps/web paused")
	s.says(s.apply(second...), "paused = true, set by")
	s.hasVersions(mixed)
	s.says(s.ok("describe", "deployment", "web"), "Progressing Unknown DeploymentPaused")
	s.settled(second...)
	s.says(s.ok("rollout", "resume", "deployment/web", "--auto-approve"), "deployment.apps/web resumed")
	s.hasVersions(map[string]int{"2": 3})
	s.says(s.ok("describe", "deployment", "web"), "Available True MinimumReplicasAvailable", "Progressing True NewReplicaSetAvailable")
	s.settled(second...)

	s.apply("--var", "release=3")
	s.says(s.ok("rollout", "history", "deployment/web"), "1 <none>", "2 second", "3 second")
	s.says(s.ok("rollout", "undo", "deployment/web", "--to-revision", "1", "--auto-approve"), "deployment.apps/web rolled back")
	s.hasVersions(map[string]int{"1": 3})
	s.answers(webPort, "1")
	o := s.run("plan", "--detailed-exitcode", "--var", "release=3")
	if o.code != 0 {
		t.Errorf("the plan after going back: %s", o)
	}
	s.says(o.stdout, "template, set by", "berth rollout undo --to-revision 1")
	s.ok("rollout", "undo", "deployment/web", "--auto-approve")
	s.hasVersions(map[string]int{"3": 3})
	s.settled("--var", "release=3")

	before := names(s.pods("app=web"))
	s.says(s.ok("rollout", "restart", "deployment/web", "--auto-approve"), "deployment.apps/web restarted")
	for _, p := range names(s.pods("app=web")) {
		if slices.Contains(before, p) {
			t.Errorf("pod %s was not restarted", p)
		}
	}
	s.exactly(names(s.pods("app=web")))
	s.says(s.ok("rollout", "status", "deployment/web"), `deployment "web" successfully rolled out`)
	s.settled("--var", "release=3")
}
