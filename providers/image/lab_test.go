package image

import (
	"context"
	"slices"
	"strings"
	"testing"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/internal/hosttest"
	"berth.dev/berth/providers/internal/testimage"
)

func TestMain(m *testing.M) { labtest.Main(m, lab.Config{Nodes: 1}) }

// host is a lab host without SSH: what is tested here is containerd, not the way to it.
func host(t *testing.T) *hosttest.Host {
	t.Helper()
	l := labtest.Shared(t)
	node := l.Nodes()[0]
	return hosttest.New(node.Name, func() (int, error) {
		st, err := l.Status(t.Context())
		if err != nil {
			return 0, err
		}
		return st[0].Pid, nil
	})
}

func work(st *api.Step) *providers.Work {
	return &providers.Work{Step: st, Report: func(string) {}}
}

// TestDeliver builds an image, delivers it and the sandbox image, and runs a pod of them on the host.
func TestDeliver(t *testing.T) {
	h := host(t)
	b := NewBuilder(BuilderOptions{})
	p := New(b)
	img := testimage.Spec(t)
	img.Spec.Copy = append(img.Spec.Copy, spec(tree(t, map[string]string{"index.html": strings.Repeat("hello ", 1<<20)})).Spec.Copy...)
	ref, err := b.Build(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	pause := &api.Step{Op: api.OpImageEnsure, Image: &api.ImageWork{Ref: api.PauseRef}}
	shop := &api.Step{Op: api.OpImageEnsure, Image: &api.ImageWork{Ref: ref, Build: img}}
	for range 2 { // the second time finds everything there
		for _, st := range []*api.Step{pause, shop} {
			if _, err := p.Apply(t.Context(), h, work(st)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var obs api.NodeObservation
	if err := p.Observe(t.Context(), h, &obs); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{api.PauseRef, ref} {
		if !slices.Contains(obs.Images, want) {
			t.Errorf("the host does not show %s: %v", want, obs.Images)
		}
	}
	runPod(t, h, ref)
	if _, err := p.Apply(t.Context(), h, work(&api.Step{Op: api.OpImageRemove})); err != nil {
		t.Fatal(err)
	}
	obs.Images = nil
	if err := p.Observe(t.Context(), h, &obs); err != nil {
		t.Fatal(err)
	}
	if len(obs.Images) != 0 {
		t.Errorf("after image.remove the host still has %v", obs.Images)
	}
}

// TestChangedFilesAreRefused: a saved plan carries the block, not the bytes.
func TestChangedFilesAreRefused(t *testing.T) {
	h := host(t)
	dir := tree(t, map[string]string{"f": "one"})
	planned, err := NewBuilder(BuilderOptions{}).Build(t.Context(), spec(dir))
	if err != nil {
		t.Fatal(err)
	}
	other := tree(t, map[string]string{"f": "two"})
	st := &api.Step{Op: api.OpImageEnsure, Image: &api.ImageWork{Ref: planned, Build: spec(other)}}
	_, err = New(NewBuilder(BuilderOptions{})).Apply(t.Context(), h, work(st))
	if err == nil || !strings.Contains(err.Error(), "have changed since the plan was made") {
		t.Errorf("got %v", err)
	}
}

// TestNeverPull: a policy of Never fails where the image is not.
func TestNeverPull(t *testing.T) {
	h := host(t)
	st := &api.Step{Op: api.OpImageEnsure, Image: &api.ImageWork{Ref: "registry.invalid/x:1", PullPolicy: "Never"}}
	_, err := New(NewBuilder(BuilderOptions{})).Apply(t.Context(), h, work(st))
	if err == nil || !strings.Contains(err.Error(), "ErrImageNeverPull") {
		t.Errorf("got %v", err)
	}
}

// runPod starts and removes a pod on the host network: the sandbox image and the image both have to run.
func runPod(t *testing.T, h *hosttest.Host, ref string) {
	t.Helper()
	ctx := t.Context()
	c, err := cri.Connect(h)
	if err != nil {
		t.Fatal(err)
	}
	node := &runtimev1.NamespaceOption{Network: runtimev1.NamespaceMode_NODE, Pid: runtimev1.NamespaceMode_CONTAINER}
	cfg := &runtimev1.PodSandboxConfig{
		Metadata: &runtimev1.PodSandboxMetadata{Name: "p", Namespace: "default", Uid: "u1"},
		Linux:    &runtimev1.LinuxPodSandboxConfig{SecurityContext: &runtimev1.LinuxSandboxSecurityContext{NamespaceOptions: node}},
	}
	sb, err := c.Runtime.RunPodSandbox(ctx, &runtimev1.RunPodSandboxRequest{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := c.Runtime.RemovePodSandbox(context.WithoutCancel(ctx), &runtimev1.RemovePodSandboxRequest{PodSandboxId: sb.PodSandboxId}); err != nil {
			t.Error(err)
		}
	}()
	ct, err := c.Runtime.CreateContainer(ctx, &runtimev1.CreateContainerRequest{PodSandboxId: sb.PodSandboxId, SandboxConfig: cfg, Config: &runtimev1.ContainerConfig{
		Metadata: &runtimev1.ContainerMetadata{Name: "c"}, Image: &runtimev1.ImageSpec{Image: ref},
		Linux: &runtimev1.LinuxContainerConfig{SecurityContext: &runtimev1.LinuxContainerSecurityContext{NamespaceOptions: node}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Runtime.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: ct.ContainerId}); err != nil {
		t.Fatal(err)
	}
	out, err := c.Runtime.ExecSync(ctx, &runtimev1.ExecSyncRequest{ContainerId: ct.ContainerId, Cmd: []string{testimage.Program, "cat", "/srv/www/index.html"}, Timeout: 10})
	if err != nil || len(out.Stdout) != 6<<20 {
		t.Errorf("in the container: %d bytes, %v", len(out.GetStdout()), err)
	}
}
