package runtime_test

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers/internal/hosttest"
	"berth.dev/berth/providers/runtime"
)

func TestObserve(t *testing.T) {
	f := host(t)
	a, b, c := f.pod(t), f.pod(t, "crash", "9", "bye"), f.pod(t, "crash", "9", "only logged")
	a.Name, b.Name, c.Name = "a", "b", "c"
	c.Spec.RestartPolicy = corev1.RestartPolicyNever
	c.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	b.Spec.RestartPolicy = corev1.RestartPolicyNever
	ja, jb, jc := f.take(t, a), f.take(t, b), f.take(t, c)
	ja.must(api.OpPodEnsure, api.OpPodReady)
	jb.must(api.OpPodEnsure)
	jc.must(api.OpPodEnsure)
	f.sh(t, `printf 'last words' >"$1"`, api.PodsDir+"/"+string(b.UID)+"/containers/app/0")
	stranger, err := f.cri.Runtime.RunPodSandbox(t.Context(), &runtimev1.RunPodSandboxRequest{Config: &runtimev1.PodSandboxConfig{
		Metadata: &runtimev1.PodSandboxMetadata{Name: "stranger", Namespace: "other", Uid: "stranger"},
		Linux:    &runtimev1.LinuxPodSandboxConfig{SecurityContext: &runtimev1.LinuxSandboxSecurityContext{NamespaceOptions: &runtimev1.NamespaceOption{Network: runtimev1.NamespaceMode_NODE}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_, err := f.cri.Runtime.RemovePodSandbox(context.WithoutCancel(t.Context()), &runtimev1.RemovePodSandboxRequest{PodSandboxId: stranger.GetPodSandboxId()})
		if err != nil {
			t.Error(err)
		}
	}()
	f.eventually(t, "the crashes", func() bool {
		return jb.seen().Containers[0].State == api.ContainerExited && jc.seen().Containers[0].State == api.ContainerExited
	})
	var obs api.NodeObservation
	if err := f.p.Observe(t.Context(), f, &obs); err != nil {
		t.Fatal(err)
	}
	if len(obs.Problems) > 0 || len(obs.Pods) != 3 || obs.Pods[0].Name != "a" || obs.Pods[1].Name != "b" {
		t.Fatalf("observed %+v, problems %v", obs.Pods, obs.Problems)
	}
	if c := obs.Pods[1].Containers[0]; c.ExitCode != 9 || c.Reason != "Error" || c.Message != "last words" || c.FinishedAt.IsZero() {
		t.Errorf("the container that ended: %+v", c)
	}
	if c := obs.Pods[2].Containers[0]; c.Message != "only logged" {
		t.Errorf("the container whose log stands in for its message: %+v", c)
	}
	if !obs.Pods[0].Running() || obs.Pods[1].Running() || obs.Pods[0].Containers[0].Image != f.ref {
		t.Errorf("observed %+v", obs.Pods)
	}
}

// TestContainerdProblems takes containerd away in several ways, on a host of its own.
func TestContainerdProblems(t *testing.T) {
	l := labtest.New(t, lab.Config{Nodes: 1})
	node := l.Nodes()[0]
	tests := []struct{ name, script, summary, detail string }{
		{"stopped", `systemctl stop containerd; rm -f /run/containerd/containerd.sock`, "containerd is not running", "systemctl enable --now containerd"},
		{"CRI disabled", `systemctl stop containerd; sed -i '1a disabled_plugins = ["io.containerd.grpc.v1.cri"]' /etc/containerd/config.toml; systemctl start containerd`,
			"containerd has its CRI plugin disabled", "disabled_plugins"},
		{"too old", `mkdir -p /usr/local/bin; rm -f /usr/local/bin/containerd; printf '#!/bin/sh\necho containerd containerd.io 1.5.9 abcdef\n' >/usr/local/bin/containerd; chmod +x /usr/local/bin/containerd`,
			"containerd is too old", "1.5.9"},
		{"missing", `systemctl stop containerd; rm -f /run/containerd/containerd.sock /usr/local/bin/containerd /usr/bin/containerd`, "containerd not found", "Install containerd"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := node.Exec(t.Context(), "sh", "-c", tt.script); err != nil {
				t.Fatal(err)
			}
			h := hosttest.New(node.Name, func() (int, error) {
				st, err := l.Status(t.Context())
				if err != nil {
					return 0, err
				}
				return st[0].Pid, nil
			})
			var obs api.NodeObservation
			if err := runtime.New().Observe(t.Context(), h, &obs); err != nil {
				t.Fatal(err)
			}
			if len(obs.Problems) != 1 || obs.Problems[0].Summary != tt.summary || !strings.Contains(obs.Problems[0].Detail, tt.detail) {
				t.Errorf("problems %+v", obs.Problems)
			}
		})
	}
}
