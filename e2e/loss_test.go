package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/internal/lab"
)

// lossy is web without patience for lost nodes, beside a stateful set and a daemon set, one pod of each on every node.
var lossy = strings.Replace(web, `  container "app" {`, impatient+`
  container "app" {`, 1) + `
workload "daemonset" "agent" {
  container "app" {
    image = image.app.ref
  }
}

workload "statefulset" "db" {
  replicas              = 3
  pod_management_policy = "Parallel"
` + impatient + `
  container "app" {
    image = image.app.ref
  }
}
`

const impatient = `
  toleration {
    key                = "node.kubernetes.io/unreachable"
    operator           = "Exists"
    effect             = "NoExecute"
    toleration_seconds = 0
  }
`

// grace is how long a node may be silent in these stories.
const grace = 8 * time.Second

// webClient asks web through a node, with a connection for each request.
func webClient(t *testing.T, n *lab.Node) client {
	url := fmt.Sprintf("http://%s:%d/", n.Address, webPort)
	return startClient(t, url, exec.CommandContext(t.Context(), programs.app, "load", url, "once"))
}

// on are the names of the pods of a workload on a node, as the hosts' containerd shows them, whether they run or not.
func (s *story) on(node, workload string) []string {
	var out []string
	for _, c := range containersOn(s.t, s.lab, node) {
		if strings.HasPrefix(c.Pod, workload+"-") && !slices.Contains(out, c.Pod) {
			out = append(out, c.Pod)
		}
	}
	return out
}

// ofState are the pods of a workload with their nodes, by the state alone: "web-1 n2".
func (s *story) ofState(workload string) []string {
	var out []string
	for _, p := range s.pods("") {
		if strings.HasPrefix(p.Name, workload+"-") && p.DeletionTimestamp == nil {
			out = append(out, p.Name+" "+p.Spec.NodeName)
		}
	}
	slices.Sort(out)
	return out
}

// serves waits until web answers through a node whatever pod is asked.
func (s *story) serves(n *lab.Node) (unanswered int) {
	s.t.Helper()
	url := fmt.Sprintf("http://%s:%d/", n.Address, webPort)
	poll(s.t, time.Minute, "web answers through "+n.Name, func() bool {
		for range 12 {
			ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
			_, err := fetch(ctx, url)
			cancel()
			if err != nil {
				unanswered++
				return false
			}
		}
		return true
	})
	return unanswered
}

// answersAllBut wants a load to be answered, but for as many requests as went unanswered before: for two minutes the kernel leads a connection that
// comes from the same port as one of those to the same lost pod, as it does below kube-proxy (nf_conntrack_tcp_timeout_syn_sent).
func answersAllBut(t *testing.T, unanswered int, load client) {
	t.Helper()
	r, err := load.stop()
	if err != nil {
		t.Error(err)
		return
	}
	t.Logf("%d requests, %d failed, %d went unanswered before", r.Requests, r.Failed, unanswered)
	if r.Failed > unanswered || r.Requests < 50 {
		t.Errorf("%d of %d requests failed: %q", r.Failed, r.Requests, r.Failures)
	}
}

// A node whose power goes is lost after the grace time: its pods leave the services, those of the deployment run elsewhere, the stateful
// set's waits for proof, the daemon set's stays. When the node is back, what was made elsewhere is removed there, and the rest runs again.
func TestNodePoweredOff(t *testing.T) {
	s := begin(t, lossy)
	s.apply()
	w := s.watch("--node-grace=" + grace.String()).ready()
	nodes := s.lab.Nodes()
	first, third := nodes[0], nodes[2]
	moved := s.on(third.Name, "web")
	if len(moved) != 1 {
		t.Fatalf("on %s: %q", third.Name, moved)
	}
	load := webClient(t, first)
	off := time.Now()
	if err := third.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	up := func() int { return len(s.on(first.Name, "web")) + len(s.on(nodes[1].Name, "web")) }
	poll(t, time.Minute, "three pods of web on two nodes", func() bool { return up() == 3 })
	t.Logf("the replacement is there %.2f s after the power went, with a grace time of %s", time.Since(off).Seconds(), grace)
	if early := time.Since(off); early < grace {
		t.Errorf("the replacement was made %s after the power went", early)
	}
	unanswered := s.serves(first)
	r, err := load.stop()
	t.Logf("until then %d of %d requests failed: %v", r.Failed, r.Requests, err)
	if r.Requests == r.Failed {
		t.Error("no request was answered")
	}
	load = webClient(t, first)
	if got := s.ofState("db"); len(got) != 3 || !slices.ContainsFunc(got, func(p string) bool { return strings.HasSuffix(p, third.Name) }) {
		t.Errorf("the stateful set: %q", got)
	}
	if n := len(s.on(first.Name, "db")) + len(s.on(nodes[1].Name, "db")); n != 2 {
		t.Errorf("%d pods of the stateful set run", n)
	}
	s.says(s.ok("get", "nodes"), third.Name+" NotReady")
	s.says(s.ok("describe", "node", third.Name), "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute", "Ready Unknown", "NodeStatusUnknown", "Nobody reaches the host")
	s.says(w.stderr.String(), "status is now: NodeNotReady", "Pod is not replaced without proof", "--confirm-dead="+third.Name)
	for _, want := range []string{"NodeLost", "TaintManagerEviction"} {
		poll(t, time.Minute, "the event "+want, func() bool { return strings.Contains(s.ok("events"), want) })
	}
	answersAllBut(t, unanswered+r.Failed, load)

	// Somebody's own plan sees the same, and has nothing to do.
	if o := s.run("plan", "--detailed-exitcode"); o.code != 0 {
		t.Errorf("%s", o)
	}
	if err := third.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	poll(t, time.Minute, "what was given up is removed from "+third.Name, func() bool { return len(s.on(third.Name, "web")) == 0 })
	poll(t, time.Minute, "the other pods of "+third.Name+" run again", func() bool {
		n := 0
		for _, p := range s.pods("") {
			if isReady(&p) {
				n++
			}
		}
		return n == 9
	})
	poll(t, time.Minute, third.Name+" is ready", func() bool { return !strings.Contains(s.ok("get", "nodes"), "NotReady") })
	if text := s.ok("describe", "node", third.Name); strings.Contains(text, "unreachable:No") {
		t.Errorf("the taints are still there:\n%s", text)
	}
	if got := s.ofState("web"); len(got) != 3 || slices.ContainsFunc(got, func(p string) bool { return strings.HasSuffix(p, third.Name) }) {
		t.Errorf("web: %q", got)
	}
	poll(t, time.Minute, "there is nothing left to apply", func() bool { return s.run("plan", "--detailed-exitcode").code == 0 })
	s.answers(webPort, "1")
}

// A node that only the watchdog does not reach is left alone. One whose cable is pulled is not; and when the cable is put in again, the pods that
// still run there are removed before anything else.
func TestNodeCableIsPulled(t *testing.T) {
	s := begin(t, lossy)
	s.apply()
	w := s.watch("--node-grace=" + grace.String()).ready()
	n := s.lab.Nodes()[1]
	old := s.on(n.Name, "web")
	before := s.containers()
	drop := "INPUT -p tcp --dport 22 -s " + s.lab.Gateway() + " -j DROP"
	afterwards(t, n, "iptables -D "+drop+" 2>/dev/null || true")
	sh(t, t.Context(), n, "iptables -I "+drop)
	w.until(t, "it is the way from here", 1)
	time.Sleep(2 * time.Second) // in which nothing happens
	if after := s.containers(); !slices.Equal(before, after) {
		t.Errorf("something was moved:\n%v\n%v", before, after)
	}
	s.answers(webPort, "1")

	cleanup(t, n.Plug)
	if err := n.Unplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := func() int {
		return len(s.on(s.lab.Nodes()[0].Name, "web")) + len(s.on(s.lab.Nodes()[2].Name, "web"))
	}
	poll(t, time.Minute, "the pod is made elsewhere", func() bool { return other() == 3 })
	if got := s.on(n.Name, "web"); !slices.Equal(got, old) {
		t.Errorf("on %s runs %q, nobody can have changed that", n.Name, got)
	}
	poll(t, time.Minute, "it is terminating", func() bool {
		return slices.ContainsFunc(s.pods(""), func(p corev1.Pod) bool { return p.Name == old[0] && p.DeletionTimestamp != nil })
	})
	w.until(t, "round", 2)
	sh(t, t.Context(), n, "iptables -D "+drop)
	if err := n.Plug(t.Context()); err != nil {
		t.Fatal(err)
	}
	poll(t, time.Minute, "the old pod is removed", func() bool { return len(s.on(n.Name, "web")) == 0 })
	s.says(w.stderr.String(), "remove what was given up")
	s.exactly(names(s.pods("")))
	poll(t, time.Minute, "there is nothing left to apply", func() bool { return s.run("plan", "--detailed-exitcode").code == 0 })
	s.answers(webPort, "1")
}

// When two nodes of three vanish at once, nothing is moved, and somebody is told. What is left serves. They are back at once, too: of two that
// are not, the second would have its grace time anew and be lost after it.
func TestMassLossMovesNothing(t *testing.T) {
	const grace = 20 * time.Second // longer than it takes to see both go, and both again
	s := begin(t, lossy)
	s.script("page", "cat >>paged")
	s.write("notify.hcl", `
berth {
  watch {
    notify "pager" {
      events  = ["MassNodeLoss", "MassNodeLossOver"]
      command = ["./page"]
    }
  }
}
`)
	s.apply()
	w := s.watch("--node-grace=" + grace.String()).ready()
	nodes := s.lab.Nodes()
	before, running := s.ofState("web"), s.containers()
	load := webClient(t, nodes[0])
	cleanup(t, nodes[1].Plug)
	cleanup(t, nodes[2].Plug)
	var cables errgroup.Group
	for _, n := range nodes[1:] {
		cables.Go(func() error { return n.Unplug(t.Context()) })
	}
	if err := cables.Wait(); err != nil {
		t.Fatal(err)
	}
	w.until(t, "Mass loss: 2 of 3 nodes have vanished at once", 1)
	poll(t, time.Minute, "the pager was told", func() bool {
		paged, err := os.ReadFile(filepath.Join(s.dir, "paged"))
		return err == nil && strings.Contains(string(paged), `"type":"Warning","reason":"MassNodeLoss","message":"Mass loss: 2 of 3 nodes have vanished at once`)
	})
	unanswered := s.serves(nodes[0])
	r, err := load.stop()
	t.Logf("until then %d of %d requests failed: %v", r.Failed, r.Requests, err)
	load = webClient(t, nodes[0])
	for _, n := range nodes[1:] {
		w.until(t, "Node "+n.Name+" status is now: NodeNotReady", 1)
	}
	time.Sleep(3 * time.Second) // in which nothing happens, though both are lost now, and their pods have no patience
	answersAllBut(t, unanswered+r.Failed, load)
	if got := s.ofState("web"); !slices.Equal(got, before) {
		t.Errorf("web was %q and is %q", before, got)
	}
	if text := s.ok("describe", "node", nodes[1].Name); strings.Contains(text, "NoExecute") {
		t.Errorf("its pods are evicted:\n%s", text)
	}
	if !strings.Contains(w.metrics(), "berth_mass_loss 1") {
		t.Error("the metrics do not tell")
	}
	for _, n := range nodes[1:] {
		cables.Go(func() error { return n.Plug(t.Context()) })
	}
	if err := cables.Wait(); err != nil {
		t.Fatal(err)
	}
	w.until(t, "The mass loss is over", 1)
	poll(t, time.Minute, "the pager was told that it is over", func() bool { return strings.Contains(s.read("paged"), `"reason":"MassNodeLossOver"`) })
	poll(t, time.Minute, "all pods are ready where they were", func() bool {
		n := 0
		for _, p := range s.pods("") {
			if isReady(&p) {
				n++
			}
		}
		return n == 9
	})
	if got := s.ofState("web"); !slices.Equal(got, before) {
		t.Errorf("web was %q and is %q", before, got)
	}
	poll(t, time.Minute, "there is nothing left to apply", func() bool { return s.run("plan", "--detailed-exitcode").code == 0 })
	if got := s.containers(); !slices.Equal(got, running) {
		t.Errorf("there ran\n%v\nand there run\n%v", running, got)
	}
}

// A pod of which at most one may run has stopped on its host before another one is started, though nobody can reach the host and its containerd does not
// run. What its host says counts, and no event.
func TestAtMostOneHasALease(t *testing.T) {
	s := begin(t, `
workload "deployment" "one" {
  replicas    = 1
  at_most_one = true

  strategy {
    type = "Recreate"
  }
`+impatient+`
  container "app" {
    image = image.app.ref
  }
}
`)
	s.apply()
	w := s.watch("--node-grace="+grace.String(), "--lease=10s").ready()
	first := s.pods("")[0]
	n := s.lab.Node(first.Spec.NodeName)
	poll(t, time.Minute, "the host knows of the lease", func() bool {
		return strings.Contains(sh(t, t.Context(), n, "cat /run/berth/leases 2>/dev/null || true"), string(first.UID))
	})
	poll(t, time.Minute, "the state knows of the lease", func() bool { return strings.Contains(s.ok("state", "pull"), `"lease_seconds"`) })
	ours := func(n *lab.Node) int {
		text := sh(t, t.Context(), n, `for p in /proc/[0-9]*; do case "$(tr '\0' ' ' <$p/cmdline 2>/dev/null)" in /app*) echo "$p";; esac; done`)
		return len(strings.Fields(text))
	}
	if ours(n) != 1 {
		t.Fatalf("%d processes of the pod run on %s", ours(n), n.Name)
	}
	s.fails([]string{"at_most_one = true", "it is to have 2"}, "scale", "deployment/one", "--replicas=2", "--auto-approve", "--lock-timeout=60s")

	cleanup(t, n.Plug)
	if err := n.Unplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	pulled := time.Now()
	sh(t, t.Context(), n, "systemctl stop containerd")
	others := slices.DeleteFunc(s.lab.Nodes(), func(o *lab.Node) bool { return o.Name == n.Name })
	stopped := time.Time{}
	poll(t, time.Minute, "another one runs", func() bool {
		old := ours(n)
		if old == 0 && stopped.IsZero() {
			stopped = time.Now()
		}
		started := 0
		for _, o := range others {
			started += ours(o)
		}
		if started > 0 && ours(n) > 0 {
			t.Fatal("two of it run")
		}
		return started == 1
	})
	if stopped.IsZero() {
		t.Error("the old one was not seen to stop")
	}
	t.Logf("the cable was pulled; the old one stopped %.1f s later, the new one was there after %.1f s", stopped.Sub(pulled).Seconds(), time.Since(pulled).Seconds())
	w.until(t, "apply", 1)
	sh(t, t.Context(), n, "systemctl start containerd")
	if err := n.Plug(t.Context()); err != nil {
		t.Fatal(err)
	}
	poll(t, 2*time.Minute, "the state has let go of the old one", func() bool { // containerd takes a while to begin
		return !slices.ContainsFunc(s.pods(""), func(p corev1.Pod) bool { return p.Name == first.Name })
	})
	if left := s.on(n.Name, "one"); len(left) > 0 {
		t.Errorf("%s still has %q", n.Name, left)
	}
	poll(t, time.Minute, "there is nothing left to apply", func() bool { return s.run("plan", "--detailed-exitcode").code == 0 })
	s.exactly(names(s.pods("")))
}
