package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/internal/lab"
)

// noted is a line of the file in which the pods of these stories say what happens to them.
type noted struct {
	at   time.Time
	what string
}

const notesDir = "/run/e2e-life"

// notes reads the file on a host.
func notes(t *testing.T, n *lab.Node) []noted {
	t.Helper()
	var out []noted
	for line := range strings.Lines(sh(t, t.Context(), n, "cat "+notesDir+"/log")) {
		when, what, _ := strings.Cut(strings.TrimSpace(line), " ")
		ns, err := strconv.ParseInt(when, 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, noted{time.Unix(0, ns), what})
	}
	return out
}

// inOrder checks that things happened, in this order.
func inOrder(t *testing.T, list []noted, what ...string) {
	t.Helper()
	var all []string
	for _, n := range list {
		all = append(all, n.what)
	}
	before := -1
	for _, w := range what {
		i := slices.Index(all, w)
		if i < 0 || i < before {
			t.Errorf("%q is not where it should be: %q", w, all)
			return
		}
		before = i
	}
}

// when is the time at which something happened first.
func when(list []noted, what string) time.Time {
	i := slices.IndexFunc(list, func(n noted) bool { return n.what == what })
	if i < 0 {
		return time.Time{}
	}
	return list[i].at
}

func lifePod(node, name, body string) string {
	return fmt.Sprintf(`
workload "pod" %q {
  node_name                        = %q
  termination_grace_period_seconds = 20
%s
  volume "notes" {
    host_path {
      path = %q
      type = "DirectoryOrCreate"
    }
  }
}
`, name, node, body, notesDir)
}

func lifeContainer(block, name, args, rest string) string {
	return fmt.Sprintf(`
  %s %q {
    image = image.app.ref
    args  = [%s]
%s
    volume_mount "notes" {
      mount_path = "/notes"
    }
  }
`, block, name, args, rest)
}

// probe is a probe of one of the paths of "app live".
func lifeProbe(kind, path string, port int) string {
	return fmt.Sprintf(`
    %s_probe {
      period_seconds    = 1
      timeout_seconds   = 10
      failure_threshold = 60

      http_get {
        path = "/%s"
        port = %d
      }
    }
`, kind, path, port)
}

// The whole life of a pod, in the order in which it says itself that things happened: init containers one after the other, the
// sidecar between them, the hooks, the probes; at the end the preStop hook, the signal, and the sidecar last.
func TestLifeOfAPod(t *testing.T) {
	n := theLab(t).Nodes()[0]
	s := begin(t, lifePod(n.Name, "life",
		lifeContainer("init_container", "one", `"step", "/notes/log", "one", "300ms"`, "")+
			lifeContainer("init_container", "side", `"live", "/notes/log", "side", ":9090"`, `    restart_policy = "Always"`+"\n"+lifeProbe("startup", "startup", 9090))+
			lifeContainer("init_container", "two", `"step", "/notes/log", "two", "300ms"`, "")+
			lifeContainer("container", "app", `"live", "/notes/log", "app", ":8080"`, lifeProbe("startup", "startup", 8080)+lifeProbe("liveness", "live", 8080)+lifeProbe("readiness", "ready", 8080)+`
    lifecycle {
      post_start {
        exec {
          command = ["/app", "note", "/notes/log", "app post_start"]
        }
      }

      pre_stop {
        exec {
          command = ["/app", "note", "/notes/log", "app pre_stop"]
        }
      }
    }
`)))
	afterwards(t, n, "rm -rf "+notesDir)
	s.apply()
	s.settled()
	list := notes(t, n)
	inOrder(t, list, "one start", "one end", "side start", "side startup", "two start", "two end", "app start", "app startup", "app ready")
	inOrder(t, list, "two end", "app post_start", "app startup", "app ready")
	for _, name := range []string{"one", "two"} {
		if took := when(list, name+" end").Sub(when(list, name+" start")); took < 300*time.Millisecond {
			t.Errorf("%s took %s", name, took)
		}
	}
	if late := when(list, "side startup").Sub(when(list, "side start")); late < 600*time.Millisecond {
		t.Errorf("the sidecar had started after %s", late)
	}
	poll(t, 30*time.Second, "a liveness probe", func() bool {
		// It runs while apply waits; when the pod is ready sooner than it is due, a longer wait has it run.
		if slices.ContainsFunc(notes(t, n), func(n noted) bool { return n.what == "app live" }) {
			return true
		}
		s.apply("--replace", "pod.life")
		return false
	})

	p := s.pods("")[0]
	st := p.Status
	if st.Phase != corev1.PodRunning || len(st.InitContainerStatuses) != 3 || len(st.ContainerStatuses) != 1 {
		t.Fatalf("status: %+v", st)
	}
	one, side, two, app := st.InitContainerStatuses[0], st.InitContainerStatuses[1], st.InitContainerStatuses[2], st.ContainerStatuses[0]
	for _, c := range []corev1.ContainerStatus{one, two} {
		if e := c.State.Terminated; e == nil || e.Reason != "Completed" || e.FinishedAt.Time.Before(e.StartedAt.Time) || !c.Ready {
			t.Errorf("init container %s: %+v", c.Name, c)
		}
	}
	for _, c := range []corev1.ContainerStatus{side, app} {
		if c.State.Running == nil || !c.Ready || c.RestartCount != 0 {
			t.Errorf("container %s: %+v", c.Name, c)
		}
	}
	// The host's times, in whole seconds, tell the same order.
	if two.State.Terminated.StartedAt.Time.Before(side.State.Running.StartedAt.Time) || app.State.Running.StartedAt.Time.Before(two.State.Terminated.FinishedAt.Time) {
		t.Errorf("side since %s, two %s to %s, app since %s", side.State.Running.StartedAt, two.State.Terminated.StartedAt, two.State.Terminated.FinishedAt, app.State.Running.StartedAt)
	}
	for _, c := range st.Conditions {
		if c.Status != corev1.ConditionTrue {
			t.Errorf("condition %+v", c)
		}
	}

	s.ok("destroy", "--auto-approve")
	list = notes(t, n)
	inOrder(t, list, "app ready", "app pre_stop", "app term", "app end", "side term", "side end")
}

// Pods that end in their own ways, and what people are told of it: exit codes, signals, restarts with their pauses.
func TestHowContainersEnd(t *testing.T) {
	n := theLab(t).Nodes()[0]
	ends := func(name, args, policy, rest string) string {
		return lifePod(n.Name, name, fmt.Sprintf("  restart_policy = %q\n", policy)+lifeContainer("container", "app", args, rest))
	}
	s := begin(t, ends("done", `"note", "/notes/log", "done"`, "Never", "")+ends("victim", `"sleep", "1h"`, "Never", "")+
		ends("tries", `"tries", "/notes/log", "tries", "3", "4"`, "Always", `
    readiness_probe {
      exec {
        command = ["/app", "stat", "/notes/log.tries"]
      }
    }
`))
	afterwards(t, n, "rm -rf "+notesDir)
	s.apply()
	var starts []time.Time
	for _, n := range notes(t, n) {
		if n.what == "tries start" {
			starts = append(starts, n.at)
		}
	}
	if len(starts) != 3 {
		t.Fatalf("started at %v", starts)
	}
	first, second := starts[1].Sub(starts[0]), starts[2].Sub(starts[1])
	if first > 10*time.Second || second < 10*time.Second || second > 40*time.Second { // a busy machine starts a container late
		t.Errorf("pauses of %s and %s, want none and 10s", first, second)
	}
	status := func(name string) corev1.Pod {
		t.Helper()
		pods := s.pods("")
		i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name == name })
		if i < 0 {
			t.Fatalf("no pod %s", name)
		}
		return pods[i]
	}
	tries := status("tries").Status.ContainerStatuses[0]
	if last := tries.LastTerminationState.Terminated; tries.RestartCount != 2 || !tries.Ready || last == nil || last.ExitCode != 4 || last.Reason != "Error" {
		t.Errorf("tries: %+v", tries)
	}
	if got := s.ok("logs", "tries", "--previous"); !strings.Contains(got, "the database is not there yet") {
		t.Errorf("the log before: %q", got)
	}
	done := status("done").Status
	if e := done.ContainerStatuses[0].State.Terminated; done.Phase != corev1.PodSucceeded || e == nil || e.ExitCode != 0 || e.Reason != "Completed" {
		t.Errorf("done: %+v", done)
	}
	s.settled()

	victim := status("victim").Status.ContainerStatuses[0].ContainerID
	sh(t, t.Context(), n, "ctr -n k8s.io task kill -s SIGKILL "+strings.TrimPrefix(victim, "containerd://"))
	poll(t, 30*time.Second, "the end of the victim", func() bool { return status("victim").Status.Phase == corev1.PodFailed })
	if e := status("victim").Status.ContainerStatuses[0].State.Terminated; e == nil || e.ExitCode != 137 || e.Signal != 9 || e.Reason != "Error" {
		t.Errorf("victim: %+v", e)
	}
}

// Pods that leave get their preStop hook while nobody sends them anything any more, so that a server which ends at once at
// its signal drops nothing. With --force they are gone at once.
func TestGracefulStop(t *testing.T) {
	s := begin(t, strings.ReplaceAll(web, `    env   = var.env`, `    env   = var.env

    lifecycle {
      pre_stop {
        sleep {
          seconds = 2
        }
      }
    }`))
	s.apply("--var", "replicas=3")
	load := clients(t, s.lab, webPort, "http://"+s.ok("output", "--raw", "ip")+"/")
	if o := s.run("apply", "--auto-approve", "--var", "replicas=1"); o.code != 0 || o.took < 2*time.Second {
		t.Errorf("%s", o)
	}
	noneFailed(t, load, "1")
	s.exactly(names(s.pods("app=web")))
	o := s.run("destroy", "--auto-approve", "--force")
	if o.code != 0 || !strings.Contains(o.stdout+o.stderr, "Pods are killed") {
		t.Errorf("%s", o)
	}
}
