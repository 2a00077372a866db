package runtime_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime/life"
)

// TestPodLife follows one pod from nothing to nothing, and looks at the host at every turn.
func TestPodLife(t *testing.T) {
	f := host(t)
	before := f.inventory(t)
	pod := f.pod(t, "httpd", ":8080")
	c := &pod.Spec.Containers[0]
	c.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
	c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http")}}, PeriodSeconds: 1, TimeoutSeconds: 10}
	c.Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("32Mi")},
		Limits:   corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("64Mi")},
	}
	pod.Spec.Containers = append(pod.Spec.Containers, f.container("side"))
	j := f.take(t, pod)

	made := j.must(api.OpPodEnsure, api.OpPodReady)
	if made.Pod.SandboxID == "" || !strings.HasPrefix(made.Pod.IP, "10.244.1.") || !made.Pod.Ready {
		t.Errorf("result %+v", made.Pod)
	}
	seen := j.seen()
	if !seen.Running() || seen.IP != made.Pod.IP || seen.SandboxID != made.Pod.SandboxID {
		t.Errorf("observed %+v", seen)
	}
	if want := j.work.Step.Address; seen.Address != want || seen.Hash != "abc123" || seen.Lineage != lineage {
		t.Errorf("observed %s %s %s, want %s", seen.Address, seen.Hash, seen.Lineage, want)
	}
	if diff := cmp.Diff(map[string]string{"app": "web", "pod-template-hash": "abc123"}, seen.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}

	again := j.must(api.OpPodEnsure, api.OpPodReady)
	if diff := cmp.Diff(made.Pod, again.Pod); diff != "" {
		t.Errorf("the second ensure made another pod:\n%s", diff)
	}
	if diff := cmp.Diff(seen.Containers, j.seen().Containers); diff != "" {
		t.Errorf("the second ensure made other containers:\n%s", diff)
	}

	pid := j.pid("app")
	if got := f.sh(t, `cat "/proc/$1/comm"`, pid); got != "program" {
		t.Errorf("the container's process is %q", got)
	}
	f.checkCgroups(t, pid, "102", "50000", "67108864")
	if got := j.run("app", "cat", "/proc/1/cmdline"); got != "/program\x00httpd\x00:8080\x00" {
		t.Errorf("pid 1 of the container is %q: it must not see the sandbox's processes", got)
	}

	j.must(api.OpPodRemove)
	if p := j.seen(); p != nil {
		t.Errorf("removed pod is still there: %+v", p)
	}
	if diff := cmp.Diff(before, f.inventory(t)); diff != "" {
		t.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
	j.must(api.OpPodRemove)
}

// A process that is killed after a pod's sandbox has gone, at whatever point, leaves files that say whose they are, and the pod's removal takes all of it away.
func TestRemovalCutShort(t *testing.T) {
	f := host(t)
	before := f.inventory(t)
	remains := func() []api.ObservedRemains {
		t.Helper()
		var obs api.NodeObservation
		if err := f.p.Observe(t.Context(), f, &obs); err != nil {
			t.Fatal(err)
		}
		return obs.Remains
	}
	for _, begun := range []string{"", "rm -rf /var/log/pods/*_$1", "rm -rf /var/lib/berth/pods/$1/[!o]*"} {
		pod := f.pod(t)
		j := f.take(t, pod)
		j.must(api.OpPodEnsure)
		if got := remains(); len(got) > 0 {
			t.Errorf("while it is there: %+v", got)
		}
		if _, err := f.cri.Runtime.RemovePodSandbox(t.Context(), &runtimev1.RemovePodSandboxRequest{PodSandboxId: j.seen().SandboxID}); err != nil {
			t.Fatal(err)
		}
		f.sh(t, begun, string(pod.UID))
		want := []api.ObservedRemains{{Address: j.work.Step.Address, Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Lineage: lineage}}
		if diff := cmp.Diff(want, remains()); diff != "" {
			t.Errorf("remains (-want +got):\n%s", diff)
		}
		j.must(api.OpPodRemove)
		if got := remains(); len(got) > 0 {
			t.Errorf("left after its removal: %+v", got)
		}
		if diff := cmp.Diff(before, f.inventory(t)); diff != "" {
			t.Errorf("the host is not as it was (-before +after):\n%s", diff)
		}
	}
}

// A pod of which there is nothing but a sandbox, as after a kill, says whose it is before that goes.
func TestRemovalOfABareSandbox(t *testing.T) {
	f := host(t)
	before := f.inventory(t)
	pod := f.pod(t)
	j := f.take(t, pod)
	_, err := f.cri.Runtime.RunPodSandbox(t.Context(), &runtimev1.RunPodSandboxRequest{Config: &runtimev1.PodSandboxConfig{
		Metadata:     &runtimev1.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID)},
		Labels:       map[string]string{api.LabelLineage: lineage, api.LabelPodUID: string(pod.UID), api.LabelPodName: pod.Name, api.LabelPodNamespace: pod.Namespace},
		LogDirectory: api.PodLogsDir + "/" + pod.Namespace + "_" + pod.Name + "_" + string(pod.UID),
		Linux:        &runtimev1.LinuxPodSandboxConfig{CgroupParent: "/berth/besteffort/pod" + string(pod.UID)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	j.must(api.OpPodRemove)
	if diff := cmp.Diff(before, f.inventory(t)); diff != "" {
		t.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}

// inventory is what a pod could leave on a host.
func (f *fixture) inventory(t *testing.T) string {
	t.Helper()
	return f.sh(t, `
echo "== processes"; ps -eo comm= | grep -E '^(program|pause|containerd-shim)' | sort | uniq -c || :
echo "== mounts"; awk '$5 ~ "/(berth|netns|containerd/io)/" { print $5 }' /proc/self/mountinfo | sort
echo "== links"; ip -o link | awk '{ print $2 }' | grep -c veth || :
echo "== netns"; ls /run/netns 2>/dev/null || :
echo "== leases"; ls /var/lib/cni/networks/*/ 2>/dev/null | grep -v -e lock -e last_reserved || :
echo "== files"; find /var/lib/berth/pods /var/log/pods 2>/dev/null || :
echo "== cgroups"; find /sys/fs/cgroup -path '*/berth*' -type d
echo "== tasks"; ctr -n k8s.io task ls -q; ctr -n k8s.io container ls -q
`)
}

// checkCgroups compares what the kernel enforces for a process, in either version of cgroups.
func (f *fixture) checkCgroups(t *testing.T, pid, shares, quota, memory string) {
	t.Helper()
	got := f.sh(t, `
dir() { awk -F: -v c="$1" '(","$2",") ~ ","c"," { print $3 }' "/proc/$2/cgroup"; }
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	cd "/sys/fs/cgroup/$(sed -n 's,^0::,,p' "/proc/$1/cgroup")"
	cat cpu.weight cpu.max memory.max memory.oom.group
else
	cat "/sys/fs/cgroup/cpu/$(dir cpu "$1")/cpu.shares" "/sys/fs/cgroup/cpu/$(dir cpu "$1")/cpu.cfs_quota_us" "/sys/fs/cgroup/memory/$(dir memory "$1")/memory.limit_in_bytes"
	dir memory "$1"
fi`, pid)
	lines := strings.Split(got, "\n")
	if len(lines) != 4 {
		t.Fatalf("cgroups of %s: %q", pid, got)
	}
	if strings.HasPrefix(lines[3], "/berth") { // version 1
		if diff := cmp.Diff([]string{shares, quota, memory}, lines[:3]); diff != "" {
			t.Errorf("cgroup (-want +got):\n%s", diff)
		}
		return
	}
	if !strings.HasPrefix(lines[1], quota+" ") || lines[2] != memory || lines[3] != "1" {
		t.Errorf("cgroup: %q", lines)
	}
}

func TestPodEnvironmentAndIdentity(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.Hostname, pod.Spec.Subdomain = "first", "web"
	pod.Spec.HostAliases = []corev1.HostAlias{{IP: "10.1.2.3", Hostnames: []string{"old", "older"}}}
	pod.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"10.9.9.9"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("2")}}}
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1000)), FSGroup: new(int64(2000)), SupplementalGroups: []int64{3000}}
	c := &pod.Spec.Containers[0]
	c.WorkingDir = "/tmp"
	c.EnvFrom = []corev1.EnvFromSource{{Prefix: "CM_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
	c.Env = []corev1.EnvVar{
		{Name: "PLAIN", Value: "a"},
		{Name: "COMBINED", Value: "$(PLAIN)-$(CM_COLOUR)-$(NOBODY)-$$(PLAIN)"},
		{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		{Name: "HOST_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.hostIP"}}},
		{Name: "TOKEN", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}, Key: "token"}}},
		{Name: "ABSENT", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}, Key: "no", Optional: new(true)}}},
	}
	j := f.take(t, pod, configMap("settings", map[string]string{"COLOUR": "blue"}), secret("keys", map[string]string{"token": "s3cret"}))
	ip := j.must(api.OpPodEnsure, api.OpPodReady).Pod.IP

	environ := f.sh(t, `tr '\0' '\n' <"/proc/$1/environ" | sort`, j.pid("app"))
	for _, want := range []string{
		"CM_COLOUR=blue", "PLAIN=a", "COMBINED=a-blue-$(NOBODY)-$(PLAIN)", "POD_IP=" + ip, "HOST_IP=" + f.node.Address, "TOKEN=s3cret", "FROM_IMAGE=yes", "HOSTNAME=first",
	} {
		if !strings.Contains("\n"+environ+"\n", "\n"+want+"\n") {
			t.Errorf("environment lacks %s:\n%s", want, environ)
		}
	}
	if strings.Contains(environ, "ABSENT") {
		t.Errorf("an optional key that is not there became a variable:\n%s", environ)
	}
	if got := f.sh(t, `readlink "/proc/$1/cwd"`, j.pid("app")); got != "/tmp" {
		t.Errorf("working directory %s", got)
	}
	if got := j.run("app", "id"); !strings.HasPrefix(got, "1000 0 [") || !strings.Contains(got, "2000") || !strings.Contains(got, "3000") {
		t.Errorf("identity %q", got)
	}
	hosts := j.run("app", "cat", "/etc/hosts")
	for _, want := range []string{"# Kubernetes-managed hosts file.", ip + "\tfirst.web.default.svc.cluster.local\tfirst", "10.1.2.3\told\tolder"} {
		if !strings.Contains(hosts, want) {
			t.Errorf("/etc/hosts lacks %q:\n%s", want, hosts)
		}
	}
	resolv := j.run("app", "cat", "/etc/resolv.conf")
	for _, want := range []string{"search default.svc.cluster.local svc.cluster.local cluster.local", "nameserver 10.9.9.9", "options ndots:2"} {
		if !strings.Contains(resolv, want) {
			t.Errorf("/etc/resolv.conf lacks %q:\n%s", want, resolv)
		}
	}
	if args := f.sh(t, `cat /proc/[0-9]*/cmdline; find /var/lib/berth /var/log/pods -type f -exec cat {} +`); strings.Contains(args, "s3cret") {
		t.Error("the secret shows in a process's arguments or in a file on the host")
	}
}

func TestRestartedAfterExit(t *testing.T) {
	f := host(t)
	j := f.take(t, f.pod(t))
	j.must(api.OpPodEnsure, api.OpPodReady)
	first := j.seen()
	f.sh(t, `kill -9 "$1"`, j.pid("app"))
	f.eventually(t, "the exit", func() bool { return j.seen().Containers[0].State == api.ContainerExited })
	if c := j.seen().Containers[0]; c.ExitCode != 137 || c.Reason != "Error" || j.seen().Running() {
		t.Errorf("observed %+v", c)
	}
	j.must(api.OpPodEnsure, api.OpPodReady)
	second := j.seen()
	if second.SandboxID != first.SandboxID || second.Containers[0].Attempt != 1 || !second.Running() {
		t.Errorf("observed %+v", second)
	}
}

func TestSandboxMadeAnew(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
	j := f.take(t, pod)
	first := j.must(api.OpPodEnsure, api.OpPodReady).Pod
	j.run("app", "put", "/scratch/kept", "still here")
	if _, err := f.cri.Runtime.StopPodSandbox(t.Context(), &runtimev1.StopPodSandboxRequest{PodSandboxId: first.SandboxID}); err != nil {
		t.Fatal(err)
	}
	if p := j.seen(); p.SandboxReady || p.Running() {
		t.Errorf("a stopped sandbox is observed as %+v", p)
	}
	second := j.must(api.OpPodEnsure, api.OpPodReady).Pod
	if second.SandboxID == first.SandboxID {
		t.Error("the stopped sandbox was taken for a healthy one")
	}
	if got := j.run("app", "cat", "/scratch/kept"); got != "still here" {
		t.Errorf("emptyDir lost its content: %q", got)
	}
	if hosts := j.run("app", "cat", "/etc/hosts"); !strings.Contains(hosts, second.IP+"\t"+pod.Name) {
		t.Errorf("/etc/hosts has not the new address %s:\n%s", second.IP, hosts)
	}
	if got := f.sh(t, `ctr -n k8s.io container ls -q | grep -c "$1" || :`, first.SandboxID); got != "0" {
		t.Error("the old sandbox is still there")
	}
	if got := j.seen().Containers[0].Attempt; got != 1 {
		t.Errorf("attempt %d: restarts must be counted on", got)
	}
}

func TestAdoptsHalfMadePod(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.Containers = append(pod.Spec.Containers, f.container("second"))
	j := f.take(t, pod)
	made := j.must(api.OpPodEnsure)
	id := j.id("second")
	if _, err := f.cri.Runtime.RemoveContainer(t.Context(), &runtimev1.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	if p := j.seen(); p.Running() {
		t.Errorf("a pod without one of its containers is observed as running: %+v", p.Containers)
	}
	again := j.must(api.OpPodEnsure, api.OpPodReady)
	if again.Pod.SandboxID != made.Pod.SandboxID || !j.seen().Running() {
		t.Errorf("observed %+v", j.seen())
	}
}

// TestRestartsCountedByLogs: containerd knows nothing of a pod whose logs are there, as after somebody has removed its records.
func TestRestartsCountedByLogs(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.Containers = append(pod.Spec.Containers, f.container("new", "sleep"))
	j := f.take(t, pod)
	f.sh(t, `mkdir -p "$1/app" && : >"$1/app/2.log" && : >"$1/app/3.log.20260101-000000.gz" && : >"$1/app/notes.txt"`, "/var/log/pods/default_"+pod.Name+"_"+string(pod.UID))
	j.must(api.OpPodEnsure, api.OpPodReady)
	for _, c := range j.seen().Containers {
		if want := map[string]uint32{"app": 4, "new": 0}[c.Name]; c.Attempt != want || c.State != api.ContainerRunning {
			t.Errorf("container %s is %s, attempt %d, want %d", c.Name, c.State, c.Attempt, want)
		}
	}
	if st := life.Status(pod, life.SeenOf(j.seen()), time.Now()); st.ContainerStatuses[0].RestartCount != 4 {
		t.Errorf("status %+v", st.ContainerStatuses[0])
	}
	j.must(api.OpPodEnsure, api.OpPodReady) // it is what it is
	if c := j.seen().Containers[0]; c.Attempt != 4 {
		t.Errorf("observed %+v", c)
	}
}

func TestRemoveWaitsForGrace(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.Volumes = []corev1.Volume{{Name: "out", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/out", Type: new(corev1.HostPathDirectoryOrCreate)}}}}
	pod.Spec.Containers = append(pod.Spec.Containers, f.container("stubborn", "stubborn"))
	pod.Spec.TerminationGracePeriodSeconds = new(int64(2))
	j := f.take(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	j.must(api.OpPodRemove)
	if p := j.seen(); p != nil {
		t.Errorf("still there: %+v", p)
	}
	if got := f.sh(t, `stat -c %a /srv/out; rmdir /srv/out`); got != "755" {
		t.Errorf("a host path was touched: %q", got)
	}
}

// TestRemovalGoesOn: the grace period of a removal that an earlier process has begun counts from then; another one may only shorten it.
func TestRemovalGoesOn(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "stubborn")
	pod.Spec.TerminationGracePeriodSeconds = new(int64(60))
	j := f.take(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	j.work.Leaving = &providers.Leaving{Since: time.Now().Add(-57 * time.Second)}
	began := time.Now()
	j.must(api.OpPodRemove)
	if took := time.Since(began); took < 2*time.Second || took > 30*time.Second {
		t.Errorf("it took %s, not the 3s that were left of its grace period", took)
	}
}

func configMap(name string, data map[string]string) *api.Object {
	return &api.Object{
		Address: api.Address{Kind: api.KindConfigMap, Name: name},
		Value:   &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: data},
	}
}

func secret(name string, data map[string]string) *api.Object {
	return &api.Object{
		Address: api.Address{Kind: api.KindSecret, Name: name},
		Value:   &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, StringData: data},
	}
}

// TestSandboxThatCannotBeMade leaves nothing behind of a pod that was never there, and everything of one that was.
func TestSandboxThatCannotBeMade(t *testing.T) {
	f := host(t)
	left := func(uid types.UID) string {
		return f.sh(t, `ls -d "/var/lib/berth/pods/$1" /var/log/pods/*"$1" 2>/dev/null; find /sys/fs/cgroup -type d -name "*$1*"`, string(uid))
	}
	impossible := func(p *corev1.Pod) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.core.somaxconn", Value: "many"}}}
	}

	pod := f.pod(t)
	impossible(pod)
	j := f.take(t, pod)
	if summary, detail := j.detail(api.OpPodEnsure); summary != "Sandbox of the pod cannot be made" || !strings.Contains(detail, "somaxconn") {
		t.Errorf("%s: %s", summary, detail)
	}
	if got := left(pod.UID); got != "" {
		t.Errorf("a pod that was never there has left\n%s", got)
	}

	pod = f.pod(t)
	pod.Name = "was-there"
	j = f.take(t, pod)
	j.must(api.OpPodEnsure)
	if _, err := f.cri.Runtime.RemovePodSandbox(t.Context(), &runtimev1.RemovePodSandboxRequest{PodSandboxId: j.seen().SandboxID}); err != nil {
		t.Fatal(err)
	}
	j.f = connectAgain(t, f) // what was remembered of it is not to help
	impossible(pod)
	j.detail(api.OpPodEnsure)
	if got := left(pod.UID); !strings.Contains(got, "/var/lib/berth/pods/") || !strings.Contains(got, "/var/log/pods/") {
		t.Errorf("of the files and logs of a pod that was there is left\n%s", got)
	}
}
