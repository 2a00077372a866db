package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	events "github.com/containerd/containerd/api/services/events/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"berth.dev/berth/internal/lab"
)

// BenchmarkWatch measures how soon a watchdog acts, on hosts of one machine: from the kill of a container's process until containerd tells that the
// new one has started, at a first failure; and from the failure of a readiness probe until no
// node of three has rules that lead to the pod.
//
//	restart-ms      the median of the first failures of 18 pods, one after the other
//	restart-p90-ms  nine in ten are not slower
//	unready-ms      the median of 6 losses of readiness
func BenchmarkWatch(b *testing.B) {
	for b.Loop() {
		restarts := benchRestarts(b)
		b.ReportMetric(float64(restarts[len(restarts)/2].Milliseconds()), "restart-ms")
		b.ReportMetric(float64(restarts[len(restarts)*9/10].Milliseconds()), "restart-p90-ms")
		unready := benchUnready(b)
		b.ReportMetric(float64(unready[len(unready)/2].Milliseconds()), "unready-ms")
	}
}

func benchRestarts(b *testing.B) []time.Duration {
	s := begin(b, many)
	s.apply("--var", "replicas=18")
	w := s.watch().ready()
	starts := make(chan time.Time, 100)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	for _, n := range s.lab.Nodes() {
		tellStarts(b, ctx, s.lab, n.Name, starts)
	}
	var took []time.Duration
	for _, c := range s.containers() {
		for len(starts) > 0 {
			<-starts
		}
		n := s.lab.Node(c.Node)
		pid := sh(b, ctx, n, fmt.Sprintf(`ctr -n k8s.io task ls | while read -r id pid _; do if [ "$id" = %s ]; then echo "$pid"; fi; done`, c.ID))
		kill, err := n.Command(ctx, "kill", "-9", pid)
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if err := kill.Run(); err != nil {
			b.Fatal(err)
		}
		select {
		case at := <-starts:
			took = append(took, at.Sub(began))
		case <-time.After(time.Minute):
			b.Fatalf("%s of %s was not restarted", c.Name, c.Pod)
		}
	}
	w.stop()
	s.ok("destroy", "--auto-approve") // the next story has these hosts
	b.Logf("restarts: %v", took)
	slices.Sort(took)
	return took
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
	defer w.stop()
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
	slices.Sort(took)
	return took
}
