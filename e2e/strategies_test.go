package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// strategies has a workload for each way to change over. Their pods are ready as soon as the gate is open; "part" alone looks at it.
const strategies = `
variable "partition" { default = 2 }
variable "replicas" { default = 2 }

locals {
  release = { release = var.release }
}

workload "deployment" "once" {
  labels                 = { app = "once" }
  pod_labels             = local.release
  replicas               = var.replicas
  revision_history_limit = 1

  strategy {
    type = "Recreate"
  }

  container "app" {
    image = image.app.ref
  }
}

workload "deployment" "slow" {
  labels            = { app = "slow" }
  pod_labels        = local.release
  replicas          = 2
  min_ready_seconds = 2

  strategy {
    rolling_update {
      max_surge       = 0
      max_unavailable = 1
    }
  }

  container "app" {
    image = image.app.ref
  }
}

workload "statefulset" "hand" {
  labels     = { app = "hand" }
  pod_labels = local.release
  replicas   = var.replicas

  update_strategy {
    type = "OnDelete"
  }

  container "app" {
    image = image.app.ref
  }
}

workload "daemonset" "node" {
  labels     = { app = "node" }
  pod_labels = local.release

  update_strategy {
    type = "OnDelete"
  }

  container "app" {
    image = image.app.ref
  }
}

workload "statefulset" "part" {
  labels                = { app = "part" }
  pod_labels            = local.release
  replicas              = 3
  pod_management_policy = "Parallel"

  update_strategy {
    rolling_update {
      partition = var.partition
    }
  }

  container "app" {
    image = image.app.ref

    readiness_probe {
      period_seconds    = 1
      timeout_seconds   = 10
      failure_threshold = 1

      exec {
        command = ["/app", "cat", "/gate/open"]
      }
    }

    volume_mount "gate" {
      mount_path = "/gate"
    }
  }

  volume "gate" {
    host_path {
      path = "/run/e2e-gate"
      type = "DirectoryOrCreate"
    }
  }
}
`

// watcher looks at the sandboxes of all hosts.
type watcher struct {
	s       *story
	clients map[string]cri.RuntimeServiceClient
}

func (s *story) watcher() *watcher {
	s.t.Helper()
	w := &watcher{s, map[string]cri.RuntimeServiceClient{}}
	for _, n := range s.lab.Nodes() {
		w.clients[n.Name] = runtimeOf(s.t, s.lab, n.Name)
	}
	return w
}

// running are the pods that run, by name, with the release that their label says.
func (w *watcher) running() map[string]string {
	w.s.t.Helper()
	out := map[string]string{}
	for node, c := range w.clients {
		boxes, err := c.ListPodSandbox(w.s.t.Context(), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}}})
		if err != nil {
			w.s.t.Fatalf("on %s: %v", node, err)
		}
		for _, b := range boxes.Items {
			out[b.Metadata.Name] = b.Labels["release"]
		}
	}
	return out
}

// createdAt is when the pods of a workload that run were made, in order, as their hosts say.
func (w *watcher) createdAt(app string) []time.Time {
	w.s.t.Helper()
	var out []time.Time
	for node, c := range w.clients {
		boxes, err := c.ListPodSandbox(w.s.t.Context(), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}}})
		if err != nil {
			w.s.t.Fatalf("on %s: %v", node, err)
		}
		for _, b := range boxes.Items {
			if strings.HasPrefix(b.Metadata.Name, app+"-") {
				out = append(out, time.Unix(0, b.CreatedAt))
			}
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

// lose takes a pod away behind Berth's back.
func (w *watcher) lose(pod string) {
	w.s.t.Helper()
	for _, c := range w.s.containers() {
		if c.Pod == pod {
			removeSandbox(w.s.t, w.clients[c.Node], c.Sandbox)
			return
		}
	}
	w.s.t.Fatalf("no host has pod %s", pod)
}

// of are the releases of the pods whose names begin so, by name, or just sorted where names are made up.
func of(pods map[string]string, app string) string {
	var out []string
	for name, release := range pods {
		if strings.HasPrefix(name, app+"-") {
			if n := strings.TrimPrefix(name, app+"-"); len(n) == 1 {
				release = n + "=" + release
			}
			out = append(out, release)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (w *watcher) has(when, app, want string) {
	w.s.t.Helper()
	if got := of(w.running(), app); got != want {
		w.s.t.Errorf("%s: pods of %s: %q, want %q", when, app, got, want)
	}
}

// All old pods of a Recreate go before the first new one comes; min_ready_seconds pass between two pods; OnDelete waits for
// somebody to take a pod away; a partition holds the lower ordinals, also when they are made again; Parallel waits for nobody.
func TestWaysToChangeOver(t *testing.T) {
	s := begin(t, strategies)
	for _, n := range s.lab.Nodes() {
		afterwards(t, n, "rm -rf /run/e2e-gate")
	}
	r := s.start("apply", "--auto-approve")
	w := s.watcher()
	poll(t, deadline, "three pods of part run though none is ready", func() bool { return of(w.running(), "part") == "0=1 1=1 2=1" })
	for _, n := range s.lab.Nodes() {
		sh(t, t.Context(), n, "mkdir -p /run/e2e-gate && touch /run/e2e-gate/open")
	}
	if o := r.wait(t); o.code != 0 {
		t.Fatalf("%s", o)
	}
	s.settled()

	r = s.start("apply", "--auto-approve", "--var", "release=2")
	for going := true; going; time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-r.ended:
			r.ended <- err
			going = false
		default:
		}
		pods := w.running()
		if got := of(pods, "once"); strings.Contains(got, "1") && strings.Contains(got, "2") {
			t.Errorf("pods of both templates run at once: %s", got)
		}
	}
	if o := r.wait(t); o.code != 0 {
		t.Fatalf("%s", o)
	}
	if at := w.createdAt("slow"); len(at) != 2 || at[1].Sub(at[0]) < 2*time.Second {
		t.Errorf("the pods of slow were made at %v: want two seconds between them", at)
	}
	w.has("after release 2", "once", "2 2")
	w.has("after release 2", "hand", "0=1 1=1")
	w.has("after release 2", "node", "1 1 1")
	w.has("after release 2", "part", "0=1 1=1 2=2")
	s.says(s.ok("rollout", "status", "statefulset/part"), "partitioned roll out complete: 1 new pods have been updated...")
	s.settled("--var", "release=2")

	onN2 := ""
	for _, p := range s.pods("app=node") {
		if p.Spec.NodeName == "n2" {
			onN2 = p.Name
		}
	}
	for _, pod := range []string{"hand-1", "part-0", onN2} {
		w.lose(pod)
	}
	s.apply("--var", "release=2", "--var", "replicas=3")
	w.has("after some were lost", "hand", "0=1 1=2 2=2")
	w.has("after some were lost", "node", "1 1 2")
	w.has("after some were lost", "part", "0=1 1=1 2=2")
	w.has("after scaling up", "once", "2 2 2")

	s.apply("--var", "release=3", "--var", "partition=0", "--var", "replicas=1")
	w.has("without a partition", "part", "0=3 1=3 2=3")
	w.has("after scaling down", "hand", "0=1")
	w.has("after scaling down", "once", "3")
	if history := strings.Fields(s.ok("rollout", "history", "deployment/once")); fmt.Sprint(history[3:]) != "[2 <none> 3 <none>]" {
		t.Errorf("revisions of once, of which one old one is kept: %q", history)
	}
	s.settled("--var", "release=3", "--var", "partition=0", "--var", "replicas=1")

	s.write("main.hcl", "variable \"partition\" { default = 0 }\nvariable \"replicas\" { default = 0 }\n")
	s.apply()
	s.exactly(nil)
}
