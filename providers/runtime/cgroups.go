package runtime

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers/runtime/life"
)

// The tree of cgroups is the kubelet's under another name (semantics.md 1.12): guaranteed pods directly below the root, the others below
// the tier of their class. So a pod's limits hold for all its containers together, also for those that are added to look into it and
// for what it keeps in memory, and a pod that asks for nothing gets what the others leave.
const (
	cgroupRoot = "berth"
	cgroupDir  = "/sys/fs/cgroup"
)

// podCgroup is where the containers of a pod lie and what holds for them together.
type podCgroup struct {
	tier string // "burstable", "besteffort"; "" for guaranteed pods
	name string // of its own level: "pod" and the uid

	shares int64 // of processors against other pods of its tier, 2 to 262144
	quota  int64 // µs of processor in a period of 100 ms, 0 for no limit
	memory int64 // bytes, 0 for no limit
	pids   int64 // 0 for no limit
	milli  int64 // what it adds to the weight of the burstable tier
}

func newPodCgroup(pod *corev1.Pod, pidsLimit int64) podCgroup {
	g := podCgroup{name: "pod" + string(pod.UID), shares: minShares, pids: pidsLimit}
	class := life.QOSClass(&pod.Spec)
	if class == corev1.PodQOSBestEffort {
		g.tier = "besteffort"
		return g
	}
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	g.shares = sharesOf(requests.Cpu().MilliValue())
	if class == corev1.PodQOSBurstable {
		g.tier, g.milli = "burstable", requests.Cpu().MilliValue()
	}
	cpu, memory := true, true // whether every container has that limit
	for _, c := range allContainers(&pod.Spec) {
		cpu = cpu && !c.Resources.Limits.Cpu().IsZero()
		memory = memory && !c.Resources.Limits.Memory().IsZero()
	}
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	if cpu {
		g.quota = cpuQuota(limits.Cpu())
	}
	if memory {
		g.memory = limits.Memory().Value()
	}
	return g
}

// parent is what CRI is told: a path for the cgroupfs driver, a slice for systemd's, whose name says where it lies.
func (g podCgroup) parent(systemd bool) string {
	if systemd {
		return slice(g.tier, g.name)
	}
	return "/" + path.Join(cgroupRoot, g.tier, g.name)
}

// slice is the name of the unit for some level below the root; levels left out are "".
func slice(levels ...string) string {
	name := cgroupRoot
	for _, l := range levels {
		if l != "" {
			name += "-" + strings.ReplaceAll(l, "-", "_")
		}
	}
	return name + ".slice"
}

// sharesOf is the weight of so many thousandths of a processor.
func sharesOf(milli int64) int64 { return min(max(milli*1024/1000, minShares), maxShares) }

// weightOf is the weight of version 2 that goes with shares of version 1.
func weightOf(shares int64) int64 { return 1 + (shares-minShares)*9999/(maxShares-minShares) }

// level is one cgroup with what it is to have; 0 leaves a limit out.
type level struct {
	path                        []string // below the root
	shares, quota, memory, pids int64
}

// podResources is what runtimes that make a machine of a pod need to know beforehand: what its containers may use together.
func podResources(pod *corev1.Pod) *runtimev1.LinuxContainerResources {
	bare := *pod
	bare.Spec.Overhead = nil // told apart
	g := newPodCgroup(&bare, 0)
	return &runtimev1.LinuxContainerResources{CpuPeriod: cpuPeriod, CpuQuota: g.quota, CpuShares: g.shares, MemoryLimitInBytes: g.memory}
}

func overhead(pod *corev1.Pod) *runtimev1.LinuxContainerResources {
	if len(pod.Spec.Overhead) == 0 {
		return nil
	}
	cpu, memory := pod.Spec.Overhead.Cpu(), pod.Spec.Overhead.Memory()
	return &runtimev1.LinuxContainerResources{CpuPeriod: cpuPeriod, CpuQuota: cpuQuota(cpu), CpuShares: sharesOf(cpu.MilliValue()), MemoryLimitInBytes: memory.Value()}
}

// levels are the cgroups from the root to the pod's, apart from the weight of the burstable tier, which all its pods make together.
func (g podCgroup) levels(nodeMilli int64) []level {
	all := []level{{shares: sharesOf(nodeMilli)}}
	if g.tier == "besteffort" {
		all = append(all, level{path: []string{g.tier}, shares: minShares})
	}
	own := level{path: []string{g.name}, shares: g.shares, quota: g.quota, memory: g.memory, pids: g.pids}
	if g.tier != "" {
		own.path = []string{g.tier, g.name}
	}
	return append(all, own)
}

// cgroupInstruction is what prepareScript has to set: one line for each cgroup. It comes when the sandbox has been made, and its
// cgroups with it.
func (b *build) cgroupInstruction() []string {
	g := newPodCgroup(b.pod, b.work.Cluster.PodPidsLimit)
	var lines []string
	for _, l := range g.levels(b.facts.cpus * 1000) {
		if b.facts.systemd {
			lines = append(lines, l.properties(b.facts.cgroup2))
		} else {
			lines = append(lines, l.files(b.facts.cgroup2)...)
		}
	}
	how := "files"
	if b.facts.systemd {
		how = "units"
	}
	milli := ""
	if g.tier == "burstable" {
		milli = strconv.FormatInt(g.milli, 10)
	}
	return []string{"cgroups", how, strings.Join(lines, "\n"), podDir(string(b.pod.UID)), milli}
}

// files are lines of a file and what to write into it.
func (l level) files(version2 bool) []string {
	below := path.Join(append([]string{cgroupRoot}, l.path...)...)
	dir := func(controller string) string { return path.Join(cgroupDir, controller, below) }
	shares, memory, pids := dir("cpu")+"/cpu.shares", dir("memory")+"/memory.limit_in_bytes", dir("pids")+"/pids.max"
	weight, quota := l.shares, dir("cpu")+"/cpu.cfs_quota_us "+strconv.FormatInt(l.quota, 10)
	if version2 {
		shares, memory, pids = dir("")+"/cpu.weight", dir("")+"/memory.max", dir("")+"/pids.max"
		weight, quota = weightOf(l.shares), fmt.Sprintf("%s/cpu.max %d %d", dir(""), l.quota, cpuPeriod)
	}
	lines := []string{fmt.Sprintf("%s %d", shares, weight)}
	if l.quota > 0 {
		lines = append(lines, quota)
	}
	if l.memory > 0 {
		lines = append(lines, fmt.Sprintf("%s %d", memory, l.memory))
	}
	if l.pids > 0 {
		lines = append(lines, fmt.Sprintf("%s %d", pids, l.pids))
	}
	return lines
}

// properties is a line of a slice and its properties, by the names that systemd has for the version. It counts quotas in whole percent.
func (l level) properties(version2 bool) string {
	weight, memory := fmt.Sprintf("CPUShares=%d", l.shares), "MemoryLimit="
	if version2 {
		weight, memory = fmt.Sprintf("CPUWeight=%d", weightOf(l.shares)), "MemoryMax="
	}
	line := slice(l.path...) + " " + weight
	if l.quota > 0 {
		line += fmt.Sprintf(" CPUQuota=%d%%", (l.quota+cpuPeriod/100-1)/(cpuPeriod/100))
	}
	if l.memory > 0 {
		line += " " + memory + strconv.FormatInt(l.memory, 10)
	}
	if l.pids > 0 {
		line += fmt.Sprintf(" TasksMax=%d", l.pids)
	}
	return line
}

// cgroupFunctions are shell functions of prepareScript and forgetScript.
//
// What each burstable pod asks for lies in its folder, so that their sum is the weight of the tier. Whoever changes it holds the lock
// while setting the sum.
const cgroupFunctions = `
# weigh PODS: set the weight of the burstable tier to what the pods below ask for together.
weigh() (
	set +f
	exec 8<"$1"
	flock 8
	sum=0
	for file in "$1"/*/burstable; do
		if [ -e "$file" ] && read -r n <"$file"; then sum=$((sum + n)); fi
	done
	shares=$((sum * 1024 / 1000))
	[ $shares -ge 2 ] || shares=2
	[ $shares -le 262144 ] || shares=262144
	weight=$((1 + (shares - 2) * 9999 / 262142))
	put ` + cgroupDir + `/cpu/berth/burstable/cpu.shares $shares
	put ` + cgroupDir + `/cpu/berth.slice/berth-burstable.slice/cpu.shares $shares CPUShares
	put ` + cgroupDir + `/berth/burstable/cpu.weight $weight
	put ` + cgroupDir + `/berth.slice/berth-burstable.slice/cpu.weight $weight CPUWeight
)

# put FILE VALUE [PROPERTY]: set the weight of the burstable tier where it has this file. What is in a slice goes through systemd.
put() {
	[ -e "$1" ] || return 0
	read -r now <"$1"
	[ "$now" != "$2" ] || return 0
	if [ $# = 2 ]; then echo "$2" >"$1"; else systemctl set-property --runtime -- berth-burstable.slice "$3=$2"; fi
}

# unslice UNIT: end a slice and take away what set-property left for it.
unslice() {
	systemctl stop -- "$1"
	rm -rf -- "/run/systemd/system.control/$1.d"
}
`
