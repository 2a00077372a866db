package runtime_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
)

// TestCutShort ends the making of a pod at many moments, as a killed process or a lost connection does, and then makes it for good:
// there must be one pod, whole, and nothing left when it is removed.
func TestCutShort(t *testing.T) {
	f := host(t)
	before := f.inventory(t)
	pod := f.pod(t)
	pod.Spec.Volumes = []corev1.Volume{{Name: "keys", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys"}}}}
	pod.Spec.Containers = append(pod.Spec.Containers, f.container("second"))
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].VolumeMounts = []corev1.VolumeMount{{Name: "keys", MountPath: "/keys"}}
	}
	j := f.take(t, pod, secret("keys", map[string]string{"token": "s3cret"}))
	cut := 0
	for after := 5 * time.Millisecond; after < 400*time.Millisecond; after = after * 4 / 3 {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		if _, err := j.apply(ctx, api.OpPodEnsure); err != nil {
			cut++
		}
		cancel()
		if after > 60*time.Millisecond { // now and then the removal is cut short too
			ctx, cancel := context.WithTimeout(t.Context(), after/3)
			_, _ = j.apply(ctx, api.OpPodRemove) // however far it gets
			cancel()
		}
	}
	t.Logf("%d attempts were cut short: %q", cut, slices.Compact(j.reports))
	if cut < 5 {
		t.Fatalf("only %d attempts were cut short: this machine is too fast for the test", cut)
	}
	j.must(api.OpPodEnsure, api.OpPodReady)
	if p := j.seen(); !p.Running() || len(p.Containers) != 2 {
		t.Errorf("observed %+v", p)
	}
	uid := string(pod.UID)
	if got := f.sh(t, `ctr -n k8s.io container ls | grep -c pause; ls "$1/`+uid+`"; ctr -n k8s.io task ls -q | wc -l`, api.PodsDir); !strings.HasPrefix(got, "1\n") || !strings.HasSuffix(got, "\n3") {
		t.Errorf("sandboxes, files, tasks: %q", got)
	}
	if got := j.run("second", "cat", "/keys/token"); got != "s3cret" {
		t.Errorf("the secret is %q", got)
	}
	j.must(api.OpPodRemove)
	if diff := cmp.Diff(before, f.inventory(t)); diff != "" {
		t.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}

// TestReboot boots a host again: the pod is seen as broken, and made anew with its volumes.
func TestReboot(t *testing.T) {
	l := labtest.New(t, lab.Config{Nodes: 1})
	f := furnish(t, l)
	pod := f.pod(t)
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "keys", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys"}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "keys", MountPath: "/keys"}, {Name: "scratch", MountPath: "/scratch"}, {Name: "scratch", MountPath: "/part", SubPath: "part"}}
	objects := secret("keys", map[string]string{"token": "s3cret"})
	j := f.take(t, pod, objects)
	j.must(api.OpPodEnsure, api.OpPodReady)
	j.run("app", "put", "/part/kept", "still here")
	if err := f.node.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	ref := f.ref
	f = connect(t, l)
	j.f, f.ref = f, ref
	if left := f.sh(t, "find /var/lib/berth -type f -exec grep -l s3cret {} + || :"); left != "" {
		t.Errorf("the secret outlived the host's memory: %s", left)
	}
	if p := j.seen(); p == nil || p.SandboxReady || p.Running() {
		t.Errorf("after the reboot the pod is observed as %+v", p)
	}
	j.must(api.OpPodEnsure, api.OpPodReady)
	if got := j.run("app", "cat", "/keys/token", "/part/kept", "/scratch/part/kept"); got != "s3cretstill herestill here" {
		t.Errorf("the volumes hold %q", got)
	}
	if p := j.seen(); !p.Running() || p.Containers[0].Attempt != 1 {
		t.Errorf("observed %+v", p)
	}
}

func TestHostNamespaces(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "httpd", ":8099")
	pod.Spec.HostNetwork, pod.Spec.ShareProcessNamespace = true, new(true)
	pod.Spec.HostAliases = []corev1.HostAlias{{IP: "10.1.2.3", Hostnames: []string{"old"}}}
	pod.Spec.Containers[0].ReadinessProbe = httpProbe("/healthz")
	pod.Spec.Containers[0].ReadinessProbe.HTTPGet.Port.IntVal = 8099
	j := f.take(t, pod)
	if r := j.must(api.OpPodEnsure, api.OpPodReady); r.Pod.IP != f.node.Address {
		t.Errorf("result %+v", r.Pod)
	}
	pid := j.pid("app")
	for ns, shared := range map[string]bool{"net": true, "uts": true, "ipc": false, "pid": false, "mnt": false} {
		got := f.sh(t, `[ "$(readlink "/proc/$1/ns/$2")" = "$(readlink "/proc/self/ns/$2")" ] && echo true || echo false`, pid, ns)
		if (got == "true") != shared {
			t.Errorf("namespace %s is the host's: %s", ns, got)
		}
	}
	if got := j.run("app", "cat", "/proc/1/comm"); got != "pause" {
		t.Errorf("process 1 of a shared process namespace is %q", got)
	}
	hosts := j.run("app", "cat", "/etc/hosts")
	for _, want := range []string{"# Kubernetes-managed hosts file (host network).", f.node.Address + " " + f.node.Name, "10.1.2.3\told"} {
		if !strings.Contains(hosts, want) {
			t.Errorf("/etc/hosts lacks %q:\n%s", want, hosts)
		}
	}
}

func TestHostPort(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "httpd", ":8080")
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: 18080}}
	pod.Spec.Containers[0].ReadinessProbe = httpProbe("/healthz")
	j := f.take(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	const get = `printf 'GET / HTTP/1.0\r\n\r\n' | timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/18080"; cat >&3; cat <&3' "$1"`
	if got := f.sh(t, get, f.node.Address); !strings.HasSuffix(got, pod.Name) {
		t.Errorf("the host's port answers %q", got)
	}
}
