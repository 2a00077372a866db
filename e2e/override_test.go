package e2e

import (
	"strings"
	"testing"
)

// A number that a command has set stays through applies and is shown by every plan, until somebody edits the number in the
// configuration. An edit of something else that was not applied yet is none of the command's business.
func TestScaleIsAnOverride(t *testing.T) {
	s := begin(t, web)
	s.apply("--var", "replicas=2")
	before := names(s.pods("app=web"))
	s.write("main.hcl", strings.ReplaceAll(web, "progress_deadline_seconds = 300", "progress_deadline_seconds = 300\n  pod_labels = { edited = \"yes\" }"))

	out := s.ok("scale", "deployment/web", "--replicas", "4", "--current-replicas", "2", "--auto-approve")
	s.says(out, "replicas", "2 -> 4", "deployment.apps/web scaled", "(berth scale); the configuration says 2")
	now := names(s.pods("app=web"))
	s.exactly(now)
	if len(now) != 4 || !contains(now, before) {
		t.Fatalf("scaled from %v to %v: four pods are wanted, the first two among them", before, now)
	}
	if left := s.pods("app=web,edited=yes"); len(left) != 0 {
		t.Errorf("an edit that was not applied came along: %v", names(left))
	}
	s.write("main.hcl", web)

	plan := s.run("plan", "--detailed-exitcode", "--var", "replicas=2")
	if plan.code != 0 {
		t.Fatalf("the override is not what the plan wants: %s", plan)
	}
	s.says(plan.stdout, "No changes.", "deployment.web: replicas = 4, set by ", "(berth scale); the configuration says 2")
	s.says(s.ok("state", "show", "deployment.web"), "deployment.web: replicas = 4, set by ")
	s.says(s.ok("show"), "deployment.web: replicas = 4, set by ")
	s.says(s.ok("show", "--json"), `"path": "spec.replicas"`)

	s.apply("--var", "replicas=2", "--var", "release=2")
	if n := len(s.pods("app=web")); n != 4 {
		t.Errorf("%d pods after a release, want the four of the override", n)
	}
	s.says(s.apply("--var", "replicas=3", "--var", "release=2"), "ends: edited in the configuration", "4 -> 3")
	s.exactly(names(s.pods("app=web")))
	if out := s.ok("plan", "--var", "replicas=3", "--var", "release=2"); strings.Contains(out, "Overrides") {
		t.Errorf("the override has not ended:\n%s", out)
	}

	s.ok("scale", "deployment/web", "--replicas", "1", "--auto-approve")
	s.says(s.ok("scale", "deployment/web", "--replicas", "3", "--auto-approve"), "ends: taken back")
	s.settled("--var", "replicas=3", "--var", "release=2")
}

func contains(all, some []string) bool {
	for _, s := range some {
		if !strings.Contains(" "+strings.Join(all, " ")+" ", " "+s+" ") {
			return false
		}
	}
	return true
}
