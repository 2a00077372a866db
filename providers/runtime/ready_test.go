package runtime_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime/life"
)

func httpProbe(path string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1, TimeoutSeconds: 10}
}

// neverReady keeps a container that is about to end from passing for ready when it takes long to do so.
func neverReady(p *corev1.Pod) { p.Spec.Containers[0].ReadinessProbe = httpProbe("/") }

func TestCrashLoop(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "crash", "3", "cannot read /etc/app.conf")
	neverReady(pod)
	j := f.take(t, pod)
	j.must(api.OpPodEnsure)
	began := time.Now()
	summary, detail := j.detail(api.OpPodReady)
	if took := time.Since(began); took < 9*time.Second || took > time.Minute { // pauses of 0 and 10 s
		t.Errorf("it took %s to see a crash loop", took)
	}
	if summary != "Container keeps crashing" {
		t.Errorf("summary %q", summary)
	}
	for _, want := range []string{`Container "app" of pod default/testcrashloop on n1 ended with exit code 3 (Error)`, "CrashLoopBackOff", "\n  cannot read /etc/app.conf"} {
		if !strings.Contains(detail, want) {
			t.Errorf("detail lacks %q:\n%s", want, detail)
		}
	}
	c := j.seen().Containers[0]
	if c.ExitCode != 3 || c.Attempt != 2 || c.BackoffSeconds != 20 || c.Last == nil || c.Last.ExitCode != 3 || c.Last.Attempt != 1 {
		t.Errorf("observed %+v, before it %+v", c, c.Last)
	}
	st := life.Status(pod, life.SeenOf(j.seen()), time.Now()).ContainerStatuses[0]
	if st.State.Waiting == nil || st.State.Waiting.Reason != "CrashLoopBackOff" || !strings.HasPrefix(st.State.Waiting.Message, "back-off 20s restarting failed container=app") || st.RestartCount != 2 {
		t.Errorf("its status is %+v", st)
	}
}

func TestReadiness(t *testing.T) {
	f := host(t)
	// A container without a probe counts as ready soon: on a busy machine before it has come to its end, if it need not stay so.
	soon := func(w *api.PodWork) { w.MinReadySeconds = 19 }
	tests := []struct {
		name   string
		args   []string
		policy corev1.RestartPolicy
		change func(p *corev1.Pod)
		work   func(w *api.PodWork)
		want   []string // of the detail; nil for success
	}{
		{name: "tcp", args: []string{"httpd", ":8080"}, change: func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}}
		}},
		{name: "exec", args: []string{"sleep"}, change: func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/program", "echo", "fine", "0"}}}}
		}},
		{name: "host header and redirect", args: []string{"httpd", ":8080"}, change: func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = httpProbe("healthz?x=1")
			p.Spec.Containers[0].ReadinessProbe.HTTPGet.HTTPHeaders = []corev1.HTTPHeader{{Name: "Host", Value: "example.org"}}
		}},
		{name: "startup first", args: []string{"httpd", ":8080"}, change: func(p *corev1.Pod) {
			p.Spec.Containers[0].StartupProbe, p.Spec.Containers[0].ReadinessProbe = httpProbe("/"), httpProbe("/healthz")
		}},
		{name: "completed", args: []string{"echo", "done", "0"}, policy: corev1.RestartPolicyNever},
		{name: "failed once for all", args: []string{"crash", "4", "no"}, policy: corev1.RestartPolicyNever, change: neverReady, work: soon, want: []string{"exit code 4", "\n  no"}},
		{name: "ends where it should run on", args: []string{"echo", "done", "0"}, change: neverReady, work: soon, want: []string{"exit code 0 (Completed)", "It is meant to run on and ended by itself"}},
		{name: "out of memory", args: []string{"alloc", "64"}, policy: corev1.RestartPolicyNever, change: func(p *corev1.Pod) {
			neverReady(p)
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"memory": resource.MustParse("16Mi")}
		}, work: soon, want: []string{"OOMKilled", "limit of 16Mi"}},
		{name: "never ready", args: []string{"httpd", ":8080"}, change: func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = httpProbe("/healthz")
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "SICK", Value: "1"}}
		}, work: func(w *api.PodWork) { w.DeadlineSeconds = 2 },
			want: []string{"progress deadline exceeded after 2s", "Readiness probe failed: HTTP probe failed with statuscode: 503", "\n  listening on :8080"}},
		{name: "nobody listens", args: []string{"sleep"}, change: func(p *corev1.Pod) { p.Spec.Containers[0].ReadinessProbe = httpProbe("/") },
			work: func(w *api.PodWork) { w.DeadlineSeconds = 4 }, want: []string{"Readiness probe failed: Get \"http://10.244.1.", "refused"}},
		{name: "exec says no", args: []string{"sleep"}, change: func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/program", "crash", "1", "not yet"}}}}
		}, work: func(w *api.PodWork) { w.DeadlineSeconds = 4 }, want: []string{"Readiness probe failed: not yet"}},
		{name: "startup fails", args: []string{"sleep"}, change: func(p *corev1.Pod) {
			p.Spec.Containers[0].StartupProbe = httpProbe("/")
			p.Spec.Containers[0].StartupProbe.FailureThreshold = 1
		}, want: []string{"3 times in a row", "It was killed: Container app failed startup probe, will be restarted: Startup probe failed: Get"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			pod := f.pod(t, tt.args...)
			pod.Name = "ready"
			if tt.policy != "" {
				pod.Spec.RestartPolicy = tt.policy
			}
			if tt.change != nil {
				tt.change(pod)
			}
			j := f.take(t, pod)
			j.must(api.OpPodEnsure)
			if tt.work != nil {
				tt.work(j.work.Step.Pod)
			}
			if tt.want == nil {
				if r := j.must(api.OpPodReady); !r.Pod.Ready {
					t.Errorf("result %+v", r.Pod)
				}
				return
			}
			_, detail := j.detail(api.OpPodReady)
			for _, want := range tt.want {
				if !strings.Contains(detail, want) {
					t.Errorf("detail lacks %q:\n%s", want, detail)
				}
			}
		})
	}
}

// TestReadyLater makes a container healthy while apply waits for it.
func TestReadyLater(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "httpd", ":8080")
	pod.Spec.Containers[0].ReadinessProbe = httpProbe("/healthz")
	pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "SICK", Value: "1"}}
	j := f.take(t, pod)
	j.work.Step.Pod.MinReadySeconds = 1
	ip := j.must(api.OpPodEnsure).Pod.IP
	done := make(chan error, 1)
	go func() {
		_, err := j.apply(t.Context(), api.OpPodReady)
		done <- err
	}()
	f.eventually(t, "a report of what it waits for", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return strings.Contains(strings.Join(j.reports, "\n"), "statuscode: 503")
	})
	select {
	case err := <-done:
		t.Fatalf("ready before it was healthy: %v", err)
	default:
	}
	f.sh(t, `exec 3<>/dev/null; printf 'POST /healthy HTTP/1.0\r\n\r\n' | timeout 5 bash -c 'exec 3<>/dev/tcp/$0/8080; cat >&3; cat <&3' "$1"`, ip)
	healthy := time.Now()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(healthy); took < time.Second {
		t.Errorf("ready %s after it became healthy, minReadySeconds is 1", took)
	}
}

func TestReadyIsCancelled(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.Containers[0].ReadinessProbe = httpProbe("/")
	j := f.take(t, pod)
	j.must(api.OpPodEnsure)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := j.apply(ctx, api.OpPodReady)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 30*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

func TestInitContainers(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	mount := []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	sidecar := f.container("proxy", "httpd", ":9090")
	sidecar.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	sidecar.StartupProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(9090)}}}
	pod.Spec.InitContainers = []corev1.Container{f.container("one", "put", "/v/a", "1"), sidecar, f.container("two", "cat", "/v/a")}
	pod.Spec.Containers[0].Args = []string{"cat", "/v/a"}
	pod.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	for _, c := range []*corev1.Container{&pod.Spec.InitContainers[0], &pod.Spec.InitContainers[2], &pod.Spec.Containers[0]} {
		c.VolumeMounts = mount
	}
	j := f.take(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	got := map[string]api.ContainerState{}
	for _, c := range j.seen().Containers {
		got[c.Name] = c.State
	}
	// The work is done, so the sidecar was stopped too.
	if len(got) != 4 || got["one"] != api.ContainerExited || got["proxy"] != api.ContainerExited || got["two"] != api.ContainerExited || got["app"] != api.ContainerExited {
		t.Errorf("observed %v", got)
	}
	j.must(api.OpPodEnsure, api.OpPodReady)
}

func TestInitContainerFails(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	pod.Spec.InitContainers = []corev1.Container{f.container("migrate", "crash", "5", "no database")}
	j := f.take(t, pod)
	_, detail := j.detail(api.OpPodEnsure)
	for _, want := range []string{`Container "migrate"`, "exit code 5", "no database"} {
		if !strings.Contains(detail, want) {
			t.Errorf("detail lacks %q:\n%s", want, detail)
		}
	}
	if p := j.seen(); p.Running() || len(p.Containers) != 2 || p.Containers[0].Reason != "PodInitializing" || p.Containers[1].ExitCode != 5 {
		t.Errorf("observed %+v", p.Containers)
	}
}

func TestContainersThatCannotStart(t *testing.T) {
	f := host(t)
	tests := []struct {
		name          string
		change        func(p *corev1.Pod)
		summary, want string
	}{
		{"no such program", func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"/nothing"} }, "Container cannot be started", "/nothing"},
		{"no such image", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "registry.example/none:1" }, "Image is not on the node", "registry.example/none:1"},
		{"root where it must not", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: new(true)}
		}, "Container cannot be made", "container has runAsNonRoot and image will run as root"},
		{"no such secret", func(p *corev1.Pod) {
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("nobody")}}}
		}, "Pod cannot be made", `secret "nobody" not found`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := f.pod(t)
			pod.Name = "refused"
			tt.change(pod)
			summary, detail := f.take(t, pod).detail(api.OpPodEnsure)
			if summary != tt.summary || !strings.Contains(detail, tt.want) {
				t.Errorf("%s: %s", summary, detail)
			}
		})
	}
}
