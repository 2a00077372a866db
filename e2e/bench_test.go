package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/internal/lab"
)

const benchPods = 60

const many = `
variable "replicas" {
  type    = number
  default = 0
}

workload "deployment" "many" {
  labels   = { app = "many" }
  replicas = var.replicas

  strategy {
    rolling_update {
      max_surge       = "100%"
      max_unavailable = "100%"
    }
  }

  container "app" {
    image = image.app.ref
  }
}
`

// BenchmarkApply60Pods measures a whole `berth apply` that adds 60 pods to three hosts, against the floor: the same CRI
// calls with the same messages, over the same kind of SSH connection, as many at once, in a bare loop. The
// images are on the hosts already, and so is the network. Both are run in turn, and the best of each counts.
//
//	apply-s    seconds of the apply, from the start of the program to its end
//	floor-s    seconds of the bare loop
//	ratio      of the two
//	cpu-ratio  of the processor time that hosts and program have used: a busy machine changes it little
//	first-s    seconds of a first apply of as many pods on hosts that have nothing of Berth
func BenchmarkApply60Pods(b *testing.B) {
	for b.Loop() {
		first := benchFirst(b)
		apply, floor := benchWarm(b)
		b.ReportMetric(first.wall.Seconds(), "first-s")
		b.ReportMetric(apply.wall.Seconds(), "apply-s")
		b.ReportMetric(floor.wall.Seconds(), "floor-s")
		b.ReportMetric(apply.wall.Seconds()/floor.wall.Seconds(), "ratio")
		b.ReportMetric(apply.cpu.Seconds()/floor.cpu.Seconds(), "cpu-ratio")
	}
}

// cost is what something took.
type cost struct{ wall, cpu time.Duration }

func (c cost) best(o cost) cost { return cost{min(c.wall, o.wall), min(c.cpu, o.cpu)} }

// measure runs something and counts the processor time of all hosts, of this process and of those that it waited for.
func (s *story) measure(do func()) cost {
	s.t.Helper()
	cpu := func() (sum time.Duration) {
		for _, n := range s.lab.Nodes() {
			used, err := n.CPUTime()
			if err != nil {
				s.t.Fatal(err)
			}
			sum += used
		}
		for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
			var r syscall.Rusage
			if err := syscall.Getrusage(who, &r); err != nil {
				s.t.Fatal(err)
			}
			sum += time.Duration(r.Utime.Nano() + r.Stime.Nano())
		}
		return sum
	}
	before, start := cpu(), time.Now()
	do()
	return cost{time.Since(start), cpu() - before}
}

func benchFirst(b *testing.B) cost {
	s := begin(b, many)
	defer s.ok("destroy", "--auto-approve")
	return s.measure(func() { s.scale(benchPods) })
}

func benchWarm(b *testing.B) (apply, floor cost) {
	s := begin(b, many)
	defer s.ok("destroy", "--auto-approve")
	forever := cost{time.Hour, time.Hour}
	apply, floor = forever, forever
	for range 5 {
		s.scale(3)
		remove := func() {}
		f := s.measure(func() { remove = bareLoop(b, s, benchPods) })
		remove()
		a := s.measure(func() { s.scale(3 + benchPods) })
		b.Logf("apply %v, floor %v", a, f)
		apply, floor = apply.best(a), floor.best(f)
	}
	return apply, floor
}

func (s *story) scale(replicas int) {
	s.t.Helper()
	s.ok("apply", "--auto-approve", "--var", fmt.Sprintf("replicas=%d", replicas))
}

// bareLoop makes pods as the one that runs on each host, and returns what removes them again.
func bareLoop(b *testing.B, s *story, pods int) (remove func()) {
	b.Helper()
	pool := ssh.NewPool(ssh.Options{})
	var hosts errgroup.Group
	nodes := s.lab.Nodes()
	made := make([][]string, len(nodes))
	clients := make([]cri.RuntimeServiceClient, len(nodes))
	for i, n := range nodes {
		hosts.Go(func() (err error) {
			host, err := pool.Host(b.Context(), &api.Node{Name: n.Name, Address: n.Address,
				SSH: api.SSH{User: "root", IdentityFile: s.lab.Identity(), KnownHostsFile: s.lab.KnownHosts(), ConfigFile: "none"}})
			if err != nil {
				return err
			}
			conn, err := grpc.NewClient("passthrough:///containerd", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					return host.Dial(ctx, "unix", "/run/containerd/containerd.sock")
				}))
			if err != nil {
				return err
			}
			clients[i] = cri.NewRuntimeServiceClient(conn)
			made[i], err = makePods(b.Context(), clients[i], pods/len(nodes))
			return err
		})
	}
	if err := hosts.Wait(); err != nil {
		b.Fatal(err)
	}
	return func() {
		defer pool.Close()
		for i, c := range clients {
			removePods(b, c, nodes[i], made[i])
		}
	}
}

// removePods removes what makePods has made on a host.
func removePods(b *testing.B, c cri.RuntimeServiceClient, n *lab.Node, ids []string) {
	b.Helper()
	for _, id := range ids {
		if _, err := c.RemovePodSandbox(b.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
			b.Fatal(err)
		}
	}
	sh(b, b.Context(), n, `rm -rf /var/log/pods/floor-*; find /sys/fs/cgroup -depth -type d -name 'podfloor-*' -exec rmdir {} +`)
}

// makePods repeats the messages that made the host's first pod, under other names, with cgroups and logs of their own, and waits as
// Berth does until each container runs.
func makePods(ctx context.Context, c cri.RuntimeServiceClient, n int) ([]string, error) {
	box, ctr, err := messages(ctx, c)
	if err != nil {
		return nil, err
	}
	ids := make([]string, n)
	var group errgroup.Group
	group.SetLimit(2 * runtime.NumCPU()) // as many as Berth does at once on one host
	for i := range n {
		group.Go(func() error {
			box, ctr := proto.CloneOf(box), proto.CloneOf(ctr)
			box.Metadata.Name = fmt.Sprintf("floor-%d", i)
			box.Metadata.Uid = fmt.Sprintf("floor-%d", i)
			box.LogDirectory = "/var/log/pods/" + box.Metadata.Name
			box.Linux.CgroupParent = path.Join(path.Dir(box.Linux.CgroupParent), "pod"+box.Metadata.Name)
			box.Labels, ctr.Labels = nil, nil // they are nobody's
			run, err := c.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: box})
			if err != nil {
				return err
			}
			ids[i] = run.PodSandboxId
			if _, err := c.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: run.PodSandboxId}); err != nil {
				return err
			}
			created, err := c.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: run.PodSandboxId, Config: ctr, SandboxConfig: box})
			if err != nil {
				return err
			}
			if _, err := c.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: created.ContainerId}); err != nil {
				return err
			}
			_, err = c.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: created.ContainerId})
			return err
		})
	}
	return ids, group.Wait()
}

// messages reads back what Berth sent for the host's pod.
func messages(ctx context.Context, c cri.RuntimeServiceClient) (*cri.PodSandboxConfig, *cri.ContainerConfig, error) {
	list, err := c.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return nil, nil, err
	}
	if len(list.Containers) != 1 {
		return nil, nil, fmt.Errorf("%d containers on the host, want the one to copy", len(list.Containers))
	}
	boxStatus, err := c.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: list.Containers[0].PodSandboxId, Verbose: true})
	if err != nil {
		return nil, nil, err
	}
	ctrStatus, err := c.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: list.Containers[0].Id, Verbose: true})
	if err != nil {
		return nil, nil, err
	}
	box, ctr := &cri.PodSandboxConfig{}, &cri.ContainerConfig{}
	if err := readConfig(boxStatus.Info["info"], box); err != nil {
		return nil, nil, err
	}
	return box, ctr, readConfig(ctrStatus.Info["info"], ctr)
}

// readConfig takes the member "config" out of containerd's verbose answer, which is Go's JSON of the message.
func readConfig(info string, into proto.Message) error {
	var v struct{ Config json.RawMessage }
	if err := json.NewDecoder(strings.NewReader(info)).Decode(&v); err != nil {
		return err
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(v.Config, into)
}
