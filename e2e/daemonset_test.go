package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const agents = `
variable "command" {
  type    = list(string)
  default = null
}

variable "selector" {
  type    = map(string)
  default = {}
}

variable "surge" {
  type    = number
  default = 0
}

workload "daemonset" "agent" {
  labels        = { app = "agent" }
  node_selector = var.selector

  update_strategy {
    rolling_update {
      max_surge       = var.surge
      max_unavailable = var.surge > 0 ? 0 : 1
    }
  }

  container "app" {
    image   = image.app.ref
    command = var.command

    port "http" {
      container_port = 8080
    }

    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10

      http_get {
        path = "/healthz"
        port = "http"
      }
    }
  }
}
`

// inventory gives the story an inventory of its own: these nodes of the lab, with more settings for some.
func (s *story) inventory(more map[string]string, nodes ...string) {
	s.t.Helper()
	text, err := os.ReadFile(s.lab.Inventory())
	if err != nil {
		s.t.Fatal(err)
	}
	var out strings.Builder
	for _, part := range strings.SplitAfter(string(text), "[[node]]")[1:] {
		part = strings.TrimSuffix(part, "[[node]]")
		for _, n := range nodes {
			if strings.Contains(part, "name = '"+n+"'") || strings.Contains(part, `name = "`+n+`"`) {
				out.WriteString("[[node]]\n" + more[n] + part)
			}
		}
	}
	if strings.Count(out.String(), "[[node]]") != len(nodes) {
		s.t.Fatalf("the lab's inventory is not as expected:\n%s", text)
	}
	s.write("nodes.toml", out.String())
	s.write("inventory.hcl", "inventory \"toml\" {\n  path = \"nodes.toml\"\n}\n")
}

func byNode(pods []corev1.Pod) map[string]string {
	out := map[string]string{}
	for _, p := range pods {
		out[p.Spec.NodeName] += string(p.UID)
	}
	return out
}

// A daemon set has a pod on each node: also on one that joins, on one whose labels come to match, and on none that a taint or
// another label closes to it. A cordon and a NoSchedule taint leave running ones where they are.
func TestDaemonSetFollowsNodes(t *testing.T) {
	s := begin(t, agents)
	s.inventory(nil, "n1", "n2")
	s.apply()
	first := byNode(s.pods("app=agent"))
	if got := nodesOf(s.pods("app=agent")); !slices.Equal(got, []string{"n1", "n2"}) {
		t.Fatalf("pods on %v", got)
	}

	s.inventory(map[string]string{"n1": "unschedulable = true\n", "n2": "taint = [{ key = \"k\", effect = \"NoSchedule\" }]\n"}, "n1", "n2", "n3")
	s.apply()
	second := byNode(s.pods("app=agent"))
	if len(second) != 3 || second["n1"] != first["n1"] || second["n2"] != first["n2"] || second["n3"] == "" {
		t.Errorf("after n3 joined: %v, before %v", second, first)
	}
	s.exactly(names(s.pods("app=agent")))
	s.settled()

	s.inventory(map[string]string{"n2": "taint = [{ key = \"k\", effect = \"NoExecute\" }]\n"}, "n1", "n2", "n3")
	s.apply()
	if got := nodesOf(s.pods("app=agent")); !slices.Equal(got, []string{"n1", "n3"}) {
		t.Errorf("with a NoExecute taint on n2: pods on %v", got)
	}

	s.inventory(nil, "n1", "n2", "n3")
	zone := []string{"--var", `selector={"topology.kubernetes.io/zone"="b"}`}
	s.apply(zone...)
	if got := nodesOf(s.pods("app=agent")); !slices.Equal(got, []string{"n2"}) {
		t.Errorf("for zone b: pods on %v", got)
	}
	text := s.read("nodes.toml")
	s.write("nodes.toml", strings.NewReplacer("'c'", "'b'", `"c"`, `"b"`).Replace(text))
	s.apply(zone...)
	if got := nodesOf(s.pods("app=agent")); !slices.Equal(got, []string{"n2", "n3"}) {
		t.Errorf("after the label of n3 became b: pods on %v", got)
	}
	s.exactly(names(s.pods("app=agent")))
	s.settled(zone...)

	s.inventory(nil, "n1", "n2")
	s.apply()
	if got := nodesOf(s.pods("app=agent")); !slices.Equal(got, []string{"n1", "n2"}) {
		t.Errorf("after n3 left: pods on %v", got)
	}
	s.exactly(names(s.pods("app=agent")))
	s.settled()
}

// An update goes from node to node, and with a surge the new pod comes first; one that crashes stops at the first node; the
// set goes with all its pods.
func TestDaemonSetUpdates(t *testing.T) {
	s := begin(t, agents)
	s.apply()
	first := byNode(s.pods("app=agent"))
	s.apply("--var", "release=2")
	second := byNode(s.pods("app=agent"))
	for _, n := range []string{"n1", "n2", "n3"} {
		if first[n] == "" || second[n] == "" || first[n] == second[n] {
			t.Errorf("on %s: %q, then %q", n, first[n], second[n])
		}
	}
	out := s.apply("--var", "release=3", "--var", "surge=1")
	for _, p := range s.pods("app=agent") {
		created := strings.Index(out, p.Name+" on "+p.Spec.NodeName+": Ready")
		removed := strings.Index(out, " on "+p.Spec.NodeName+": Stopped and removed")
		if created < 0 || removed < created {
			t.Errorf("on %s the old pod went before the new one was ready:\n%s", p.Spec.NodeName, out)
		}
	}
	s.exactly(names(s.pods("app=agent")))

	third := byNode(s.pods("app=agent"))
	s.fails([]string{"daemonset.agent"}, "apply", "--auto-approve", "--var", "release=3", "--var", `command=["/app", "crash", "3", "no such device"]`)
	kept := 0
	for n, uid := range byNode(s.pods("app=agent")) {
		if third[n] == uid {
			kept++
		}
	}
	if kept != 2 {
		t.Errorf("%d pods were left alone by an update that crashes, want 2", kept)
	}
	s.apply("--var", "release=3")
	s.exactly(names(s.pods("app=agent")))
	s.settled("--var", "release=3")
	s.write("main.hcl", `
variable "surge" { default = 0 }`)
	s.apply("--var", "release=3")
	s.exactly(nil)
}
