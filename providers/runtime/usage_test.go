package runtime

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
)

const countersThen = `1000.00 3000.00
cpu  1000 10 500 9000 100 20 30 40 50 0
MemTotal:        8000 kB
MemFree:         3000 kB
Inactive(file):  1000 kB
`

func TestHostCounters(t *testing.T) {
	t.Parallel()
	got, err := parseHostCounters([]byte(countersThen))
	want := hostCounters{uptime: 1000 * time.Second, busy: 1000 + 10 + 500 + 20 + 30 + 40, memory: 4000 << 10}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "x\n", "1 2\n", "1 2\ncpu  a b c d e f g h i\n", "1 2\nMemTotal: many kB\n"} {
		if _, err := parseHostCounters([]byte(bad)); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
}

func TestUsageBetween(t *testing.T) {
	t.Parallel()
	stats := func(id, uid, name string, at time.Duration, used time.Duration, memory uint64) *runtimev1.ContainerStats {
		return &runtimev1.ContainerStats{
			Attributes: &runtimev1.ContainerAttributes{Id: id, Labels: map[string]string{api.LabelPodUID: uid, api.LabelContainerName: name}},
			Cpu:        &runtimev1.CpuUsage{Timestamp: int64(at), UsageCoreNanoSeconds: &runtimev1.UInt64Value{Value: uint64(used)}},
			Memory:     &runtimev1.MemoryUsage{WorkingSetBytes: &runtimev1.UInt64Value{Value: memory}},
		}
	}
	second := time.Second
	first := sample{hostCounters{uptime: 100 * second, busy: 1000}, []*runtimev1.ContainerStats{
		stats("c1", "u2", "app", 10*second, 5*second, 1), stats("c2", "u1", "idle", 10*second, second, 1), stats("gone", "u3", "x", 10*second, second, 1), stats("again", "u4", "x", 10*second, 9*second, 1),
	}}
	then := sample{hostCounters{uptime: 102 * second, busy: 1300, memory: 77}, []*runtimev1.ContainerStats{
		stats("c1", "u2", "app", 12*second, 6*second, 42), stats("c2", "u1", "idle", 12*second, second, 43), stats("new", "u3", "x", 12*second, second, 1), stats("again", "u4", "x", 12*second, second, 44),
	}}
	got := usageBetween(first, then)
	want := HostUsage{Window: 2 * second, NanoCores: 1.5e9, Memory: 77, Containers: []ContainerUsage{
		{"u1", "idle", 0, 43}, {"u2", "app", 0.5e9, 42}, {"u4", "x", 0, 44},
	}}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(HostUsage{}, "At")); d != "" {
		t.Error(d)
	}
}
