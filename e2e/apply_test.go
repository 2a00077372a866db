package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The whole way once: a plan changes nothing, an apply makes what it showed, everybody reaches everybody, and
// planning again finds nothing to do.
func TestApply(t *testing.T) {
	s := begin(t, web)
	before := snapshot(t, t.Context(), s.lab.Nodes()[0])
	plan := s.run("plan", "--detailed-exitcode")
	if plan.code != 2 {
		t.Fatalf("a plan with changes: %s", plan)
	}
	s.says(plan.stdout, "# deployment.web will be created", "Plan: ")
	if d := difference(before, snapshot(t, t.Context(), s.lab.Nodes()[0])); d != "" {
		t.Errorf("the plan changed the host:\n%s", d)
	}
	s.says(s.apply(), "Apply complete!", "Outputs:")

	pods := s.pods("app=web")
	if got := nodesOf(pods); !slices.Equal(got, []string{"n1", "n2", "n3"}) {
		t.Fatalf("three pods run on %v", got)
	}
	for _, p := range pods {
		if !strings.Contains(plan.stdout, p.Name) {
			t.Errorf("the plan did not say that there would be a pod %s:\n%s", p.Name, plan.stdout)
		}
	}
	s.exactly(names(pods))
	everybodyReachesEverybody(t, s)
	samePlans(t, s)
	nothingHappensTwice(t, s)
}

func everybodyReachesEverybody(t *testing.T, s *story) {
	t.Helper()
	s.answers(webPort, "1")
	ip := s.ok("output", "--raw", "ip")
	for _, n := range s.lab.Nodes() {
		run := tool(t, n)
		if body, err := run("get", "http://"+ip+"/"); err != nil || !strings.HasPrefix(body, "1 web-") {
			t.Errorf("from host %s through the cluster IP: %q, %v", n.Name, body, err)
		}
		if body, err := run("get", fmt.Sprintf("http://%s:%d/", n.Address, webPort)); err != nil || !strings.HasPrefix(body, "1 web-") {
			t.Errorf("from host %s through its own node port: %q, %v", n.Name, body, err)
		}
	}
	pods := s.pods("app=web")
	for _, from := range pods {
		for range 4 { // one of them comes back to the pod itself, most likely
			if body := s.exec(from.Name, "/app", "get", "http://"+ip+"/"); !strings.HasPrefix(body, "1 web-") {
				t.Errorf("from pod %s through the cluster IP: %q", from.Name, body)
			}
		}
		for _, to := range pods {
			got := strings.TrimSpace(s.exec(from.Name, "/app", "get", fmt.Sprintf("http://%s:8080/from", to.Status.PodIP)))
			if got != from.Status.PodIP {
				t.Errorf("from pod %s on %s to %s on %s: seen as %q, want %s: no NAT between pods", from.Name, from.Spec.NodeName, to.Name, to.Spec.NodeName, got, from.Status.PodIP)
			}
		}
	}
}

// samePlans checks that planning twice gives the same bytes: on the screen, as JSON, in a file.
func samePlans(t *testing.T, s *story) {
	t.Helper()
	for _, args := range [][]string{{"plan", "--detailed-exitcode"}, {"plan", "--json"}, {"plan", "--var", "replicas=5"}, {"plan", "--destroy", "--json"}} {
		if d := cmp.Diff(s.ok(args...), s.ok(args...)); d != "" {
			t.Errorf("berth %v twice:\n%s", args, d)
		}
	}
	s.says(s.ok("plan"), "No changes.")
	var files [][]byte
	for _, name := range []string{"a.plan", "b.plan"} {
		s.ok("plan", "--var", "replicas=5", "--out", name)
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, b)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two saved plans of the same differ")
	}
}

// nothingHappensTwice applies again: no container and no byte of the state may change.
func nothingHappensTwice(t *testing.T, s *story) {
	t.Helper()
	read := func() string {
		b, err := os.ReadFile(filepath.Join(s.dir, "berth.state"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	containers, state := s.containers(), read()
	s.says(s.apply(), "No changes.")
	if d := cmp.Diff(containers, s.containers()); d != "" {
		t.Errorf("containers after an apply with nothing to do:\n%s", d)
	}
	if d := cmp.Diff(state, read()); d != "" {
		t.Errorf("the state after an apply with nothing to do:\n%s", d)
	}
}

// A saved plan does just what it showed, and nothing when the world went on without it.
func TestSavedPlan(t *testing.T) {
	s := begin(t, web)
	s.ok("plan", "--out", "first.plan", "--var", "replicas=2")
	s.ok("plan", "--out", "late.plan")
	s.says(s.ok("apply", "first.plan"), "Apply complete!")
	s.exactly(names(s.pods("app=web")))
	if n := len(s.pods("app=web")); n != 2 {
		t.Errorf("%d pods, want the 2 of the saved plan", n)
	}
	s.fails([]string{"stale"}, "apply", "late.plan")
	s.fails([]string{"stale"}, "apply", "first.plan")
	if n := len(s.pods("app=web")); n != 2 {
		t.Errorf("a stale plan changed something: %d pods", n)
	}
}
