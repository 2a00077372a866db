package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"berth.dev/berth/internal/lab"
)

// inTrouble has a pod for every way in which a pod can stand still.
const inTrouble = `
workload "pod" "crash" {
  container "app" {
    image = image.app.ref
    args  = ["crash", "3", "no database"]
` + neverReady + `  }
}

workload "pod" "done" {
  restart_policy = "Never"

  container "app" {
    image = image.app.ref
    args  = ["crash", "0", "well done"]
  }
}

workload "pod" "failed" {
  restart_policy = "Never"

  container "app" {
    image = image.app.ref
    args  = ["crash", "5", "not done"]
  }
}

workload "pod" "init" {
  restart_policy = "Never"

  init_container "first" {
    image = image.app.ref
    args  = ["crash", "2", "not ready"]
  }

  container "app" {
    image = image.app.ref
  }
}

workload "pod" "late" {
  active_deadline_seconds          = 2
  termination_grace_period_seconds = 1
  restart_policy                   = "Never"

  container "app" {
    image = image.app.ref
    args  = ["sleep", "1h"]

    readiness_probe {
      period_seconds = 1

      tcp_socket {
        port = 1
      }
    }
  }
}

workload "pod" "never" {
  container "app" {
    image             = "not.there/app:1"
    image_pull_policy = "Never"
  }
}

workload "pod" "oom" {
  restart_policy = "Never"

  container "app" {
    image = image.app.ref
    args  = ["eat", "200"]

    resources {
      limits = { memory = "20Mi" }
    }
  }
}

workload "pod" "root" {
  security_context {
    run_as_non_root = true
  }

  container "app" {
    image = image.app.ref
  }
}
`

// Pods that cannot run say why in kubectl's words, also those that no host has because their image was not to be had.
func TestStatusOfPodsInTrouble(t *testing.T) {
	s := begin(t, inTrouble)
	apply := s.run("apply", "--auto-approve")
	if apply.code != 1 {
		t.Fatalf("%s", apply)
	}
	want := map[string]string{
		"crash": "CrashLoopBackOff", "done": "Completed", "failed": "Error", "init": "Init:Error", "late": "DeadlineExceeded",
		"never": "ErrImageNeverPull", "oom": "OOMKilled", "root": "CreateContainerConfigError",
	}
	// A machine that is so slow that the pause of 20 s is over when it is asked gets another try, with a longer pause.
	var out, crash string
	poll(t, time.Minute, "the one that crashes is seen to wait", func() bool {
		out, crash = s.ok("get", "pods", "--no-headers"), s.ok("describe", "pod", "crash")
		if strings.Contains(out, "CrashLoopBackOff") && strings.Contains(strings.Join(strings.Fields(crash), " "), "State: Waiting Reason: CrashLoopBackOff") {
			return true
		}
		s.run("apply", "--auto-approve")
		return false
	})
	got := map[string]string{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		got[f[0]] = f[2]
		if f[1] != "0/1" {
			t.Errorf("%s: %s are ready", f[0], f[1])
		}
	}
	for name, status := range want {
		if got[name] != status && got[name] != "" {
			t.Logf("%s", apply)
		}
		if got[name] != status {
			t.Errorf("%s is %q, want %q", name, got[name], status)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d pods, want %d:\n%s", len(got), len(want), out)
	}
	for line := range strings.Lines(s.ok("get", "workloads", "--no-headers")) {
		f := strings.Fields(line)
		delete(want, strings.TrimPrefix(f[0], "pod/"))
	}
	if len(want) > 0 {
		t.Errorf("berth get workloads does not list %v", want)
	}

	s.says(crash, "State: Waiting Reason: CrashLoopBackOff", "Last State: Terminated Reason: Error Exit Code: 3", "BackOff",
		"spec.containers{app}: Back-off restarting failed container app in pod crash_default(")
	if !regexp.MustCompile(`Restart Count: +([2-9]|\d\d)`).MatchString(crash) {
		t.Errorf("it was restarted too seldom:\n%s", crash)
	}
	s.says(s.ok("describe", "pod", "oom"), "State: Terminated Reason: OOMKilled", "Limits: memory: 20Mi", "QoS Class: Burstable")
	s.says(s.ok("describe", "pod", "root"), "Reason: CreateContainerConfigError Message: container has runAsNonRoot and image will run as root")
	if got := s.ok("get", "pods", "--field-selector", "status.phase=Failed", "-o", "jsonpath={.items[*].metadata.name}"); got != "failed init late oom" {
		t.Errorf("failed are: %s", got)
	}
	if got := s.ok("get", "pod", "late", "-o", "jsonpath={.status.reason}: {.status.message}"); got != "DeadlineExceeded: Pod was active on the node longer than the specified deadline" {
		t.Errorf("late: %s", got)
	}
}

const worked = `
workload "pod" "busy" {
  container "app" {
    image = image.app.ref
    args  = ["spin", "50"]
  }
}

workload "pod" "full" {
  termination_grace_period_seconds = 600

  init_container "first" {
    image = image.app.ref
    args  = ["crash", "0", "ready"]
  }

  container "app" {
    image = image.app.ref
    args  = ["eat", "50"]
  }

  container "deaf" {
    image = image.app.ref
    args  = ["sleep", "1h"]
  }
}
`

// eventsOf reads the events of one object, without those that depend on how quick hosts are.
func (s *story) eventsOf(object string) []string {
	s.t.Helper()
	var list corev1.EventList
	if err := json.Unmarshal([]byte(s.ok("events", "--for", object, "-o", "json")), &list); err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, e := range list.Items {
		if e.Reason != "Unhealthy" {
			out = append(out, strings.TrimSpace(e.Reason+" "+e.InvolvedObject.FieldPath))
		}
	}
	return out
}

// What happens to a pod from its first image to its last signal is told in order, also to one who follows from another process; what
// it uses meanwhile is measured.
func TestEventsAndUsage(t *testing.T) {
	s := begin(t, worked)
	follower := s.start("events", "-f")
	watcher := s.start("get", "pods", "--watch")
	s.apply()

	brought := []string{"Scheduled", "Pulling spec.initContainers{first}", "Pulling spec.containers{app}", "Pulling spec.containers{deaf}",
		"Pulled spec.initContainers{first}", "Pulled spec.containers{app}", "Pulled spec.containers{deaf}", "MissingClusterDNS"}
	ran := []string{"Created spec.initContainers{first}", "Started spec.initContainers{first}", "Created spec.containers{app}", "Started spec.containers{app}",
		"Created spec.containers{deaf}", "Started spec.containers{deaf}"}
	events := s.eventsOf("pod/full")
	at := slices.Index(events, ran[0])
	if at < 0 || !slices.Equal(events[at:], ran) {
		t.Errorf("events of the pod: %q, want at the end %q", events, ran)
	}
	// An image that another story has left is there already.
	before := events[:max(at, 0)]
	if !slices.ContainsFunc([][]string{brought, slices.Concat(brought[:1], brought[4:]), slices.Concat(brought[:1], brought[7:])}, func(want []string) bool { return slices.Equal(before, want) }) {
		t.Errorf("events before it ran: %q", before)
	}
	if got := s.eventsOf("node/n1"); !slices.Contains(got, "NodeReady") {
		t.Errorf("events of node n1: %q", got)
	}
	follower.until(t, "Started container deaf", 1)

	checkUsage(s)

	s.write("main.hcl", strings.Split(worked, `workload "pod" "full"`)[0])
	apply := s.start("apply", "--auto-approve")
	poll(t, 30*time.Second, "the pod is Terminating", func() bool {
		return strings.Contains(s.ok("get", "pod", "full", "--no-headers"), "Terminating")
	})
	s.says(s.ok("describe", "pod", "full"), "Status: Terminating (lasts", "Termination Grace Period: 600s", "Killing")
	for _, c := range s.containers() {
		if c.Name == "deaf" {
			s.killIn(c.Node, c.Pod, c.Name) // it would take ten minutes
		}
	}
	if o := apply.wait(t); o.code != 0 {
		t.Fatalf("%s", o)
	}
	events = s.eventsOf("pod/full")
	if !slices.Contains(events, "Killing spec.containers{app}") || !slices.Contains(events, "Killing spec.containers{deaf}") {
		t.Errorf("events of its end: %q", events)
	}
	follower.until(t, "Stopping container deaf", 1)
	watcher.until(t, "Terminating", 1)
	for _, r := range []*running{follower, watcher} {
		if err := r.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if o := r.wait(t); o.code != 0 {
			t.Errorf("an interrupt ends it well: %s", o)
		}
	}
	if got := s.ok("get", "pods", "-o", "name"); got != "pod/busy\n" {
		t.Errorf("pods in the end: %q", got)
	}
}

// checkUsage measures a container that works half of the time, one that holds 50 MiB, and one that does nothing. How much the first one gets
// depends on what else the machine does; its cgroup knows.
func checkUsage(s *story) {
	s.t.Helper()
	all := s.containers()
	busy := all[slices.IndexFunc(all, func(c container) bool { return c.Pod == "busy" })]
	var why string
	poll(s.t, time.Minute, "the use of all containers is told as it is", func() bool {
		cpu := cgroupRate(s.t, s.lab.Node(busy.Node), busy.ID)
		out := s.ok("top", "pods", "-o", "json")
		why = wrongUsage(s, out, cpu())
		if why != "" {
			s.t.Logf("%s", why)
		}
		return why == ""
	})
	table := s.ok("top", "nodes")
	for _, n := range s.lab.Nodes() {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^%s +[1-9]\d*m +\d+%% +[1-9]\d*Mi +\d+%%$`, n.Name)).MatchString(table) {
			s.t.Errorf("top nodes does not measure %s:\n%s", n.Name, table)
		}
	}
}

// wrongUsage tells what is not right about what containers are said to use, given what the cgroup of the busy one says, in thousandths of a processor.
func wrongUsage(s *story, out string, busy int64) string {
	s.t.Helper()
	var list struct {
		Items []struct {
			Metadata   struct{ Name string }
			Containers []struct {
				Name  string
				Usage map[string]resource.Quantity
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	type bounds struct{ cpuFrom, cpuTo, memoryFrom, memoryTo int64 } // thousandths, MiB
	want := map[string]bounds{"busy/app": {busy * 2 / 3, busy * 3 / 2, 0, 40}, "full/app": {0, 100, 50, 90}, "full/deaf": {0, 100, 0, 40}}
	for _, p := range list.Items {
		for _, c := range p.Containers {
			b, ok := want[p.Metadata.Name+"/"+c.Name]
			delete(want, p.Metadata.Name+"/"+c.Name)
			cpu, memory := c.Usage["cpu"], c.Usage["memory"]
			if m, mib := cpu.MilliValue(), memory.Value()>>20; !ok || m < b.cpuFrom || m > b.cpuTo || mib < b.memoryFrom || mib > b.memoryTo {
				return fmt.Sprintf("%s/%s uses %dm and %d MiB, want %+v", p.Metadata.Name, c.Name, m, mib, b)
			}
		}
	}
	if len(want) > 0 {
		return fmt.Sprintf("not measured: %v in\n%s", want, out)
	}
	if busy < 10 {
		return fmt.Sprintf("the busy container has had %dm of a processor: too little to tell", busy)
	}
	return ""
}

// cgroupRate begins to measure what a container uses by its cgroup, and returns what ends it: thousandths of a processor.
func cgroupRate(t testing.TB, n *lab.Node, id string) (end func() int64) {
	t.Helper()
	look := func() (up, used float64) { // seconds, nanoseconds
		text := sh(t, t.Context(), n, `cut -d' ' -f1 /proc/uptime
dir=$(find /sys/fs/cgroup -type d \( -path '*cpuacct*' -o -path '/sys/fs/cgroup/berth*' \) -name '*`+id+`*' | head -n 1)
if [ -f "$dir/cpuacct.usage" ]; then cat "$dir/cpuacct.usage"; else awk '/^usage_usec/ {print $2 * 1000}' "$dir/cpu.stat"; fi`)
		if _, err := fmt.Sscan(text, &up, &used); err != nil {
			t.Fatalf("the cgroup of %s: %v: %q", id, err, text)
		}
		return up, used
	}
	t0, c0 := look()
	return func() int64 {
		t.Helper()
		t1, c1 := look()
		return int64((c1 - c0) / (t1 - t0) / 1e6)
	}
}
