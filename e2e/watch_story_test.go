package e2e

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/internal/lab"
)

// watchdog is a berth watch that runs.
type watchdog struct {
	*running
	s       *story
	address string // of its health and metrics
}

// watch starts a watchdog that is ended, cleanly, with the story.
func (s *story) watch(args ...string) *watchdog {
	s.t.Helper()
	w := &watchdog{running: s.start(append([]string{"watch", "--listen", "127.0.0.1:0"}, args...)...), s: s}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("the watchdog said:\n%s", w.stderr)
		}
	})
	s.t.Cleanup(w.stop)
	found := regexp.MustCompile(`address"?[=:]"?([0-9.:]+)`)
	poll(s.t, time.Minute, "the watchdog's address", func() bool {
		m := found.FindStringSubmatch(w.stderr.String())
		if m != nil {
			w.address = m[1]
		}
		return m != nil || w.over()
	})
	return w
}

func (w *watchdog) over() bool {
	select {
	case err := <-w.ended:
		w.ended <- err
		return true
	default:
		return false
	}
}

// ready waits until the watchdog says that it does its work.
func (w *watchdog) ready() *watchdog {
	w.s.t.Helper()
	poll(w.s.t, time.Minute, "the watchdog is ready", func() bool {
		_, err := fetch(w.s.t.Context(), "http://"+w.address+"/readyz")
		return err == nil
	})
	poll(w.s.t, time.Minute, "all nodes are watched", func() bool {
		return strings.Count(w.metrics(), "berth_node_watched{") == len(w.s.lab.Nodes()) && !strings.Contains(w.metrics(), "} 0\nberth_node_watched") &&
			!regexp.MustCompile(`berth_node_watched\{[^}]*\} 0`).MatchString(w.metrics())
	})
	return w
}

func (w *watchdog) metrics() string {
	text, err := fetch(w.s.t.Context(), "http://"+w.address+"/metrics")
	if err != nil {
		return ""
	}
	return text
}

// stop ends it as an init system does; it must end well.
func (w *watchdog) stop() {
	w.s.t.Helper()
	if w.over() {
		return
	}
	if err := w.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) { // the end of the test's context tells it, too
		w.s.t.Error(err)
	}
	select {
	case err := <-w.ended:
		w.ended <- err
		if code := w.ProcessState.ExitCode(); code != 0 { // err may be about the test's context, which has ended
			w.s.t.Errorf("the watchdog ended with exit code %d\n%s", code, w.stderr)
		}
	case <-time.After(deadline):
		w.s.t.Error("the watchdog does not stop")
		_ = w.Process.Kill()
	}
}

// killIn ends the first process of a pod's container, from outside.
func (s *story) killIn(node, pod, container string) {
	s.t.Helper()
	for _, c := range containersOn(s.t, s.lab, node) {
		if c.Pod == pod && c.Name == container {
			sh(s.t, s.t.Context(), s.lab.Node(node), killTask(c.ID))
			return
		}
	}
	s.t.Fatalf("no container %s of %s on %s", container, pod, node)
}

func killTask(id string) string {
	return fmt.Sprintf(`ctr -n k8s.io task ls | while read -r id pid _; do if [ "$id" = %s ]; then kill -9 "$pid"; fi; done`, id)
}

// become waits until a pod is as it should be.
func (s *story) become(what, name string, so func(p *corev1.Pod) bool) corev1.Pod {
	s.t.Helper()
	var last corev1.Pod
	poll(s.t, time.Minute, what+" of "+name, func() bool {
		for _, p := range s.pods("") {
			if p.Name == name {
				last = p
				return so(&p)
			}
		}
		return false
	})
	return last
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func restarts(p *corev1.Pod) int32 {
	n := int32(0)
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

// leads reports whether a node's service rules lead to an address.
func leads(t testing.TB, n *lab.Node, ip string) bool {
	t.Helper()
	return strings.Contains(sh(t, t.Context(), n, "iptables-save -t nat"), "--to-destination "+ip+":")
}
