package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	events "github.com/containerd/containerd/api/services/events/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/internal/lab"
)

// BenchmarkWatch measures how soon a watchdog acts, on hosts of one machine: from the kill of a container's process until containerd tells that the
// new one has started, at a first failure, beside a bare loop that does nothing but hear of the end over SSH, create and start; from the failure
// of a readiness probe until no node of three has rules that lead to the pod; from the moment at which the power of a node goes until its pod runs
// elsewhere; and from the end of the watchdog that acts until another one does.
//
//	restart-ms      the median of the first failures of 18 pods, one after the other
//	restart-p90-ms  nine in ten are not slower
//	bare-ms         the median of 18 restarts by the bare loop, done in turn with those
//	unready-ms      the median of 6 losses of readiness
//	poweroff-ms     beyond the grace time, the median of 3
//	killed-ms       until a standby leads, after kill -9, the median of 5
//	silent-ms       the same after SIGSTOP, the median of 3
func BenchmarkWatch(b *testing.B) {
	for b.Loop() {
		restarts, bare := benchRestarts(b)
		b.ReportMetric(float64(restarts[len(restarts)/2].Milliseconds()), "restart-ms")
		b.ReportMetric(float64(restarts[len(restarts)*9/10].Milliseconds()), "restart-p90-ms")
		b.ReportMetric(float64(bare[len(bare)/2].Milliseconds()), "bare-ms")
		unready := benchUnready(b)
		b.ReportMetric(float64(unready[len(unready)/2].Milliseconds()), "unready-ms")
		off := benchPowerOff(b)
		b.ReportMetric(float64(off[len(off)/2].Milliseconds()), "poweroff-ms")
		killed, silent := benchTakeover(b)
		b.ReportMetric(float64(killed[len(killed)/2].Milliseconds()), "killed-ms")
		b.ReportMetric(float64(silent[len(silent)/2].Milliseconds()), "silent-ms")
	}
}

// benchPowerOff takes the power of a node, again and again, and says how long after the grace time its pod ran elsewhere.
func benchPowerOff(b *testing.B) (took []time.Duration) {
	s := begin(b, strings.Replace(web, `  container "app" {`, impatient+`
  container "app" {`, 1))
	s.apply()
	w := s.watch("--node-grace=" + grace.String()).ready()
	for range 3 {
		node := s.pods("app=web")[0].Spec.NodeName
		others := slices.DeleteFunc(s.lab.Nodes(), func(n *lab.Node) bool { return n.Name == node })
		began := time.Now()
		if err := s.lab.Node(node).Stop(b.Context()); err != nil {
			b.Fatal(err)
		}
		poll(b, time.Minute, "all pods run elsewhere", func() bool {
			n := 0
			for _, o := range others {
				for _, c := range containersOn(b, s.lab, o.Name) {
					if c.Running {
						n++
					}
				}
			}
			return n == 3
		})
		took = append(took, time.Since(began)-grace)
		if err := s.lab.Node(node).Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		poll(b, time.Minute, node+" is ready and empty", func() bool {
			return len(s.on(node, "web")) == 0 && !strings.Contains(s.ok("get", "nodes"), "NotReady")
		})
	}
	w.stop()
	s.ok("destroy", "--auto-approve", "--lock-timeout=60s") // the next story has these hosts
	slices.Sort(took)
	return took
}

// benchTakeover ends the watchdog that leads, and then one that does not move any more, and says how long nobody leads.
func benchTakeover(b *testing.B) (killed, silent []time.Duration) {
	s := begin(b, web)
	s.apply()
	first := s.watch().ready()
	next := func(end syscall.Signal) time.Duration {
		standby := s.watch()
		poll(b, time.Minute, "another stands by", func() bool { return strings.Contains(standby.stderr.String(), "standing by") })
		began := time.Now()
		if err := first.Process.Signal(end); err != nil {
			b.Fatal(err)
		}
		poll(b, time.Minute, "the other leads", func() bool { return strings.Contains(standby.stderr.String(), "msg=leads ") })
		took := time.Since(began)
		if err := first.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			b.Fatal(err)
		}
		<-first.ended
		first.ended <- nil
		first = standby.ready()
		return took
	}
	for range 5 {
		killed = append(killed, next(syscall.SIGKILL))
	}
	for range 3 {
		silent = append(silent, next(syscall.SIGSTOP))
	}
	first.stop()
	s.ok("destroy", "--auto-approve", "--lock-timeout=60s") // the next story has these hosts
	slices.Sort(killed)
	slices.Sort(silent)
	return killed, silent
}

func benchRestarts(b *testing.B) (ours, bare []time.Duration) {
	s := begin(b, many)
	s.apply("--var", "replicas=3") // the one pod of the first host is what the bare ones are made of
	loop, remove := bareRestarts(b, s, 18)
	s.apply("--var", "replicas=18")
	w := s.watch().ready()
	starts := make(chan time.Time, 100)
	killers := map[string]*killer{}
	for _, n := range s.lab.Nodes() {
		tellStarts(b, b.Context(), s.lab, n.Name, starts)
		killers[n.Name] = startKiller(b, n)
	}
	measure := func(node, id string) time.Duration {
		for len(starts) > 0 {
			<-starts
		}
		began := killers[node].kill(b, id)
		select {
		case at := <-starts:
			return at.Sub(began)
		case <-time.After(time.Minute):
			b.Fatalf("%s on %s was not restarted", id, node)
		}
		return 0
	}
	own := slices.DeleteFunc(s.containers(), func(c container) bool { return slices.Contains(loop, c.ID) })
	for i, c := range own {
		ours = append(ours, measure(c.Node, c.ID))
		bare = append(bare, measure(s.lab.Nodes()[0].Name, loop[i]))
	}
	w.stop()
	remove()
	for _, k := range killers {
		k.end(b)
	}
	s.ok("destroy", "--auto-approve") // the next story has these hosts
	b.Logf("restarts: %v\nbare: %v", ours, bare)
	slices.Sort(ours)
	slices.Sort(bare)
	return ours, bare
}

// killer is a shell on a host that is open already, so that a kill costs no process.
type killer struct {
	in  io.WriteCloser
	out *bufio.Reader
	sh  *exec.Cmd
}

func startKiller(b *testing.B, n *lab.Node) *killer {
	b.Helper()
	sh, err := n.Command(context.WithoutCancel(b.Context()), "sh", "-c", `while read -r id; do
pid=$(ctr -n k8s.io task ls | while read -r it pid _; do if [ "$it" = "$id" ]; then echo "$pid"; fi; done)
echo "$pid"; read -r _; kill -9 "$pid"
done`)
	if err != nil {
		b.Fatal(err)
	}
	in, err := sh.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := sh.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := sh.Start(); err != nil {
		b.Fatal(err)
	}
	return &killer{in, bufio.NewReader(out), sh}
}

// end ends the shell: its host may lose its power later.
func (k *killer) end(b *testing.B) {
	k.in.Close()
	if err := k.sh.Wait(); err != nil {
		b.Error(err)
	}
}

// kill ends a container's process, and returns when.
func (k *killer) kill(b *testing.B, id string) time.Time {
	b.Helper()
	fmt.Fprintln(k.in, id)
	if pid, err := k.out.ReadString('\n'); err != nil || strings.TrimSpace(pid) == "" {
		b.Fatalf("container %s has no process: %v", id, err)
	}
	began := time.Now()
	fmt.Fprintln(k.in)
	return began
}

// bareRestarts makes pods on the first host, and restarts each of their containers once in a bare loop when it hears, over SSH, of its end. It
// returns the containers' ids, and what removes the pods.
func bareRestarts(b *testing.B, s *story, n int) (ids []string, remove func()) {
	b.Helper()
	node := s.lab.Nodes()[0]
	pool := ssh.NewPool(ssh.Options{})
	host, err := pool.Host(b.Context(), &api.Node{Name: node.Name, Address: node.Address,
		SSH: api.SSH{User: "root", IdentityFile: s.lab.Identity(), KnownHostsFile: s.lab.KnownHosts(), ConfigFile: "none"}})
	if err != nil {
		b.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///containerd", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return host.Dial(ctx, "unix", "/run/containerd/containerd.sock")
		}))
	if err != nil {
		b.Fatal(err)
	}
	c := cri.NewRuntimeServiceClient(conn)
	box, ctr, err := messages(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	boxes, err := makePods(b.Context(), c, n)
	if err != nil {
		b.Fatal(err)
	}
	list, err := c.ListContainers(b.Context(), &cri.ListContainersRequest{})
	if err != nil {
		b.Fatal(err)
	}
	of := map[string]string{} // sandboxes, by container
	for _, x := range list.Containers {
		if slices.Contains(boxes, x.PodSandboxId) {
			of[x.Id], ids = x.PodSandboxId, append(ids, x.Id)
		}
	}
	stream, err := events.NewEventsClient(conn).Subscribe(metadata.AppendToOutgoingContext(b.Context(), "containerd-namespace", "k8s.io"),
		&events.SubscribeRequest{Filters: []string{`topic=="/tasks/exit"`}})
	if err != nil {
		b.Fatal(err)
	}
	ctr.LogPath, ctr.Labels, box.LogDirectory, box.Labels = "", nil, "", nil
	ctr.Metadata.Attempt = 1
	go func() { // ends with the benchmark
		for {
			e, err := stream.Recv()
			if err != nil {
				return
			}
			var m eventsapi.TaskExit
			if proto.Unmarshal(e.GetEvent().GetValue(), &m) != nil || of[m.GetID()] == "" {
				continue
			}
			box.Metadata.Uid = of[m.GetID()]
			made, err := c.CreateContainer(b.Context(), &cri.CreateContainerRequest{PodSandboxId: of[m.GetID()], Config: ctr, SandboxConfig: box})
			if err == nil {
				_, err = c.StartContainer(b.Context(), &cri.StartContainerRequest{ContainerId: made.ContainerId})
			}
			if err != nil && b.Context().Err() == nil {
				b.Error(err)
			}
		}
	}()
	return ids, func() {
		defer pool.Close()
		removePods(b, c, node, boxes)
	}
}

// tellStarts says when containerd tells that a container has started.
func tellStarts(b *testing.B, ctx context.Context, l *lab.Lab, node string, to chan<- time.Time) {
	b.Helper()
	status, err := l.Status(ctx)
	if err != nil {
		b.Fatal(err)
	}
	i := slices.IndexFunc(status, func(s lab.NodeStatus) bool { return s.Name == node })
	conn, err := grpc.NewClient(fmt.Sprintf("unix:///proc/%d/root/run/containerd/containerd.sock", status[i].Pid), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	stream, err := events.NewEventsClient(conn).Subscribe(metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "k8s.io"),
		&events.SubscribeRequest{Filters: []string{`topic=="/tasks/start"`}})
	if err != nil {
		b.Fatal(err)
	}
	go func() { // ends with ctx
		for {
			e, err := stream.Recv()
			if err != nil {
				return
			}
			var m eventsapi.TaskStart
			if proto.Unmarshal(e.GetEvent().GetValue(), &m) == nil {
				to <- time.Now()
			}
		}
	}()
}

func benchUnready(b *testing.B) []time.Duration {
	s := begin(b, moodyConfig)
	s.apply()
	w := s.watch().ready()
	pod := s.pods("app=moody")[0]
	ask := tool(b, s.lab.Node(pod.Spec.NodeName))
	say := func(path string) {
		if _, err := ask("get", fmt.Sprintf("http://%s:8080%s", pod.Status.PodIP, path)); err != nil {
			b.Fatal(err)
		}
	}
	everywhere := func(want bool) {
		var all sync.WaitGroup
		for _, n := range s.lab.Nodes() {
			all.Go(func() {
				poll(b, time.Minute, "the rules of "+n.Name, func() bool { return leads(b, n, pod.Status.PodIP) == want })
			})
		}
		all.Wait()
	}
	var took []time.Duration
	for range 6 {
		said := strings.Count(w.stderr.String(), "Readiness probe failed")
		say("/turn/off")
		poll(b, time.Minute, "the probe fails", func() bool { return strings.Count(w.stderr.String(), "Readiness probe failed") > said })
		began := time.Now()
		everywhere(false)
		took = append(took, time.Since(began))
		say("/turn/on")
		everywhere(true)
	}
	w.stop()
	s.ok("destroy", "--auto-approve") // the next story has these hosts
	slices.Sort(took)
	return took
}
