package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// A host that reboots has its routes and rules back without Berth; the next apply brings its pods back.
func TestReboot(t *testing.T) {
	s := begin(t, web)
	s.apply()
	n1 := s.lab.Node("n1")
	before := snapshot(t, t.Context(), n1)
	if err := n1.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := snapshot(t, t.Context(), n1)
	for _, section := range []string{"routes", "rules", "neighbours", "sysctls", "addresses"} {
		was, is := kept(before[section]), kept(after[section])
		for _, line := range was {
			if !slices.Contains(is, line) {
				t.Errorf("%s: missing after the reboot: %s", section, line)
			}
		}
	}
	var other string
	for _, p := range s.pods("app=web") {
		if p.Spec.NodeName == "n2" {
			other = p.Status.PodIP
		}
	}
	if body, err := tool(t, n1)("get", "http://"+other+":8080/"); err != nil || !strings.HasPrefix(body, "1 web-") {
		t.Errorf("from the rebooted host to a pod on n2: %q, %v", body, err)
	}

	plan := s.run("plan", "--detailed-exitcode")
	if plan.code != 2 {
		t.Errorf("the plan does not see that pods are gone: %s", plan)
	}
	s.apply()
	pods := s.pods("app=web")
	if got := nodesOf(pods); !slices.Equal(got, []string{"n1", "n2", "n3"}) {
		t.Errorf("pods run on %v", got)
	}
	s.exactly(names(pods))
	s.answers(webPort, "1")
	s.settled()
}

// kept are the lines that do not belong to a single pod's interface: those come back with the pod.
func kept(section string) []string {
	var out []string
	for _, l := range strings.Split(section, "\n") {
		if !strings.Contains(l, "veth") && !strings.Contains(l, "linkdown") && !strings.Contains(l, "dev berth0") && !strings.Contains(l, "berth0 ") {
			out = append(out, l)
		}
	}
	return out
}

// A host that is off or cut from the network takes no part: the plan says so, and nothing is done to its pods; when
// it is back the hosts converge.
func TestUnreachableHost(t *testing.T) {
	s := begin(t, web)
	s.apply()
	n3 := s.lab.Node("n3")
	if err := n3.Unplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	cleanup(t, func(ctx context.Context) error { return n3.Plug(ctx) })
	s.says(s.apply("--var", "replicas=5"), "node n3 was not reached, and nothing is planned on it")
	pods := s.pods("app=web")
	if len(pods) != 5 {
		t.Errorf("%d pods, want 5: %v", len(pods), nodesOf(pods))
	}
	if n := strings.Count(strings.Join(nodesOf(pods), " "), "n3"); n != 1 {
		t.Errorf("%d pods on the host that is away, want the one that was there: %v", n, nodesOf(pods))
	}
	if err := n3.Plug(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.apply("--var", "replicas=5")
	s.exactly(names(s.pods("app=web")))
	s.answers(webPort, "1")
	s.settled("--var", "replicas=5")
}

// A connection that breaks in the middle of an apply fails the steps of that host, by name and in time, and no others;
// the next apply finishes them.
func TestCableIsPulledWhileApplying(t *testing.T) {
	s := begin(t, web)
	n2 := s.lab.Node("n2")
	g := newGate(t, s)
	args := []string{"apply", "--auto-approve", "--var", g.env}
	r := s.start(args...)
	r.until(t, "Waiting until ready", 1)
	if err := n2.Unplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.lift() // the pod on n2 cannot ask
	cleanup(t, func(ctx context.Context) error { return n2.Plug(ctx) })
	o := r.wait(t)
	if o.code != 1 {
		t.Errorf("exit code %d\n%s", o.code, o)
	}
	s.says(o.stderr, "on node n2")
	if err := n2.Plug(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.ok(args...)
	s.exactly(names(s.pods("app=web")))
	s.answers(webPort, "1")
	s.settled(args[2:]...)
}
