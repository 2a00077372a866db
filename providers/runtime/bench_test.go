package runtime_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
)

// benchPods pods are made and removed per turn, benchAtOnce at a time: twice the cores of the usual lab.
const benchPods, benchAtOnce = 30, 4

// BenchmarkPods compares what the provider does with the same CRI calls in a bare loop, turn by turn, since other work on the machine
// would spoil the comparison of one after the other. The difference is the price of adoption, files and readiness.
func BenchmarkPods(b *testing.B) {
	f := host(b)
	var provider, floor time.Duration
	for b.Loop() {
		provider += f.provided(b)
		floor += f.floor(b)
	}
	pods := float64(benchPods * b.N)
	b.ReportMetric(pods/provider.Seconds(), "pods/s")
	b.ReportMetric(pods/floor.Seconds(), "floor-pods/s")
	b.ReportMetric(provider.Seconds()/floor.Seconds(), "ratio")
}

// provided makes pods by the provider, waits for each apart from the limit as the executor does, and removes them.
func (f *fixture) provided(b *testing.B) time.Duration {
	jobs := make([]*job, benchPods)
	for i := range jobs {
		pod := f.pod(b)
		pod.Name = fmt.Sprintf("bench-%d", i)
		jobs[i] = f.take(b, pod)
	}
	began := time.Now()
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
	took := time.Since(began)
	each(b, func(ctx context.Context, i int) error {
		_, err := jobs[i].apply(ctx, api.OpPodRemove)
		return err
	})
	return took
}

func (f *fixture) floor(b *testing.B) time.Duration {
	ids := make([]string, benchPods)
	began := time.Now()
	each(b, func(ctx context.Context, i int) error {
		var err error
		ids[i], err = f.bare(ctx, fmt.Sprintf("floor-%d", i))
		return err
	})
	took := time.Since(began)
	each(b, func(ctx context.Context, i int) error {
		_, err := f.cri.Runtime.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: ids[i]})
		return err
	})
	return took
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

// bare makes a pod with nothing but the calls that there is no way around. Its processes are confined as the provider's are: compiling the
// seccomp filters is a good part of what starting a container costs.
func (f *fixture) bare(ctx context.Context, name string) (string, error) {
	options := &runtimev1.NamespaceOption{Pid: runtimev1.NamespaceMode_CONTAINER}
	seccomp := &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_RuntimeDefault}
	config := &runtimev1.PodSandboxConfig{
		Metadata:     &runtimev1.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name},
		LogDirectory: "/var/log/pods/" + name, Hostname: name,
		Linux: &runtimev1.LinuxPodSandboxConfig{SecurityContext: &runtimev1.LinuxSandboxSecurityContext{NamespaceOptions: options, Seccomp: seccomp}},
	}
	s, err := f.cri.Runtime.RunPodSandbox(ctx, &runtimev1.RunPodSandboxRequest{Config: config})
	if err != nil {
		return "", err
	}
	c, err := f.cri.Runtime.CreateContainer(ctx, &runtimev1.CreateContainerRequest{PodSandboxId: s.GetPodSandboxId(), SandboxConfig: config, Config: &runtimev1.ContainerConfig{
		Metadata: &runtimev1.ContainerMetadata{Name: "app"}, Image: &runtimev1.ImageSpec{Image: f.ref}, LogPath: "app/0.log",
		Linux: &runtimev1.LinuxContainerConfig{SecurityContext: &runtimev1.LinuxContainerSecurityContext{NamespaceOptions: options, Seccomp: seccomp}},
	}})
	if err != nil {
		return "", err
	}
	_, err = f.cri.Runtime.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: c.GetContainerId()})
	return s.GetPodSandboxId(), err
}
