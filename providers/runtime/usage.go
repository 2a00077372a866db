package runtime

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// ContainerUsage is what one container uses.
type ContainerUsage struct {
	PodUID    string
	Container string
	NanoCores uint64 // over the window
	Memory    uint64 // working set: bytes in use without files that nobody has looked at lately
}

// HostUsage is what a host and the containers of one cluster on it use.
type HostUsage struct {
	At         time.Time
	Window     time.Duration
	NanoCores  uint64 // of the whole host
	Memory     uint64 // likewise, bytes
	Containers []ContainerUsage
}

// sample is one look at counters that only grow.
type sample struct {
	host  hostCounters
	stats []*runtimev1.ContainerStats
}

// Usage looks twice, a window apart, at what the host and the containers of a cluster have used, and tells the rates between. It
// does not rely on the rate that some runtimes tell: theirs is since whoever asked last. A container that runs only since the first
// look is left out.
func Usage(ctx context.Context, h providers.Host, lineage string, window time.Duration) (HostUsage, error) {
	m, err := open(h)
	if err != nil {
		return HostUsage{}, err
	}
	first, err := m.sample(ctx, lineage)
	if err != nil {
		return HostUsage{}, m.explain(ctx, err)
	}
	if err := sleep(ctx, window); err != nil {
		return HostUsage{}, err
	}
	second, err := m.sample(ctx, lineage)
	if err != nil {
		return HostUsage{}, m.explain(ctx, err)
	}
	return usageBetween(first, second), nil
}

func (m *machine) sample(ctx context.Context, lineage string) (sample, error) {
	out, err := m.Run(ctx, providers.Command{Script: usageScript})
	if err != nil {
		return sample{}, fmt.Errorf("read what %s uses: %w", m.Name(), err)
	}
	host, err := parseHostCounters(out.Stdout)
	if err != nil {
		return sample{}, fmt.Errorf("read what %s uses: %w", m.Name(), err)
	}
	resp, err := m.cri.Runtime.ListContainerStats(ctx, &runtimev1.ListContainerStatsRequest{Filter: &runtimev1.ContainerStatsFilter{LabelSelector: map[string]string{api.LabelLineage: lineage}}})
	if err != nil {
		return sample{}, fmt.Errorf("ask containerd on %s what containers use: %w", m.Name(), err)
	}
	return sample{host, resp.GetStats()}, nil
}

// usageScript prints the time since boot, the counters of the processors, and the memory.
const usageScript = `set -e
head -n 1 /proc/uptime
head -n 1 /proc/stat
grep -E '^(MemTotal|MemFree|Inactive\(file\)):' /proc/meminfo`

// hostCounters are what a Linux host says of itself.
type hostCounters struct {
	uptime time.Duration
	busy   uint64 // ticks of all processors together that were not idle
	memory uint64 // bytes in use without inactive files
}

// ticksPerSecond is USER_HZ, which is the same on every Linux machine.
const ticksPerSecond = 100

func parseHostCounters(text []byte) (hostCounters, error) {
	var c hostCounters
	values := map[string]uint64{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 0; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		switch {
		case n == 0 && len(f) > 0:
			up, err := strconv.ParseFloat(f[0], 64)
			if err != nil {
				return c, fmt.Errorf("/proc/uptime: %w", err)
			}
			c.uptime = time.Duration(up * float64(time.Second))
		case len(f) > 8 && f[0] == "cpu":
			for i, text := range f[1:9] { // user nice system idle iowait irq softirq steal; guests are in user
				ticks, err := strconv.ParseUint(text, 10, 64)
				if err != nil {
					return c, fmt.Errorf("/proc/stat: %w", err)
				}
				if i != 3 && i != 4 {
					c.busy += ticks
				}
			}
		case len(f) > 1 && strings.HasSuffix(f[0], ":"):
			kib, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				return c, fmt.Errorf("/proc/meminfo: %w", err)
			}
			values[strings.TrimSuffix(f[0], ":")] = kib << 10
		}
	}
	if c.uptime == 0 || values["MemTotal"] == 0 {
		return c, errors.New("/proc does not say what Linux says there")
	}
	c.memory = values["MemTotal"] - min(values["MemTotal"], values["MemFree"]+values["Inactive(file)"])
	return c, nil
}

// usageBetween makes rates of two samples.
func usageBetween(first, second sample) HostUsage {
	u := HostUsage{At: time.Now().UTC(), Window: second.host.uptime - first.host.uptime, Memory: second.host.memory}
	if u.Window > 0 && second.host.busy > first.host.busy {
		u.NanoCores = uint64(float64(second.host.busy-first.host.busy) / ticksPerSecond / u.Window.Seconds() * 1e9)
	}
	before := map[string]*runtimev1.CpuUsage{}
	for _, s := range first.stats {
		before[s.GetAttributes().GetId()] = s.GetCpu()
	}
	for _, s := range second.stats {
		labels := s.GetAttributes().GetLabels()
		old, known := before[s.GetAttributes().GetId()]
		now := s.GetCpu()
		if !known || now == nil || s.GetMemory() == nil || now.GetTimestamp() <= old.GetTimestamp() {
			continue
		}
		c := ContainerUsage{PodUID: labels[api.LabelPodUID], Container: labels[api.LabelContainerName], Memory: workingSet(s.GetMemory())}
		if used, was := now.GetUsageCoreNanoSeconds().GetValue(), old.GetUsageCoreNanoSeconds().GetValue(); used > was {
			c.NanoCores = uint64(float64(used-was) / float64(now.GetTimestamp()-old.GetTimestamp()) * 1e9)
		}
		u.Containers = append(u.Containers, c)
	}
	slices.SortFunc(u.Containers, func(a, b ContainerUsage) int {
		return strings.Compare(a.PodUID+"/"+a.Container, b.PodUID+"/"+b.Container)
	})
	return u
}

func workingSet(m *runtimev1.MemoryUsage) uint64 {
	if m.GetWorkingSetBytes() != nil {
		return m.GetWorkingSetBytes().GetValue()
	}
	return m.GetUsageBytes().GetValue()
}
