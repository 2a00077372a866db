package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// set is a stateful set; CLAIMS stands for its volumes and their policy.
const set = `
variable "replicas" {
  type    = number
  default = 3
}

variable "command" {
  type    = list(string)
  default = null
}

workload "statefulset" "db" {
  labels       = { app = "db" }
  replicas     = var.replicas
  service_name = "db"

  container "app" {
    image   = image.app.ref
    command = var.command
    # MOUNT

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
  # CLAIMS
}

service "db" {
  type     = "NodePort"
  selector = { app = "db" }

  port "http" {
    port        = 80
    target_port = "http"
    node_port   = 30091
  }
}
`

const setPort = 30091

// withClaims gives each pod of the set a volume of its own.
func withClaims(policy string) string {
	return strings.NewReplacer("# MOUNT", `
    volume_mount "data" {
      mount_path = "/data"
    }
`, "# CLAIMS", `
  persistent_volume_claim_retention_policy {
`+policy+`
  }

  volume_claim_template "data" {
    resources {
      requests = { storage = "1Gi" }
    }
  }
`).Replace(set)
}

// made returns the uids of pods by name.
func made(pods []corev1.Pod) map[string]string {
	uids := map[string]string{}
	for _, p := range pods {
		uids[p.Name] = string(p.UID)
	}
	return uids
}

var createdLine = regexp.MustCompile(`(?m)^statefulset\.db/(db-\d+) on \S+: Created`)

// createdIn returns the names of the set's pods in the order in which an apply says that it made them. Their ages are told in whole
// seconds.
func createdIn(out string) []string {
	var order []string
	for _, m := range createdLine.FindAllStringSubmatch(out, -1) {
		order = append(order, m[1])
	}
	return order
}

// A stateful set's pods have names and data of their own: over an update, which goes from the highest ordinal down, over
// scaling down and up again, and over the set's own end.
func TestStatefulSetKeepsNamesAndData(t *testing.T) {
	s := begin(t, withClaims(`    when_deleted = "Retain"`))
	order := createdIn(s.apply())
	pods := s.pods("app=db")
	if got := names(pods); !slices.Equal(got, []string{"db-0", "db-1", "db-2"}) {
		t.Fatalf("pods %v", got)
	}
	first := made(pods)
	if !slices.Equal(order, []string{"db-0", "db-1", "db-2"}) {
		t.Errorf("made in the order %v", order)
	}
	home := map[string]string{}
	for _, p := range pods {
		home[p.Name] = p.Spec.NodeName
		put(s, p.Name, "/data/whose", p.Name)
		if got, err := fetchFrom(t, s, p); err != nil || got != "1 "+p.Name {
			t.Errorf("pod %s calls itself %q (%v)", p.Name, got, err)
		}
	}
	s.answers(setPort, "1")
	s.settled()

	order = createdIn(s.apply("--var", "release=2"))
	pods = s.pods("app=db")
	second := made(pods)
	if !slices.Equal(order, []string{"db-2", "db-1", "db-0"}) {
		t.Errorf("replaced in the order %v", order)
	}
	for _, p := range pods {
		if second[p.Name] == first[p.Name] || p.Spec.NodeName != home[p.Name] {
			t.Errorf("%s is on %s (was on %s), the same pod: %v", p.Name, p.Spec.NodeName, home[p.Name], second[p.Name] == first[p.Name])
		}
		if got := s.exec(p.Name, "/app", "cat", "/data/whose"); got != p.Name {
			t.Errorf("the volume of %s holds %q", p.Name, got)
		}
	}
	s.answers(setPort, "2")

	s.apply("--var", "release=2", "--var", "replicas=1")
	s.exactly([]string{"db-0"})
	s.settled("--var", "release=2", "--var", "replicas=1")
	s.apply("--var", "release=2")
	for _, p := range s.pods("app=db") {
		if got := s.exec(p.Name, "/app", "cat", "/data/whose"); got != p.Name || p.Spec.NodeName != home[p.Name] {
			t.Errorf("after scaling, %s is on %s and its volume holds %q", p.Name, p.Spec.NodeName, got)
		}
	}

	s.write("main.hcl", `
variable "replicas" { default = 0 }`)
	o := s.run("apply", "--auto-approve", "--var", "release=2")
	s.says(o.stdout+o.stderr, "Apply complete", "volume.data-db-0 stays with its data")
	s.exactly(nil)
	s.settled("--var", "release=2")
	s.write("main.hcl", withClaims(`    when_deleted = "Delete"`))
	s.apply("--var", "release=2")
	if got := s.exec("db-1", "/app", "cat", "/data/whose"); got != "db-1" {
		t.Errorf("the set that came again finds %q", got)
	}
	s.settled("--var", "release=2")
}

// fetchFrom asks one pod, from its node, who it is.
func fetchFrom(t *testing.T, s *story, p corev1.Pod) (string, error) {
	t.Helper()
	body, err := tool(t, s.lab.Node(p.Spec.NodeName))("get", "http://"+p.Status.PodIP+":8080/")
	return strings.TrimSpace(body), err
}

// Claims go with their data when the policy says so, and only then.
func TestStatefulSetDeletesClaims(t *testing.T) {
	s := begin(t, withClaims("    when_scaled = \"Delete\"\n    when_deleted = \"Delete\""))
	find := func(claim string) (found []string) {
		for _, n := range s.lab.Nodes() {
			if sh(t, t.Context(), n, "ls -d /var/lib/berth/volumes/default/"+claim+" 2>/dev/null || true") != "" {
				found = append(found, n.Name)
			}
		}
		return found
	}
	s.apply("--var", "replicas=2")
	for _, claim := range []string{"data-db-0", "data-db-1"} {
		if got := find(claim); len(got) != 1 {
			t.Errorf("%s lies on %v", claim, got)
		}
	}
	s.apply("--var", "replicas=1")
	if got := find("data-db-1"); got != nil {
		t.Errorf("data-db-1 lies on %v", got)
	}
	s.write("main.hcl", "")
	s.apply()
	if got := find("data-db-0"); got != nil {
		t.Errorf("data-db-0 lies on %v", got)
	}
	s.settled()
}

// A release that crashes stops at the first pod; the others serve on, and the next apply replaces the broken one.
func TestStatefulSetFails(t *testing.T) {
	s := begin(t, set)
	s.apply()
	before := made(s.pods("app=db"))
	s.fails([]string{"statefulset.db/db-2"}, "apply", "--auto-approve", "--var", `command=["/app", "crash", "3", "no such disk"]`)
	after := made(s.pods("app=db"))
	if after["db-0"] != before["db-0"] || after["db-1"] != before["db-1"] || after["db-2"] == before["db-2"] {
		t.Errorf("pods were %v and are %v: want another db-2 alone", before, after)
	}
	s.answers(setPort, "1")
	s.apply()
	s.exactly([]string{"db-0", "db-1", "db-2"})
	s.settled()
}

// Nothing takes the place of a pod on a host that does not answer: it may still run. With --confirm-dead another one is made;
// when the host turns out to be alive, its pod goes before anything else happens.
func TestStatefulSetNeedsProof(t *testing.T) {
	s := begin(t, set)
	s.apply()
	lost := s.pods("app=db")[1]
	node := s.lab.Node(lost.Spec.NodeName)
	s.fails([]string{"Host is not dead", node.Name + " answers"}, "plan", "--confirm-dead", node.Name)
	if err := node.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	cleanup(t, func(ctx context.Context) error { return node.Start(ctx) })

	plan := s.run("plan", "--detailed-exitcode")
	if plan.code != 0 {
		t.Errorf("something is planned without proof: %s", plan)
	}
	s.says(plan.stdout+plan.stderr, "nothing takes the place of "+lost.Name+" on "+node.Name, "--confirm-dead="+node.Name)

	out := s.apply("--confirm-dead", node.Name)
	s.says(out, fmt.Sprintf("statefulset.db/%s: Given up: node %s is dead: confirmed with --confirm-dead", lost.Name, node.Name))
	replaced := s.pods("app=db")[1]
	if replaced.UID == lost.UID || replaced.Spec.NodeName == node.Name || replaced.Name != lost.Name {
		t.Fatalf("%s is %s on %s", lost.Name, replaced.UID, replaced.Spec.NodeName)
	}
	if got, err := fetchFrom(t, s, replaced); err != nil || got != "1 "+lost.Name {
		t.Errorf("the new one answers %q (%v)", got, err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.apply()
	s.exactly([]string{"db-0", "db-1", "db-2"})
	if got := s.pods("app=db")[1]; got.UID != replaced.UID {
		t.Errorf("the pod on the host that came back has won")
	}
	s.settled()
}

// A host that is cut from the network runs on. Its pod comes back as a second one of its name, and goes first; a fencing
// command stands for the proof, and one that fails is none.
func TestStatefulSetFence(t *testing.T) {
	s := begin(t, set)
	s.write("cluster.hcl", `
berth {
  cluster {
    fence {
      command = ["./fence.sh", "off"]
    }
  }
}
`)
	s.script("fence.sh", "echo the switch is broken; exit 1")
	s.apply()
	lost := s.pods("app=db")[2]
	node := s.lab.Node(lost.Spec.NodeName)
	if err := node.Unplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	cleanup(t, func(ctx context.Context) error { return node.Plug(ctx) })
	s.fails([]string{"the switch is broken"}, "apply", "--auto-approve", "--fence", node.Name)
	if got := s.pods("app=db")[2]; got.UID != lost.UID {
		t.Fatalf("%s was replaced though the fencing command failed", lost.Name)
	}
	s.script("fence.sh", `echo "$1 $BERTH_NODE $BERTH_ADDRESS" >fenced`)
	out := s.apply("--fence", node.Name)
	s.says(out, "node "+node.Name+" is dead: proved by its fencing command")
	if got, want := s.read("fenced"), fmt.Sprintf("off %s %s\n", node.Name, node.Address); got != want {
		t.Errorf("the fencing command saw %q, want %q", got, want)
	}
	if err := node.Plug(t.Context()); err != nil {
		t.Fatal(err)
	}
	out = s.apply("--var", "release=2")
	gone := strings.Index(out, "statefulset.db/"+lost.Name+" on "+node.Name+": Stopped and removed")
	next := strings.Index(out, "statefulset.db/db-2 on "+s.pods("app=db")[2].Spec.NodeName+": Created")
	if gone < 0 || next < 0 || gone > next {
		t.Errorf("the left-over pod did not go first:\n%s", out)
	}
	s.exactly([]string{"db-0", "db-1", "db-2"})
	s.answers(setPort, "2")
	s.settled("--var", "release=2")
}
