package runtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
)

// benchPods pods are made and removed per turn, benchAtOnce at a time: twice the cores of the usual lab.
const benchPods, benchAtOnce = 60, 4

// BenchmarkPods compares what the provider does with the same CRI calls with the same messages in a bare loop, turn by turn, each of them first in
// every other turn, since other work on the machine would spoil the comparison of one after the other. The difference is the price of adoption,
// files, the pod's own limits and readiness, of which the last pod waits out 300 ms. Each figure is the median of the turns.
//
//	started/s, stopped/s    pods per second by the provider, from the first to the last
//	floor-…                 by the bare loop
//	…-ratio                 of the two rates: 1 is as fast as the bare loop; the aim is 0.9
//	…-cpu                   processor time of the host and of this process per pod, and the bare loop's over the provider's: a busy machine
//	                        changes it little
func BenchmarkPods(b *testing.B) {
	f := host(b)
	m := f.model(b)
	var turns []turn
	for b.Loop() {
		var t turn
		if len(turns)%2 == 0 {
			t.start, t.stop = f.provided(b)
			t.floorStart, t.floorStop = f.floor(b, &m)
		} else {
			t.floorStart, t.floorStop = f.floor(b, &m)
			t.start, t.stop = f.provided(b)
		}
		b.Logf("%+v", t)
		turns = append(turns, t)
	}
	for _, p := range []struct {
		name string
		of   func(turn) (mine, floor pace)
	}{
		{"started", func(t turn) (pace, pace) { return t.start, t.floorStart }},
		{"stopped", func(t turn) (pace, pace) { return t.stop, t.floorStop }},
	} {
		for _, metric := range []struct {
			name string
			of   func(mine, floor pace) float64
		}{
			{p.name + "/s", func(mine, _ pace) float64 { return benchPods / mine.wall.Seconds() }},
			{"floor-" + p.name + "/s", func(_, floor pace) float64 { return benchPods / floor.wall.Seconds() }},
			{p.name + "-ratio", func(mine, floor pace) float64 { return floor.wall.Seconds() / mine.wall.Seconds() }},
			{p.name + "-ms-cpu", func(mine, _ pace) float64 { return mine.cpu.Seconds() * 1000 / benchPods }},
			{p.name + "-cpu-ratio", func(mine, floor pace) float64 { return floor.cpu.Seconds() / mine.cpu.Seconds() }},
		} {
			var all []float64
			for _, t := range turns {
				all = append(all, metric.of(p.of(t)))
			}
			slices.Sort(all)
			b.ReportMetric((all[(len(all)-1)/2]+all[len(all)/2])/2, metric.name)
		}
	}
}

// turn is what some pods took, made and removed by the provider and by the bare loop.
type turn struct{ start, stop, floorStart, floorStop pace }

type pace struct{ wall, cpu time.Duration }

// paced measures something, with the processor time of the host and of this process, which shares its processors.
func (f *fixture) paced(b *testing.B, do func()) pace {
	b.Helper()
	used := func() time.Duration {
		d, err := f.node.CPUTime()
		if err != nil {
			b.Fatal(err)
		}
		var own syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
			b.Fatal(err)
		}
		return d + time.Duration(own.Utime.Nano()+own.Stime.Nano())
	}
	cpu, began := used(), time.Now()
	do()
	return pace{time.Since(began), used() - cpu}
}

// provided makes pods by the provider, waits for each apart from the limit as the executor does, and removes them.
func (f *fixture) provided(b *testing.B) (start, stop pace) {
	jobs := make([]*job, benchPods)
	for i := range jobs {
		pod := f.pod(b)
		pod.Name = fmt.Sprintf("bench-%d", i)
		jobs[i] = f.take(b, pod)
	}
	start = f.paced(b, func() {
		waiting, wctx := errgroup.WithContext(b.Context())
		each(b, func(ctx context.Context, i int) error {
			if _, err := jobs[i].apply(ctx, api.OpPodEnsure); err != nil {
				return err
			}
			waiting.Go(func() error {
				_, err := jobs[i].apply(wctx, api.OpPodReady)
				return err
			})
			return nil
		})
		if err := waiting.Wait(); err != nil {
			b.Fatal(err)
		}
	})
	stop = f.paced(b, func() {
		each(b, func(ctx context.Context, i int) error {
			_, err := jobs[i].apply(ctx, api.OpPodRemove)
			return err
		})
	})
	return start, stop
}

// floor makes and removes as many pods by the bare calls. The files that they mount are put there before the clock runs, and the cgroups of
// pods, which containerd leaves behind, are taken away after it.
func (f *fixture) floor(b *testing.B, m *model) (start, stop pace) {
	pods, containers := make([]string, benchPods), make([]string, benchPods)
	name := func(i int) string { return fmt.Sprintf("floor-%d", i) }
	copies := func(script string) {
		args := []string{m.uid}
		for i := range benchPods {
			args = append(args, name(i))
		}
		f.sh(b, "model=$1; shift; for pod; do "+script+"; done", args...)
	}
	copies(`cp -a "/var/lib/berth/pods/$model" "/var/lib/berth/pods/$pod"`)
	start = f.paced(b, func() {
		each(b, func(ctx context.Context, i int) (err error) {
			pods[i], containers[i], err = f.bare(ctx, m, name(i))
			return err
		})
	})
	stop = f.paced(b, func() {
		each(b, func(ctx context.Context, i int) error {
			_, err := f.cri.Runtime.StopContainer(ctx, &runtimev1.StopContainerRequest{ContainerId: containers[i], Timeout: 30})
			if err != nil {
				return err
			}
			_, err = f.cri.Runtime.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: pods[i]})
			return err
		})
	})
	copies(`rm -rf "/var/lib/berth/pods/$pod" /var/log/pods/*"$pod"; find /sys/fs/cgroup -depth -type d -name "pod$pod" -exec rmdir {} +`)
	return start, stop
}

func each(b *testing.B, do func(ctx context.Context, i int) error) {
	b.Helper()
	g, ctx := errgroup.WithContext(b.Context())
	g.SetLimit(benchAtOnce)
	for i := range benchPods {
		g.Go(func() error { return do(ctx, i) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// model is what the provider asks containerd for when it makes a pod, and the pod's own names in it.
type model struct {
	name, uid string
	box, ctr  string // the messages as JSON
}

// model reads back the messages of a pod that the provider has made.
func (f *fixture) model(b *testing.B) model {
	b.Helper()
	pod := f.pod(b)
	pod.Name = "bench-model"
	j := f.take(b, pod)
	j.must(api.OpPodEnsure)
	ctr, err := f.cri.Runtime.ContainerStatus(b.Context(), &runtimev1.ContainerStatusRequest{ContainerId: j.id("app"), Verbose: true})
	if err != nil {
		b.Fatal(err)
	}
	box, err := f.cri.Runtime.PodSandboxStatus(b.Context(), &runtimev1.PodSandboxStatusRequest{PodSandboxId: j.seen().SandboxID, Verbose: true})
	if err != nil {
		b.Fatal(err)
	}
	config := func(info string) string {
		var v struct{ Config json.RawMessage }
		if err := json.Unmarshal([]byte(info), &v); err != nil || len(v.Config) == 0 {
			b.Fatalf("no messages in %s: %v", info, err)
		}
		return string(v.Config)
	}
	return model{pod.Name, string(pod.UID), config(box.GetInfo()["info"]), config(ctr.GetInfo()["info"])}
}

// called is one of the messages under another name.
func (m *model) called(name, text string, into proto.Message) error {
	text = strings.NewReplacer(m.uid, name, m.name, name).Replace(text)
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal([]byte(text), into)
}

// bare makes a pod with nothing but the calls that there is no way around. Its processes are confined as the provider's are: compiling the
// seccomp filters is a good part of what starting a container costs.
func (f *fixture) bare(ctx context.Context, m *model, name string) (pod, container string, err error) {
	box, ctr := &runtimev1.PodSandboxConfig{}, &runtimev1.ContainerConfig{}
	if err := errors.Join(m.called(name, m.box, box), m.called(name, m.ctr, ctr)); err != nil {
		return "", "", err
	}
	s, err := f.cri.Runtime.RunPodSandbox(ctx, &runtimev1.RunPodSandboxRequest{Config: box})
	if err != nil {
		return "", "", err
	}
	c, err := f.cri.Runtime.CreateContainer(ctx, &runtimev1.CreateContainerRequest{PodSandboxId: s.GetPodSandboxId(), SandboxConfig: box, Config: ctr})
	if err != nil {
		return "", "", err
	}
	_, err = f.cri.Runtime.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: c.GetContainerId()})
	return s.GetPodSandboxId(), c.GetContainerId(), err
}
