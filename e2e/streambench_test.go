package e2e

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/providers/runtime"
)

const benchStream = `
workload "deployment" "bench" {
  labels = { app = "bench" }

  container "give" {
    image = image.app.ref
    args  = ["give", "127.0.0.1:9000", "500000000"]
  }

  container "lines" {
    image = image.app.ref
    args  = ["numbers", "2000000", "0s", "stay"]
  }
}
`

// BenchmarkStreams measures what looking into a pod costs, against the floor of bare ssh to the same host.
//
//	exec-ms        a command in a container over an open connection, median of 20
//	ssh-ms         the same program by ssh, a process each, over a connection that is open (ControlMaster)
//	berth-exec-ms  the whole of `berth exec`: process, connection, command
//	ssh-new-ms     the whole of `ssh HOST PROGRAM`
//	logs-mbs       `berth logs` of 2 million lines: MB of the log's file a second
//	cat-mbs        the same file by `ssh HOST cat`
//	cp-mbs         `berth cp` of 500 MB out of a container without tar
//	scp-mbs        the same file by `ssh HOST cat`
//	forward-mbs    500 MB through `berth port-forward`
func BenchmarkStreams(b *testing.B) {
	for b.Loop() {
		s := begin(b, benchStream)
		s.apply()
		pod := s.pods("app=bench")[0]
		i := slices.IndexFunc(s.lab.Nodes(), func(n *lab.Node) bool { return n.Name == pod.Spec.NodeName })
		node := s.lab.Nodes()[i]
		control := filepath.Join(b.TempDir(), "control")
		bare := func(args ...string) *exec.Cmd {
			return exec.Command("ssh", append([]string{"-F", s.lab.SSHConfig(), "-o", "BatchMode=yes", node.Name}, args...)...)
		}
		shared := func(args ...string) *exec.Cmd {
			return exec.Command("ssh", append([]string{"-F", s.lab.SSHConfig(), "-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-S", control, node.Name}, args...)...)
		}
		defer exec.Command("ssh", "-S", control, "-O", "exit", node.Name).Run()

		pool := ssh.NewPool(ssh.Options{})
		host, err := pool.Host(b.Context(), &api.Node{Name: node.Name, Address: node.Address,
			SSH: api.SSH{User: "root", IdentityFile: s.lab.Identity(), KnownHostsFile: s.lab.KnownHosts(), ConfigFile: "none"}})
		if err != nil {
			b.Fatal(err)
		}
		seen, err := runtime.Find(b.Context(), host, string(pod.UID))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(median(b, 20, func() error {
			_, err := runtime.Exec(b.Context(), host, runtime.ExecOptions{ContainerID: seen.Containers[0].ID, Command: []string{"/app", "env"}, Stdout: io.Discard})
			return err
		}), "exec-ms")
		pool.Close()
		b.ReportMetric(median(b, 20, func() error { return shared("env").Run() }), "ssh-ms")
		b.ReportMetric(median(b, 5, func() error { return s.command(b.Context(), "exec", pod.Name, "--", "/app", "env").Run() }), "berth-exec-ms")
		b.ReportMetric(median(b, 5, func() error { return bare("env").Run() }), "ssh-new-ms")

		poll(b, time.Minute, "all lines", func() bool {
			return strings.Contains(s.ok("logs", pod.Name, "-c", "lines", "--tail", "1"), "number 1999999")
		})
		dir := api.PodLogsDir + "/default_" + pod.Name + "_" + string(pod.UID) + "/lines/0.log"
		var size int64
		fmt.Sscan(sh(b, b.Context(), node, "stat -c %s "+dir), &size)
		b.ReportMetric(rate(b, size, func() error { return s.command(b.Context(), "logs", pod.Name, "-c", "lines").Run() }), "logs-mbs")
		b.ReportMetric(rate(b, size, func() error { return bare("cat", dir).Run() }), "cat-mbs")

		s.exec(pod.Name, "/app", "fill", "/big", "500000000")
		sh(b, b.Context(), node, "head -c 500000000 /dev/urandom >/tmp/big")
		to := filepath.Join(b.TempDir(), "big")
		b.ReportMetric(rate(b, 500_000_000, func() error { return s.command(b.Context(), "cp", pod.Name+":/big", to).Run() }), "cp-mbs")
		b.ReportMetric(rate(b, 500_000_000, func() error {
			return exec.Command("sh", "-c", `exec "$@" >"$0"`, to, "ssh", "-F", s.lab.SSHConfig(), node.Name, "cat", "/tmp/big").Run()
		}), "scp-mbs")
		sh(b, b.Context(), node, "rm /tmp/big")
		b.ReportMetric(forwardRate(b, s, pod.Name), "forward-mbs")
	}
}

func forwardRate(b *testing.B, s *story, pod string) float64 {
	r := s.start("port-forward", pod, ":9000", "--address", "127.0.0.1")
	defer func() { _ = r.Process.Kill() }()
	poll(b, time.Minute, "a port", func() bool { return strings.Contains(r.stdout.String(), "->") })
	_, rest, _ := strings.Cut(r.stdout.String(), "Forwarding from ")
	address, _, _ := strings.Cut(rest, " ")
	return rate(b, 500_000_000, func() error {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer c.Close()
		n, err := io.Copy(io.Discard, c)
		if err == nil && n != 500_000_000 {
			err = fmt.Errorf("%d bytes came", n)
		}
		return err
	})
}

// median is the middle of so many times, in milliseconds.
func median(b *testing.B, n int, do func() error) float64 {
	b.Helper()
	var times []time.Duration
	for range n {
		start := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return float64(times[n/2].Microseconds()) / 1000
}

// rate is the best of three, in MB a second.
func rate(b *testing.B, bytes int64, do func() error) float64 {
	b.Helper()
	best := time.Hour
	for range 3 {
		start := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	return float64(bytes) / 1e6 / best.Seconds()
}
