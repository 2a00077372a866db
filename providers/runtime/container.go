package runtime

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime/life"
)

// Annotations of containers beside api.AnnContainerHash, as the kubelet writes them.
const (
	annRestartCount      = "io.kubernetes.container.restartCount"
	annTerminationPath   = "io.kubernetes.container.terminationMessagePath"
	annTerminationPolicy = "io.kubernetes.container.terminationMessagePolicy"
	annPorts             = "io.kubernetes.container.ports"
	annPreStop           = "io.kubernetes.container.preStopHandler"
	annGracePeriod       = "io.kubernetes.pod.terminationGracePeriod"
)

// container is the CRI message of one container (semantics.md 1.11 to 1.14).
func (b *build) container(c *corev1.Container, attempt uint32) (*runtimev1.ContainerConfig, error) {
	vars, err := b.environment(c)
	if err != nil {
		return nil, err
	}
	security, err := containerSecurity(b.pod, c)
	if err != nil {
		return nil, err
	}
	security.NamespaceOptions.UsernsOptions = b.users()
	mounts, err := b.mounts(c, vars, attempt)
	if err != nil {
		return nil, err
	}
	mapped(mounts, b.users())
	annotations, err := b.containerAnnotations(c, attempt)
	if err != nil {
		return nil, err
	}
	return &runtimev1.ContainerConfig{
		Metadata:    &runtimev1.ContainerMetadata{Name: c.Name, Attempt: attempt},
		Image:       &runtimev1.ImageSpec{Image: c.Image, UserSpecifiedImage: c.Image},
		Command:     expandAll(c.Command, vars.lookup),
		Args:        expandAll(c.Args, vars.lookup),
		WorkingDir:  c.WorkingDir,
		Envs:        vars.cri(),
		Mounts:      mounts,
		Labels:      b.containerLabels(c),
		Annotations: annotations,
		LogPath:     logPath(c.Name, attempt),
		Stdin:       c.Stdin, StdinOnce: c.StdinOnce, Tty: c.TTY,
		Linux: &runtimev1.LinuxContainerConfig{Resources: linuxResources(b.pod, c, b.facts), SecurityContext: security},
	}, nil
}

func (b *build) containerLabels(c *corev1.Container) map[string]string {
	return map[string]string{
		api.LabelContainerName: c.Name,
		api.LabelPodName:       b.pod.Name,
		api.LabelPodNamespace:  b.pod.Namespace,
		api.LabelPodUID:        string(b.pod.UID),
		api.LabelLineage:       b.work.Lineage,
	}
}

func (b *build) containerAnnotations(c *corev1.Container, attempt uint32) (map[string]string, error) {
	a := map[string]string{
		api.AnnContainerHash: life.ContainerHash(c),
		annRestartCount:      fmt.Sprint(attempt),
		annTerminationPath:   c.TerminationMessagePath,
		annTerminationPolicy: string(c.TerminationMessagePolicy),
		annGracePeriod:       fmt.Sprint(int64(life.Grace(b.pod).Seconds())),
	}
	if len(c.Ports) > 0 {
		ports, err := json.Marshal(c.Ports)
		if err != nil {
			return nil, fmt.Errorf("marshal ports: %w", err)
		}
		a[annPorts] = string(ports)
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		hook, err := json.Marshal(c.Lifecycle.PreStop)
		if err != nil {
			return nil, fmt.Errorf("marshal the preStop hook: %w", err)
		}
		a[annPreStop] = string(hook)
	}
	return a, nil
}
