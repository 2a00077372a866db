package e2e

import (
	"slices"
	"testing"
)

// A node selector moves a workload to other nodes, and there is no moment without it.
func TestMoveBySelector(t *testing.T) {
	s := begin(t, web)
	zone := func(z string) []string {
		return []string{"--var", "replicas=2", "--var", `env={DRAIN="1s"}`, "--var", `zone={"topology.kubernetes.io/zone"="` + z + `"}`}
	}
	s.apply(zone("a")...) // the lab gives its hosts the zones a, b, c
	if got := nodesOf(s.pods("app=web")); !slices.Equal(got, []string{"n1", "n1"}) {
		t.Fatalf("pods for zone a run on %v", got)
	}
	load := clients(t, s.lab, webPort, "http://"+s.ok("output", "--raw", "ip")+"/")
	s.apply(zone("b")...)
	noneFailed(t, load)
	if got := nodesOf(s.pods("app=web")); !slices.Equal(got, []string{"n2", "n2"}) {
		t.Errorf("pods for zone b run on %v", got)
	}
	s.exactly(names(s.pods("app=web")))
	s.settled(zone("b")...)

	s.fails([]string{"0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector"},
		append([]string{"plan"}, zone("nowhere")...)...)
}
