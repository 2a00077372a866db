package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The folders of a host that a restart writes to: containerd's records of containers, and the logs of a pod's container.
const (
	criRecords = "/var/lib/containerd/io.containerd.grpc.v1.cri/containers"
	logsOf     = "/var/log/pods/default_%s_%s/app"
)

// A container that ends on a node whose disk is full cannot be started again: the watchdog says so and why, tries again with pauses, keeps the pod out of
// its services, and goes on with all others. When there is room again the pod runs, without anybody's doing.
func TestWatchOnAFullDisk(t *testing.T) {
	s := begin(t, web)
	s.apply()
	w := s.watch().ready()
	pods := s.pods("app=web")
	full, other := pods[0], pods[1]
	n := s.lab.Node(full.Spec.NodeName)
	dirs := []string{criRecords, fmt.Sprintf(logsOf, full.Name, full.UID)}
	for _, dir := range dirs { // there is room for nothing but the folder itself
		afterwards(t, n, "mountpoint -q "+dir+" && umount "+dir+" || true")
		sh(t, t.Context(), n, "mount -t tmpfs -o nr_inodes=1 tmpfs "+dir)
	}
	s.killIn(n.Name, full.Name, "app")
	began := time.Now()
	poll(t, time.Minute, "the events tell", func() bool {
		return strings.Contains(s.ok("events", "--for", "pod/"+full.Name), "no space left on device")
	})
	for _, n := range s.lab.Nodes() {
		poll(t, time.Minute, "no rule of "+n.Name+" leads to the pod", func() bool { return !leads(t, n, full.Status.PodIP) })
	}
	s.answers(webPort, "1")
	s.killIn(other.Spec.NodeName, other.Name, "app")
	s.become("the restart", other.Name, func(p *corev1.Pod) bool { return restarts(p) == 1 && isReady(p) })
	said, took := strings.Count(w.stderr.String(), "\n"), time.Since(began)
	t.Logf("%d lines of log in %s", said, took.Round(time.Second))
	if most := 50 + 5*int(took.Seconds()); said > most { // without pauses it would be hundreds in a second
		t.Errorf("it says %d lines in %s", said, took)
	}

	for _, dir := range dirs {
		sh(t, t.Context(), n, "umount "+dir)
	}
	s.become("the restart", full.Name, func(p *corev1.Pod) bool { return restarts(p) > 0 && isReady(p) })
	for _, n := range s.lab.Nodes() {
		poll(t, time.Minute, "the rules of "+n.Name+" lead to the pod", func() bool { return leads(t, n, full.Status.PodIP) })
	}
	s.exactly(names(pods))
	poll(t, time.Minute, "there is nothing left to apply", func() bool { return s.run("plan", "--detailed-exitcode").code == 0 })
}
