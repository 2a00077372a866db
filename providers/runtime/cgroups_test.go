package runtime_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"berth.dev/berth/api"
)

// cgroup reads a file of a cgroup below ours, of the controller in version 1; "-" where there is none.
func (f *fixture) cgroup(t testing.TB, controller, below, file1, file2 string) string {
	t.Helper()
	return f.sh(t, `
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then file=/sys/fs/cgroup/berth/$2/$4; else file=/sys/fs/cgroup/$1/berth/$2/$3; fi
if [ -e "$file" ]; then cat "$file"; else echo -; fi`, controller, below, file1, file2)
}

func asks(c *corev1.Container, requests, limits corev1.ResourceList) {
	c.Resources = corev1.ResourceRequirements{Requests: requests, Limits: limits}
}

func amounts(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// TestCgroupTree makes a pod of each class and reads from the kernel what holds for each and for the tiers, while they come and go.
func TestCgroupTree(t *testing.T) {
	f := host(t)
	before := f.inventory(t)
	cluster := cluster
	cluster.PodPidsLimit = 100
	take := func(name string, requests, limits corev1.ResourceList) *job {
		pod := f.pod(t)
		pod.Name += name
		asks(&pod.Spec.Containers[0], requests, limits)
		j := f.take(t, pod)
		j.work.Cluster = cluster
		return j
	}
	none := take("-besteffort", nil, nil)
	some := take("-burstable", amounts("250m", "32Mi"), corev1.ResourceList{"memory": resource.MustParse("64Mi")})
	more := take("-more", amounts("1", "32Mi"), nil)
	all := take("-guaranteed", amounts("500m", "64Mi"), amounts("500m", "64Mi"))
	for _, j := range []*job{none, some, more, all} {
		j.must(api.OpPodEnsure, api.OpPodReady)
	}
	version2 := f.sh(t, `[ ! -e /sys/fs/cgroup/cgroup.controllers ] || echo 2`) == "2"
	weight := func(below, shares, weight string) {
		t.Helper()
		want := shares
		if version2 {
			want = weight
		}
		if got := f.cgroup(t, "cpu", below, "cpu.shares", "cpu.weight"); got != want {
			t.Errorf("weight of %q: %s, want %s", below, got, want)
		}
	}
	dir := func(j *job, tier string) string { return tier + "pod" + string(j.pod.UID) }
	weight("besteffort", "2", "1")
	weight(dir(none, "besteffort/"), "2", "1")
	weight("burstable", "1280", "49")
	weight(dir(some, "burstable/"), "256", "10")
	weight(dir(more, "burstable/"), "1024", "39")
	weight(dir(all, ""), "512", "20")
	memory := func(j *job, tier string) string {
		return f.cgroup(t, "memory", dir(j, tier), "memory.limit_in_bytes", "memory.max")
	}
	if a, b := memory(all, ""), memory(some, "burstable/"); a != "67108864" || b != "67108864" {
		t.Errorf("memory of the pods with limits: %s, %s", a, b)
	}
	if got := memory(more, "burstable/"); got == "67108864" || got == "-" {
		t.Errorf("memory of a pod without limits: %s", got)
	}
	quota := strings.Fields(f.cgroup(t, "cpu", dir(all, ""), "cpu.cfs_quota_us", "cpu.max"))[0]
	if quota != "50000" {
		t.Errorf("quota of the pod: %s", quota)
	}
	if got := f.cgroup(t, "pids", dir(none, "besteffort/"), "pids.max", "pids.max"); got != "100" {
		t.Errorf("processes of a pod: %s", got)
	}
	where := f.sh(t, `cat "/proc/$1/cgroup"`, some.pid("app"))
	if !strings.Contains(where, "/berth/burstable/pod"+string(some.pod.UID)+"/"+some.id("app")) {
		t.Errorf("the container is not in its pod's cgroup:\n%s", where)
	}

	more.must(api.OpPodRemove)
	weight("burstable", "256", "10")
	if got := f.sh(t, `find /sys/fs/cgroup -name "pod$1"`, string(more.pod.UID)); got != "" {
		t.Errorf("left of a removed pod:\n%s", got)
	}
	for _, j := range []*job{some, none, all} {
		j.must(api.OpPodRemove)
	}
	if diff := cmp.Diff(before, f.inventory(t)); diff != "" {
		t.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}
