package runtime

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime/life"
)

// ask is a container with requests and limits of cpu and memory, "" for none; what is limited is requested, as plans have it.
func ask(requestCPU, requestMemory, limitCPU, limitMemory string) corev1.Container {
	requests := quantities(cmp.Or(requestCPU, limitCPU), cmp.Or(requestMemory, limitMemory))
	return corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests, Limits: quantities(limitCPU, limitMemory)}}
}

func podOf(containers ...corev1.Container) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "0f-1"}, Spec: corev1.PodSpec{Containers: containers}}
}

func TestQOSClass(t *testing.T) {
	t.Parallel()
	withInit := podOf(ask("1", "1Gi", "1", "1Gi"))
	withInit.Spec.InitContainers = []corev1.Container{ask("", "", "", "")}
	disk := corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"ephemeral-storage": resource.MustParse("1Gi")}}}
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		want corev1.PodQOSClass
	}{
		{"nothing", podOf(ask("", "", "", "")), corev1.PodQOSBestEffort},
		{"zero is nothing", podOf(ask("0", "0", "", "")), corev1.PodQOSBestEffort},
		{"disk does not count", podOf(disk), corev1.PodQOSBestEffort},
		{"limits alone", podOf(ask("", "", "1", "1Gi")), corev1.PodQOSGuaranteed},
		{"requests as limits", podOf(ask("1", "1Gi", "1000m", "1024Mi"), ask("", "", "2", "1Gi")), corev1.PodQOSGuaranteed},
		{"one limit is missing", podOf(ask("", "", "1", "")), corev1.PodQOSBurstable},
		{"less than the limit", podOf(ask("500m", "1Gi", "1", "1Gi")), corev1.PodQOSBurstable},
		{"one container without", podOf(ask("", "", "1", "1Gi"), ask("", "", "", "")), corev1.PodQOSBurstable},
		{"an init container without", withInit, corev1.PodQOSBurstable},
		{"memory alone", podOf(ask("", "1Mi", "", "")), corev1.PodQOSBurstable},
	} {
		if got := life.QOSClass(&tt.pod.Spec); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestWeights compares with the kubelet's formulas at their ends and in between.
func TestWeights(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ milli, shares, weight int64 }{
		{0, 2, 1}, {1, 2, 1}, {2, 2, 1}, {10, 10, 1}, {100, 102, 4}, {250, 256, 10}, {1000, 1024, 39}, {1500, 1536, 59}, {4000, 4096, 157}, {256000, 262144, 10000}, {1000000, 262144, 10000},
	} {
		shares := sharesOf(tt.milli)
		if shares != tt.shares || weightOf(shares) != tt.weight {
			t.Errorf("%dm: shares %d, weight %d; want %d and %d", tt.milli, shares, weightOf(shares), tt.shares, tt.weight)
		}
	}
}

func TestPodCgroup(t *testing.T) {
	t.Parallel()
	initial := podOf(ask("100m", "64Mi", "200m", "128Mi"))
	initial.Spec.InitContainers = []corev1.Container{ask("2", "1Gi", "2", "1Gi")}
	sidecar := podOf(ask("100m", "64Mi", "200m", "128Mi"))
	sidecar.Spec.InitContainers = []corev1.Container{ask("100m", "64Mi", "200m", "128Mi")}
	sidecar.Spec.InitContainers[0].RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	overhead := podOf(ask("", "", "1", "1Gi"))
	overhead.Spec.Overhead = quantities("250m", "128Mi")
	for _, tt := range []struct {
		name            string
		pod             *corev1.Pod
		want            podCgroup
		cgroupfs, slice string
	}{
		{"best effort", podOf(ask("", "", "", "")), podCgroup{tier: "besteffort", shares: 2}, "/berth/besteffort/pod0f-1", "berth-besteffort-pod0f_1.slice"},
		{"guaranteed", podOf(ask("", "", "1500m", "1Gi"), ask("", "", "500m", "1Gi")), podCgroup{shares: 2048, quota: 200000, memory: 2 << 30}, "/berth/pod0f-1", "berth-pod0f_1.slice"},
		{"burstable without limits", podOf(ask("250m", "64Mi", "", "")), podCgroup{tier: "burstable", shares: 256, milli: 250}, "/berth/burstable/pod0f-1", "berth-burstable-pod0f_1.slice"},
		{"all have a memory limit", podOf(ask("100m", "64Mi", "", "128Mi"), ask("", "", "500m", "128Mi")), podCgroup{tier: "burstable", shares: 614, milli: 600, memory: 256 << 20}, "", ""},
		{"one has no memory limit", podOf(ask("100m", "", "200m", "128Mi"), ask("", "", "500m", "")), podCgroup{tier: "burstable", shares: 614, milli: 600, quota: 70000}, "", ""},
		{"an init container needs more", initial, podCgroup{tier: "burstable", shares: 2048, milli: 2000, quota: 200000, memory: 1 << 30}, "", ""},
		{"a sidecar is added", sidecar, podCgroup{tier: "burstable", shares: 204, milli: 200, quota: 40000, memory: 256 << 20}, "", ""},
		{"overhead is added", overhead, podCgroup{shares: 1280, quota: 125000, memory: 1152 << 20}, "", ""},
		{"the smallest quota", podOf(ask("1m", "1Mi", "1m", "1Mi")), podCgroup{shares: 2, quota: 1000, memory: 1 << 20}, "", ""},
	} {
		tt.want.name, tt.want.pids = "pod0f-1", 99
		got := newPodCgroup(tt.pod, 99)
		if diff := gocmp.Diff(tt.want, got, gocmp.AllowUnexported(podCgroup{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if tt.slice != "" && (got.parent(false) != tt.cgroupfs || got.parent(true) != tt.slice) {
			t.Errorf("%s: parents %s and %s, want %s and %s", tt.name, got.parent(false), got.parent(true), tt.cgroupfs, tt.slice)
		}
	}
}

// TestCgroupInstruction looks at what the host is told, for both versions and both drivers.
func TestCgroupInstruction(t *testing.T) {
	t.Parallel()
	pod := podOf(ask("250m", "64Mi", "1500m", "128Mi"))
	for _, tt := range []struct {
		name  string
		facts facts
		want  string
	}{
		{"version 1", facts{}, `/sys/fs/cgroup/cpu/berth/cpu.shares 4096
/sys/fs/cgroup/cpu/berth/burstable/pod0f-1/cpu.shares 256
/sys/fs/cgroup/cpu/berth/burstable/pod0f-1/cpu.cfs_quota_us 150000
/sys/fs/cgroup/memory/berth/burstable/pod0f-1/memory.limit_in_bytes 134217728
/sys/fs/cgroup/pids/berth/burstable/pod0f-1/pids.max 64`},
		{"version 2", facts{cgroup2: true}, `/sys/fs/cgroup/berth/cpu.weight 157
/sys/fs/cgroup/berth/burstable/pod0f-1/cpu.weight 10
/sys/fs/cgroup/berth/burstable/pod0f-1/cpu.max 150000 100000
/sys/fs/cgroup/berth/burstable/pod0f-1/memory.max 134217728
/sys/fs/cgroup/berth/burstable/pod0f-1/pids.max 64`},
		{"systemd, version 1", facts{systemd: true}, `berth.slice CPUShares=4096
berth-burstable-pod0f_1.slice CPUShares=256 CPUQuota=150% MemoryLimit=134217728 TasksMax=64`},
		{"systemd, version 2", facts{systemd: true, cgroup2: true}, `berth.slice CPUWeight=157
berth-burstable-pod0f_1.slice CPUWeight=10 CPUQuota=150% MemoryMax=134217728 TasksMax=64`},
	} {
		tt.facts.cpus = 4
		b := &build{pod: pod, facts: &tt.facts, work: &providers.Work{Cluster: api.Cluster{PodPidsLimit: 64}}}
		how := "files"
		if tt.facts.systemd {
			how = "units"
		}
		if diff := gocmp.Diff([]string{"cgroups", how, tt.want, "/var/lib/berth/pods/0f-1", "250"}, b.cgroupInstruction()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestSlicesAreSet runs the part of the script that speaks to systemd, which no lab has, against a program of its name.
func TestSlicesAreSet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	fake := "#!/bin/sh\necho \"$*\" >>" + calls + "\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	pods := filepath.Join(dir, "pods")
	if err := os.MkdirAll(filepath.Join(pods, "0f-1"), 0o755); err != nil {
		t.Fatal(err)
	}
	lines := "berth-t1.slice CPUWeight=157\nberth-burstable-pod0f_1.slice CPUWeight=10 CPUQuota=150%"
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", prepareScript, "sh", "cgroups", "units", lines, filepath.Join(pods, "0f-1"), "250")
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	want := "set-property --runtime -- berth-t1.slice CPUWeight=157\nset-property --runtime -- berth-burstable-pod0f_1.slice CPUWeight=10 CPUQuota=150%\n"
	if diff := gocmp.Diff(want, string(got)); diff != "" {
		t.Errorf("systemctl was called with (-want +got):\n%s", diff)
	}
	if text, err := os.ReadFile(filepath.Join(pods, "0f-1", "burstable")); err != nil || strings.TrimSpace(string(text)) != "250" {
		t.Errorf("what the pod asks for: %q, %v", text, err)
	}
}

func TestInUnits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         corev1.ResourceName
		amount, unit string
		want         int64
	}{
		{"cpu", "250m", "", 1}, {"cpu", "250m", "1m", 250}, {"cpu", "2", "1", 2}, {"cpu", "1001m", "1", 2}, {"cpu", "0", "1", 0},
		{"memory", "64Mi", "", 64 << 20}, {"memory", "64Mi", "1Mi", 64}, {"memory", "65Mi", "1Gi", 1}, {"memory", "1500k", "1M", 2}, {"memory", "400m", "1", 1},
		{"ephemeral-storage", "10Gi", "1Gi", 10}, {"memory", "7Ei", "1Ei", 7},
	} {
		divisor := resource.Quantity{}
		if tt.unit != "" {
			divisor = resource.MustParse(tt.unit)
		}
		if got := inUnits(tt.name, resource.MustParse(tt.amount), divisor); got != tt.want {
			t.Errorf("%s of %s in %q: %d, want %d", tt.amount, tt.name, tt.unit, got, tt.want)
		}
	}
}
