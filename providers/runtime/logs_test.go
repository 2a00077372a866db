package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/internal/testimage"
	"berth.dev/berth/providers/runtime"
)

func (j *job) ref() runtime.PodRef {
	return runtime.PodRef{Namespace: j.pod.Namespace, Name: j.pod.Name, UID: string(j.pod.UID)}
}

func (j *job) logs(o runtime.LogsOptions) (string, error) {
	o.Pod, o.Container = j.ref(), "app"
	var out strings.Builder
	err := runtime.Logs(j.t.Context(), j.f, o, &out)
	return out.String(), err
}

func TestLogs(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "lines", "3")
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	j := f.take(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	tests := []struct {
		name string
		o    runtime.LogsOptions
		want string
	}{
		{"all", runtime.LogsOptions{}, "line 0\nline 1\nline 2\n"},
		{"tail", runtime.LogsOptions{Tail: new(int64(2))}, "line 1\nline 2\n"},
		{"tail of nothing", runtime.LogsOptions{Tail: new(int64(0))}, ""},
		{"since later", runtime.LogsOptions{Since: time.Now().Add(time.Hour)}, ""},
		{"since before", runtime.LogsOptions{Since: time.Now().Add(-time.Hour)}, "line 0\nline 1\nline 2\n"},
		{"follow what has ended", runtime.LogsOptions{Follow: true}, "line 0\nline 1\nline 2\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := j.logs(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	got, err := j.logs(runtime.LogsOptions{Timestamps: true, Tail: new(int64(1))})
	stamp, rest, _ := strings.Cut(got, " ")
	if _, perr := time.Parse(time.RFC3339Nano, stamp); perr != nil || err != nil || rest != "line 2\n" {
		t.Errorf("with timestamps: %q, %v", got, err)
	}
	if _, err := j.logs(runtime.LogsOptions{Previous: true}); err == nil || err.Error() != `previous terminated container "app" in pod "testlogs" not found` {
		t.Errorf("previous: %v", err)
	}
}

func TestLogsOfPreviousAndLongLines(t *testing.T) {
	f := host(t)
	j := f.take(t, f.pod(t, "long", "50000"))
	j.must(api.OpPodEnsure)
	if _, err := j.apply(t.Context(), api.OpPodReady); err == nil {
		t.Fatal("a container that ends was taken for ready")
	}
	for _, previous := range []bool{false, true} {
		got, err := j.logs(runtime.LogsOptions{Previous: previous})
		if want := strings.Repeat("x", 50000) + "\n"; err != nil || got != want {
			t.Errorf("previous %t: %d bytes, %v", previous, len(got), err)
		}
	}
}

// buffer may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }
func (b *buffer) String() string              { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

func TestLogsFollowAcrossRotation(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "lines", "60", "40ms")
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	j := f.take(t, pod)
	j.must(api.OpPodEnsure)
	var out buffer
	done := make(chan error, 1)
	go func() {
		done <- runtime.Logs(t.Context(), f, runtime.LogsOptions{Pod: j.ref(), Container: "app", Follow: true}, &out)
	}()
	f.eventually(t, "the first lines", func() bool { return strings.Contains(out.String(), "line 5\n") })
	f.sh(t, `mv "$1/0.log" "$1/0.log.20260101-000000"`, api.PodLogsDir+"/default_"+pod.Name+"_"+string(pod.UID)+"/app")
	if _, err := f.cri.Runtime.ReopenContainerLog(t.Context(), &runtimev1.ReopenContainerLogRequest{ContainerId: j.id("app")}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 60 || lines[59] != "line 59" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestLogsFollowEndsWithContext(t *testing.T) {
	f := host(t)
	j := f.take(t, f.pod(t))
	j.must(api.OpPodEnsure)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var out buffer
	if err := runtime.Logs(ctx, f, runtime.LogsOptions{Pod: j.ref(), Container: "app", Follow: true}, &out); err != nil {
		t.Errorf("the end of the context is no error: %v", err)
	}
	_, err := j.logs(runtime.LogsOptions{})
	if err != nil {
		t.Error(err)
	}
	o := runtime.LogsOptions{Pod: j.ref(), Container: "nobody"}
	if e, ok := errors.AsType[*runtime.NoLogError](runtime.Logs(t.Context(), f, o, &out)); !ok || !strings.Contains(e.Reason, "is not available") {
		t.Errorf("no such container: %v", e)
	}
}

func TestExec(t *testing.T) {
	f := host(t)
	j := f.take(t, f.pod(t))
	j.must(api.OpPodEnsure)
	id := j.id("app")
	tests := []struct {
		name        string
		args        []string
		stdin       string
		code        int
		out, errOut string
	}{
		{"output", []string{"echo", "hello", "0"}, "", 0, "hello\n", ""},
		{"exit code", []string{"crash", "42", "so it is"}, "", 42, "", "so it is\n"},
		{"input to its end", []string{"copy"}, strings.Repeat("abc\n", 100000), 0, strings.Repeat("abc\n", 100000), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs strings.Builder
			o := runtime.ExecOptions{ContainerID: id, Command: append([]string{testimage.Program}, tt.args...), Stdout: &out, Stderr: &errs}
			if tt.stdin != "" {
				o.Stdin = strings.NewReader(tt.stdin)
			}
			code, err := runtime.Exec(t.Context(), f, o)
			if err != nil || code != tt.code || out.String() != tt.out || errs.String() != tt.errOut {
				t.Errorf("%d %v, %d bytes of output, %q", code, err, out.Len(), errs.String())
			}
		})
	}
	if _, err := runtime.Exec(t.Context(), f, runtime.ExecOptions{ContainerID: id, Command: []string{"/nothing"}, Stdout: &buffer{}}); err == nil {
		t.Error("a command that is not there was run")
	}
	if _, err := runtime.Exec(t.Context(), f, runtime.ExecOptions{ContainerID: "nobody", Command: []string{"/program"}, Stdout: &buffer{}}); err == nil {
		t.Error("a command was run in a container that is not there")
	}
}

func TestExecTerminal(t *testing.T) {
	f := host(t)
	j := f.take(t, f.pod(t))
	j.must(api.OpPodEnsure)
	var out buffer
	sizes := make(chan runtime.TerminalSize, 1)
	sizes <- runtime.TerminalSize{Width: 100, Height: 40}
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	stdin, close := context.WithCancel(t.Context())
	defer close()
	go func() {
		code, err := runtime.Exec(t.Context(), f, runtime.ExecOptions{
			ContainerID: j.id("app"), Command: []string{testimage.Program, "size"}, TTY: true, Stdin: silent{stdin}, Stdout: &out, Resize: sizes,
		})
		done <- result{code, err}
	}()
	f.eventually(t, "the first size", func() bool { return strings.Contains(out.String(), "100x40") })
	sizes <- runtime.TerminalSize{Width: 33, Height: 77}
	f.eventually(t, "the second size", func() bool { return strings.Contains(out.String(), "33x77") })
	sizes <- runtime.TerminalSize{Width: 1, Height: 1}
	if r := <-done; r.err != nil || r.code != 7 {
		t.Errorf("ended with %d, %v; output %q", r.code, r.err, out.String())
	}
}

// silent is an input on which nobody types.
type silent struct{ ctx context.Context }

func (s silent) Read([]byte) (int, error) { <-s.ctx.Done(); return 0, s.ctx.Err() }
