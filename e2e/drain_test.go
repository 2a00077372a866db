package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// drained is a workload that must never have less than three pods, beside what kubectl drain does not touch unless told so.
const drained = web + agents + `
disruption_budget "web" {
  min_available = 3

  selector {
    match_labels = { app = "web" }
  }
}

workload "pod" "once" {
  labels    = { app = "once" }
  node_name = "n1"

  container "app" {
    image = image.app.ref

    volume_mount "scratch" {
      mount_path = "/scratch"
    }
  }

  volume "scratch" {
    empty_dir {}
  }
}
`

// A node is drained while clients ask without a break: each pod has its successor elsewhere before it goes, and the budget is kept.
// The cordon stays, whatever is applied, until it is taken back. A drain that ran out of time goes on where it was.
func TestDrainDropsNoRequest(t *testing.T) {
	s := begin(t, drained)
	g := newGate(t, s)
	g.let(3)
	slow := []string{"--var", strings.Replace(g.env, "{", `{DRAIN="1s",`, 1)}
	s.apply(slow...)
	before := names(s.pods(""))
	s.fails([]string{
		"cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): default/agent-",
		"cannot delete Pods with local storage (use --delete-emptydir-data to override): default/once",
		"cannot delete Pods that declare no controller (use --force to override): default/once",
	}, "drain", "n1", "--auto-approve")
	flags := []string{"--ignore-daemonsets", "--force", "--delete-emptydir-data"}
	s.says(s.ok(append([]string{"drain", "n1", "--dry-run"}, flags...)...), "node/n1 cordoned (dry run)", "pod/once evicted (dry run)", "node/n1 drained (dry run)")
	if now := names(s.pods("")); !slices.Equal(now, before) {
		t.Fatalf("neither a refusal nor a dry run touches anything: %v, %v before", now, before)
	}
	if out := s.ok("get", "nodes"); strings.Contains(out, "SchedulingDisabled") {
		t.Fatalf("nothing is cordoned yet:\n%s", out)
	}

	load := clients(t, s.lab, webPort, "http://"+s.ok("output", "--raw", "ip")+"/")
	s.fails([]string{"global timeout reached: 4s"}, append([]string{"drain", "n1", "--timeout", "4s", "--auto-approve"}, flags...)...) // no new pod is ready yet
	s.says(s.ok("get", "nodes"), "SchedulingDisabled")
	g.lift()
	out := s.run(append([]string{"drain", "n1", "--auto-approve"}, flags...)...)
	s.says(out.String(), "exit code 0", "node/n1 already cordoned", "evicted", "node/n1 drained", "ignoring DaemonSet-managed Pods:", "default/agent-")
	noneFailed(t, load, "1")

	web := s.pods("app=web")
	if on := nodesOf(web); len(web) != 3 || slices.Contains(on, "n1") {
		t.Fatalf("pods on %v, want three and none on n1", on)
	}
	var left []string
	for _, c := range containersOn(t, s.lab, "n1") {
		left = append(left, c.Pod)
	}
	if len(left) != 1 || !strings.HasPrefix(left[0], "agent-") {
		t.Errorf("on n1 there run %v, want the daemon set's pod alone", left)
	}
	s.exactly(names(s.pods("")))

	s.apply(append(slow, "--var", "replicas=5")...)
	if on := nodesOf(s.pods("app=web")); slices.Contains(on, "n1") {
		t.Errorf("a new pod came to the cordoned node: %v", on)
	}
	plan := s.run(append([]string{"plan", "--detailed-exitcode", "--var", "replicas=5"}, slow...)...)
	if plan.code != 0 {
		t.Fatalf("the cordon is not what the plan wants: %s", plan)
	}
	s.says(plan.stdout, "node.n1: unschedulable = true, set by ", "(berth drain)")

	s.says(s.ok("cordon", "n1"), "node/n1 already cordoned")
	s.says(s.ok("uncordon", "n1", "--auto-approve"), "node/n1 uncordoned")
	s.apply(append(slow, "--var", "replicas=6")...)
	if on := nodesOf(s.pods("app=web")); !slices.Contains(on, "n1") {
		t.Errorf("no pod came to the node after its cordon was taken back: %v", on)
	}
	lines := s.ok("drain", "n2", "--ignore-daemonsets", "--json", "--auto-approve")
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if on := nodesOf(s.pods("app=web")); slices.Contains(on, "n2") {
		t.Errorf("pods are left on n2: %v", on)
	}
}
