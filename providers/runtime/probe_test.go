package runtime_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime/life"
)

// Every kind of probe passes, fails and takes too long, as a readiness, a liveness and a startup probe, against a real server.
func TestProbeKinds(t *testing.T) {
	f := host(t)
	web := func(scheme corev1.URIScheme, port int32, path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Scheme: scheme, Path: path, Port: intstr.FromInt32(port)}}
	}
	tcp := func(port int32) corev1.ProbeHandler {
		return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}}
	}
	exec := func(args ...string) corev1.ProbeHandler {
		return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: append([]string{"/program"}, args...)}}
	}
	check := func(service string) corev1.ProbeHandler {
		return corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9090, Service: &service}}
	}
	kinds := []struct {
		name              string
		good, bad, slow   corev1.ProbeHandler
		saysBad, saysSlow string
	}{
		{"http", web("HTTP", 8080, "/ok"), web("HTTP", 8080, "/bad"), web("HTTP", 8080, "/slow"), "HTTP probe failed with statuscode: 500", "context deadline exceeded"},
		{"https", web("HTTPS", 8443, "/ok"), web("HTTPS", 8443, "/bad"), web("HTTPS", 8443, "/slow"), "HTTP probe failed with statuscode: 500", "context deadline exceeded"},
		{"tcp", tcp(8080), tcp(9), tcp(9092), "refused", "deadline exceeded"},
		{"exec", exec("echo", "fine", "0"), exec("crash", "3", "not", "well"), exec("stubborn"), "not well", "command timed out after 1s"},
		{"grpc", check("ok"), check("bad"), check("slow"), `service unhealthy (responded with "NOT_SERVING")`, "timeout: health rpc did not complete"},
	}
	// The containers of a pod share its network: one of them serves, the others are probed there. The server takes a moment to
	// come up; what is asked before is answered as by nobody.
	probed := func(t *testing.T, name string, add func(pod *corev1.Pod, c func(kind string) *corev1.Container)) *job {
		pod := f.pod(t, "probed")
		pod.Name, pod.Spec.TerminationGracePeriodSeconds = name, new(int64(2))
		add(pod, func(kind string) *corev1.Container {
			pod.Spec.Containers = append(pod.Spec.Containers, f.container(kind))
			return &pod.Spec.Containers[len(pod.Spec.Containers)-1]
		})
		j := f.take(t, pod)
		j.must(api.OpPodEnsure)
		return j
	}
	// Who answers has ten seconds to do so, on a machine that may have much else to do; who does not is given up after one.
	late := func(h corev1.ProbeHandler, failures int32) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: h, InitialDelaySeconds: 3, PeriodSeconds: 1, TimeoutSeconds: 10, FailureThreshold: failures}
	}
	mute := func(h corev1.ProbeHandler, failures int32) *corev1.Probe {
		p := late(h, failures)
		p.TimeoutSeconds = 1
		return p
	}

	t.Run("pass", func(t *testing.T) {
		t.Parallel() // they mostly wait
		j := probed(t, "pass", func(_ *corev1.Pod, add func(string) *corev1.Container) {
			for _, k := range kinds {
				c := add(k.name)
				c.StartupProbe = &corev1.Probe{ProbeHandler: k.good, PeriodSeconds: 1, TimeoutSeconds: 10, FailureThreshold: 60}
				c.LivenessProbe, c.ReadinessProbe = late(k.good, 3), late(k.good, 1)
			}
		})
		j.work.Step.Pod.MinReadySeconds, j.work.Step.Pod.DeadlineSeconds = 2, 120
		j.must(api.OpPodReady)
		for _, c := range j.seen().Containers {
			if c.Attempt != 0 {
				t.Errorf("%s was restarted %d times", c.Name, c.Attempt)
			}
		}
	})
	t.Run("readiness fails", func(t *testing.T) {
		t.Parallel()
		j := probed(t, "fail", func(_ *corev1.Pod, add func(string) *corev1.Container) {
			for _, k := range kinds {
				add(k.name).ReadinessProbe = late(k.bad, 3)
				add(k.name + "-slow").ReadinessProbe = mute(k.slow, 3)
			}
		})
		j.work.Step.Pod.DeadlineSeconds = 15
		_, detail := j.detail(api.OpPodReady)
		for _, k := range kinds {
			for name, says := range map[string]string{k.name: k.saysBad, k.name + "-slow": k.saysSlow} {
				if line := lineWith(detail, `Container "`+name+`": Readiness probe failed: `); !strings.Contains(line, says) {
					t.Errorf("%s lacks %q: %q", name, says, line)
				}
			}
		}
		for _, c := range j.seen().Containers {
			if c.Attempt != 0 {
				t.Errorf("%s was restarted %d times", c.Name, c.Attempt)
			}
		}
	})
	t.Run("liveness and startup kill", func(t *testing.T) {
		t.Parallel()
		j := probed(t, "kill", func(_ *corev1.Pod, add func(string) *corev1.Container) {
			for _, k := range kinds {
				add(k.name).LivenessProbe = late(k.bad, 2)
				add(k.name + "-slow").StartupProbe = mute(k.slow, 1)
			}
		})
		j.work.Step.Pod.MinReadySeconds, j.work.Step.Pod.DeadlineSeconds = 60, 120
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := j.apply(ctx, api.OpPodReady)
			done <- err
		}()
		for _, k := range kinds {
			for name, says := range map[string][2]string{k.name: {"liveness probe, will be restarted: Liveness", k.saysBad}, k.name + "-slow": {"startup probe, will be restarted: Startup", k.saysSlow}} {
				prefix := "killing container " + name + ": Container " + name + " failed " + says[0] + " probe failed: "
				f.eventually(t, prefix+says[1], func() bool {
					j.mu.Lock()
					defer j.mu.Unlock()
					return strings.Contains(lineWith(strings.Join(j.reports, "\n"), prefix), says[1])
				})
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the wait ended with %v", err)
		}
	})
}

// lineWith is the line of a text that has a part.
func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

// A liveness probe kills while apply waits, and the container comes back: its new run is what counts.
func TestLivenessKillsAndRestarts(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "httpd", ":8080")
	c := &pod.Spec.Containers[0]
	c.LivenessProbe = httpProbe("/healthz")
	c.LivenessProbe.FailureThreshold, c.LivenessProbe.TerminationGracePeriodSeconds = 5, new(int64(3))
	c.ReadinessProbe = httpProbe("/")
	j := f.take(t, pod)
	j.work.Step.Pod.MinReadySeconds = 15
	ip := j.must(api.OpPodEnsure).Pod.IP
	f.eventually(t, "the server", func() bool { return f.post(t, ip, "/sick") == nil })
	j.must(api.OpPodReady)
	seen := j.seen().Containers[0]
	if seen.Attempt != 1 || seen.State != api.ContainerRunning || seen.BackoffSeconds != 10 || seen.Last == nil || seen.Last.ExitCode != 0 {
		t.Errorf("observed %+v, before it %+v", seen, seen.Last)
	}
	if said := strings.Join(j.reports, "\n"); !strings.Contains(said, "killing container app: Container app failed liveness probe, will be restarted: Liveness probe failed: HTTP probe failed with statuscode: 503") {
		t.Errorf("reported:\n%s", said)
	}
}

// post sends a request to a server on the host.
func (f *fixture) post(t testing.TB, ip, path string) error {
	t.Helper()
	_, err := f.Run(t.Context(), providers.Command{
		Script: `printf 'POST %s HTTP/1.0\r\n\r\n' "$2" | timeout 30 bash -c 'exec 3<>"/dev/tcp/$0/8080"; cat >&3; cat <&3' "$1"`, Args: []string{ip, path},
	})
	return err
}

// Hooks of each kind: postStart before the next container and before readiness, once for each run; preStop before the signal.
func TestHooks(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "httpd", ":8080")
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/run/hooks", Type: new(corev1.HostPathDirectoryOrCreate)}}}}
	pod.Spec.Containers = append(pod.Spec.Containers, f.container("second", "sleep"))
	note := func(what string) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/program", "append", "/v/log", what}}}
	}
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	}
	app, second := &pod.Spec.Containers[0], &pod.Spec.Containers[1]
	app.Lifecycle = &corev1.Lifecycle{PostStart: note("post"), PreStop: note("pre")}
	second.Lifecycle = &corev1.Lifecycle{
		PostStart: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}},
		PreStop:   &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/nothing", Port: intstr.FromInt32(8080)}}, // any answer will do
	}
	j := f.take(t, pod)
	defer f.sh(t, "rm -rf /run/hooks")
	j.must(api.OpPodEnsure, api.OpPodReady)
	other := connectAgain(t, f).take(t, pod) // another process, which remembers nothing, does not run them again
	other.must(api.OpPodEnsure, api.OpPodReady)
	if got := f.sh(t, "cat /run/hooks/log"); got != "post" {
		t.Errorf("hooks wrote %q", got)
	}
	j.must(api.OpPodRemove)
	if got := f.sh(t, "cat /run/hooks/log"); got != "post\npre" {
		t.Errorf("hooks wrote %q", got)
	}
	if said := strings.Join(j.reports, "\n"); strings.Contains(said, "failed") {
		t.Errorf("reported:\n%s", said)
	}
}

func TestHookThatFails(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "sleep")
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/program", "crash", "7", "s3cret"}}}}
	j := f.take(t, pod)
	j.must(api.OpPodEnsure)
	_, detail := j.detail(api.OpPodReady)
	if !strings.Contains(detail, "It was killed: PostStartHookError: command ended with exit code 7") || strings.Contains(detail+strings.Join(j.reports, ""), "s3cret") {
		t.Errorf("detail:\n%s", detail)
	}
}

// At its deadline a pod is stopped, its sidecar too, and the apply that waits for it says why.
func TestActiveDeadline(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "sleep")
	pod.Spec.RestartPolicy, pod.Spec.ActiveDeadlineSeconds = corev1.RestartPolicyNever, new(int64(3))
	side := f.container("side", "sleep")
	side.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	pod.Spec.InitContainers = []corev1.Container{side}
	j := f.take(t, pod)
	j.work.Step.Pod.MinReadySeconds = 60
	j.work.Step.Pod.DeadlineSeconds = 60
	j.must(api.OpPodEnsure)
	summary, detail := j.detail(api.OpPodReady)
	if summary != "Pod was stopped" || !strings.Contains(detail, "Pod was active on the node longer than the specified deadline (DeadlineExceeded)") {
		t.Errorf("%s: %s", summary, detail)
	}
	seen := j.seen()
	if seen.SandboxReady || seen.Containers[0].State != api.ContainerExited || seen.Containers[1].State != api.ContainerExited {
		t.Errorf("observed %+v", seen)
	}
	if st := life.Status(pod, life.SeenOf(seen), time.Now().Add(time.Second)); st.Phase != corev1.PodFailed || st.Reason != "DeadlineExceeded" {
		t.Errorf("status %+v", st)
	}
}
