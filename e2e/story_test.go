package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/internal/lab"
)

// story is one configuration in a directory of its own, the hosts it is about, and the berth that works in it.
type story struct {
	t   testing.TB
	lab *lab.Lab
	dir string
	env []string // added to the environment
}

// begin writes a configuration, with the inventory and the image "app" already in it, and destroys it at the end.
func begin(t testing.TB, config string) *story {
	t.Helper()
	l := theLab(t)
	s := &story{t: t, lab: l, dir: t.TempDir()}
	s.write("inventory.hcl", fmt.Sprintf("inventory \"toml\" {\n  path = %q\n}\n", l.Inventory()))
	s.write("image.hcl", fmt.Sprintf(`
variable "release" {
  type    = string
  default = "1"
}

image "app" {
  base       = "scratch"
  entrypoint = ["/app"]
  env        = { VERSION = var.release }

  copy "/app" {
    from = %q
  }
}
`, programs.app))
	if !strings.Contains(config, "cluster {") {
		s.write("cluster.hcl", "berth {\n  cluster {\n  }\n}\n")
	}
	s.write("main.hcl", config)
	t.Cleanup(s.end)
	return s
}

// end destroys what the story applied. A lab that is not clean then is of no use to the next story.
func (s *story) end() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 5*time.Minute)
	defer cancel()
	if s.t.Failed() {
		s.dump(ctx)
	}
	if out := s.do(ctx, "destroy", "--auto-approve"); out.code != 0 {
		s.t.Errorf("destroy at the end: exit code %d\n%s", out.code, out)
		spoil(s.t)
		return
	}
	for _, n := range s.lab.Nodes() {
		if left := traces(s.t, ctx, n); left != "" {
			s.t.Errorf("left on %s after destroy:\n%s", n.Name, left)
			spoil(s.t)
			return
		}
	}
}

// dump tells what a failed story looked like, for whoever reads the log.
func (s *story) dump(ctx context.Context) {
	s.t.Logf("berth get pods:\n%s", s.do(ctx, "get", "pods", "-A", "-o", "wide"))
}

// write puts a file into the configuration's directory. A cluster block without a word about DNS has none: most stories do without, and
// count the pods of their hosts.
func (s *story) write(name, text string) {
	s.t.Helper()
	if strings.HasSuffix(name, ".hcl") && !strings.Contains(text, "dns {") {
		text = strings.Replace(text, "cluster {\n", "cluster {\n    dns {\n      enabled = false\n    }\n\n", 1)
	}
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// script puts a program for sh into the configuration's directory.
func (s *story) script(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// read returns a file of the configuration's directory.
func (s *story) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// outcome is what a finished berth left behind.
type outcome struct {
	args           []string
	stdout, stderr string
	code           int
	took           time.Duration
}

func (o outcome) String() string {
	return fmt.Sprintf("$ berth %s   [exit code %d after %.1fs]\n%s%s", strings.Join(o.args, " "), o.code, o.took.Seconds(), o.stdout, o.stderr)
}

// run runs berth and returns whatever came of it.
func (s *story) run(args ...string) outcome {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	return s.do(ctx, args...)
}

func (s *story) do(ctx context.Context, args ...string) outcome {
	start := time.Now()
	cmd := s.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	o := outcome{args, stdout.String(), stderr.String(), cmd.ProcessState.ExitCode(), time.Since(start)}
	if p := cmd.ProcessState; p != nil {
		costs.ran(s.t, o.took, p.UserTime()+p.SystemTime())
	}
	if err != nil && cmd.ProcessState == nil {
		o.code, o.stderr = -1, err.Error()
	}
	return o
}

// command prepares a run of berth; SIGTERM ends it when the context does, so that it can still release its lock.
func (s *story) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, programs.berth, args...)
	cmd.Dir = s.dir
	cmd.Env = append(append(os.Environ(), "NO_COLOR=1", "BERTH_IN_AUTOMATION=1"), s.env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// ok runs berth, which must succeed, and returns its standard output.
func (s *story) ok(args ...string) string {
	s.t.Helper()
	o := s.run(args...)
	if o.code != 0 {
		s.t.Fatalf("%s", o)
	}
	return o.stdout
}

// fails runs berth, which must end with exit code 1 and say each of the words on standard error.
func (s *story) fails(words []string, args ...string) outcome {
	s.t.Helper()
	o := s.run(args...)
	if o.code != 1 {
		s.t.Fatalf("exit code %d, want 1\n%s", o.code, o)
	}
	s.says(o.stderr, words...)
	return o
}

// says checks that a text, however it is wrapped, has all these words in it.
func (s *story) says(text string, words ...string) {
	s.t.Helper()
	flat := strings.Join(strings.Fields(text), " ")
	for _, w := range words {
		if !strings.Contains(flat, w) {
			s.t.Errorf("%q is missing in:\n%s", w, text)
		}
	}
}

// apply applies without asking; it must succeed.
func (s *story) apply(args ...string) string {
	s.t.Helper()
	return s.ok(append([]string{"apply", "--auto-approve"}, args...)...)
}

// settled checks that there is nothing more to do.
func (s *story) settled(args ...string) {
	s.t.Helper()
	if o := s.run(append([]string{"plan", "--detailed-exitcode"}, args...)...); o.code != 0 {
		s.t.Fatalf("the plan after apply is not empty:\n%s", o)
	}
}

// running is a berth that has not ended yet.
type running struct {
	*exec.Cmd
	stdout, stderr *tail
	ended          chan error
}

// start runs berth without waiting for it.
func (s *story) start(args ...string) *running {
	s.t.Helper()
	r := &running{Cmd: s.command(s.t.Context(), args...), stdout: newTail(), stderr: newTail(), ended: make(chan error, 1)}
	r.Stdout, r.Stderr = r.stdout, r.stderr
	if err := r.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { r.ended <- r.Wait() }()
	return r
}

// wait returns what came of it.
func (r *running) wait(t *testing.T) outcome {
	t.Helper()
	select {
	case err := <-r.ended:
		r.ended <- err
	case <-time.After(5 * time.Minute):
		t.Fatalf("still running: %s\n%s%s", r.Args, r.stdout, r.stderr)
	}
	return outcome{args: r.Args[1:], stdout: r.stdout.String(), stderr: r.stderr.String(), code: r.ProcessState.ExitCode()}
}

// until waits until berth has printed a text n times, or has ended.
func (r *running) until(t *testing.T, text string, n int) {
	t.Helper()
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		out := r.stdout.String() + r.stderr.String()
		if strings.Count(out, text) >= n {
			return
		}
		select {
		case err := <-r.ended:
			r.ended <- err
			return
		default:
		}
		if time.Now().After(limit) {
			t.Fatalf("%q does not come %d times in the output of %s:\n%s", text, n, r.Args[1:], out)
		}
	}
}

// tail collects what a process writes while others read it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func newTail() *tail { return &tail{} }

func (t *tail) Write(p []byte) (int, error) { t.mu.Lock(); defer t.mu.Unlock(); return t.b.Write(p) }
func (t *tail) String() string              { t.mu.Lock(); defer t.mu.Unlock(); return t.b.String() }

// poll waits until something is so, for as long as a machine may take that has much else to do.
func poll(t testing.TB, limit time.Duration, what string, so func() bool) {
	t.Helper()
	limit = max(limit, deadline)
	for deadline := time.Now().Add(limit); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// pods lists the pods of the default namespace as `berth get` shows them, by name.
func (s *story) pods(selector string) []corev1.Pod {
	s.t.Helper()
	return s.podsIn("default", selector)
}

func (s *story) podsIn(namespace, selector string) []corev1.Pod {
	s.t.Helper()
	var list corev1.PodList
	out := s.ok("get", "pods", "-n", namespace, "-l", selector, "-o", "json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		s.t.Fatalf("get pods: %v\n%s", err, out)
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return list.Items
}

func names(pods []corev1.Pod) []string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return out
}

func nodesOf(pods []corev1.Pod) []string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Spec.NodeName)
	}
	slices.Sort(out)
	return out
}

// exec runs a command in a pod; it must succeed.
func (s *story) exec(pod string, command ...string) string {
	s.t.Helper()
	return s.ok(append([]string{"exec", pod, "--"}, command...)...)
}

// fetch gets a page from outside the hosts.
func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return strings.TrimSpace(string(body)), err
}

// answers checks that a page comes from outside, in the given version, through the port of every node.
func (s *story) answers(port int, version string) {
	s.t.Helper()
	for _, n := range s.lab.Nodes() {
		body, err := fetch(s.t.Context(), fmt.Sprintf("http://%s:%d/", n.Address, port))
		if err != nil || !strings.HasPrefix(body, version+" ") {
			s.t.Errorf("through node %s: %q, %v; want version %s", n.Name, body, err, version)
		}
	}
}
