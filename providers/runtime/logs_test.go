package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
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
	got, err := j.logs(runtime.LogsOptions{Tail: new(int64(1)), Format: runtime.LogFormat{Timestamps: true}})
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
	pod := f.pod(t, "long", "50000")
	neverReady(pod)
	j := f.take(t, pod)
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

// A followed log that is rotated again and again, with files that are compressed and deleted, comes whole.
func TestLogsFollowAcrossRotation(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "lines", "100", "20ms")
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	j := f.take(t, pod)
	j.must(api.OpPodEnsure)
	var out buffer
	done := make(chan error, 1)
	go func() {
		done <- runtime.Logs(t.Context(), f, runtime.LogsOptions{Pod: j.ref(), Container: "app", Follow: true}, &out)
	}()
	rotated := 0
	now := time.Now()
	for _, seen := range []string{"line 5\n", "line 30\n", "line 60\n"} {
		f.eventually(t, seen, func() bool { return strings.Contains(out.String(), seen) })
		n, err := runtime.RotateLogs(t.Context(), f, &providers.Work{}, runtime.Rotation{MaxBytes: 1, MaxFiles: 3}, now.Add(time.Duration(rotated)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		rotated += len(n)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := numbered(0, 100); out.String() != want {
		t.Errorf("got %q", out.String())
	}
	dir := api.PodLogsDir + "/default_" + pod.Name + "_" + string(pod.UID) + "/app"
	if names := strings.Fields(f.sh(t, `ls "$1"`, dir)); rotated != 3 || len(names) != 3 || !strings.HasSuffix(names[1], ".gz") {
		t.Errorf("rotated %d times; there are %q", rotated, names)
	}
	f.sh(t, `grep -q "line 99" "$1/0.log"`, dir) // containerd writes to the new file
	if got, err := j.logs(runtime.LogsOptions{Tail: new(int64(50))}); err != nil || got != numbered(50, 100) {
		t.Errorf("the last fifty, across files: %q, %v", got, err)
	}
	if n, err := runtime.RotateLogs(t.Context(), f, &providers.Work{}, runtime.Rotation{}, now); len(n) != 0 || err != nil {
		t.Errorf("small logs were rotated: %q, %v", n, err)
	}
}

func numbered(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintln(&b, "line", i)
	}
	return b.String()
}

// Following goes on with the runs that come after one that ended, and ends with the pod.
func TestLogsFollowAcrossRestarts(t *testing.T) {
	f := host(t)
	j := f.take(t, f.pod(t, "lines", "10", "20ms"))
	j.must(api.OpPodEnsure)
	var out buffer
	var told atomic.Int32
	done := make(chan error, 1)
	go func() {
		done <- runtime.Logs(t.Context(), f, runtime.LogsOptions{
			Pod: j.ref(), Container: "app", Follow: true, Again: func(code int32) bool { return true }, Waiting: func(int32) { told.Add(1) },
		}, &out)
	}()
	for run := 1; run <= 3; run++ {
		f.eventually(t, "the end of a run", func() bool {
			return strings.Count(out.String(), "line 9\n") == run && j.seen().Containers[0].State == api.ContainerExited
		})
		if run == 2 {
			f.eventually(t, "a word that it waits", func() bool { return told.Load() == 1 })
		}
		if run < 3 {
			j.must(api.OpPodEnsure)
		}
	}
	j.must(api.OpPodRemove)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat(numbered(0, 10), 3); out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

// The limit counts bytes, also within a line, and ends following.
func TestLogsLimit(t *testing.T) {
	f := host(t)
	j := f.take(t, f.pod(t, "lines", "100000", "1ms"))
	j.must(api.OpPodEnsure)
	for _, follow := range []bool{true, false} {
		var out buffer
		o := runtime.LogsOptions{Pod: j.ref(), Container: "app", Follow: follow, Limit: 11, Format: runtime.LogFormat{Prefix: "[x] "}}
		if err := runtime.Logs(t.Context(), f, o, &out); err != nil || out.String() != "[x] line 0\n[x] line" {
			t.Errorf("follow %t: %q, %v", follow, out.String(), err)
		}
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
