package runtime

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
)

// annDevices names, on a container, the devices that it was given, between commas.
const annDevices = "berth.dev/devices"

// giveDevices adds to a container's message the devices that it asks for: those of its earlier attempt, else what no other
// container on the node has. Nobody else is given any until the returned function is called, after the container was made.
func (m *machine) giveDevices(ctx context.Context, b *build, c *corev1.Container, config *runtimev1.ContainerConfig) (done func(), err error) {
	asked := map[string]int{}
	for name := range b.work.Step.Pod.Devices {
		if n := c.Resources.Limits[corev1.ResourceName(name)]; n.Value() > 0 {
			asked[name] = int(n.Value())
		}
	}
	if len(asked) == 0 {
		return func() {}, nil
	}
	if err := m.devices.Take(ctx); err != nil {
		return nil, err
	}
	all, err := m.containers(ctx, nil)
	if err != nil {
		m.devices.Give()
		return nil, err
	}
	own, taken := devicesInUse(all, b.pod, c.Name)
	var given []string
	for _, name := range sortedKeys(asked) {
		list, err := chooseDevices(name, asked[name], b.work.Step.Pod.Devices[name], own, taken)
		if err != nil {
			m.devices.Give()
			return nil, err
		}
		given = append(given, list...)
	}
	for _, d := range given {
		config.CDIDevices = append(config.CDIDevices, &runtimev1.CDIDevice{Name: d})
	}
	config.Annotations[annDevices] = strings.Join(given, ",")
	return m.devices.Give, nil
}

// devicesInUse are those that earlier attempts of a container had, and those that others have. What an init container of the same
// pod had is free for the containers after it.
func devicesInUse(all []*runtimev1.Container, pod *corev1.Pod, container string) (own, taken map[string]bool) {
	own, taken = map[string]bool{}, map[string]bool{}
	for _, c := range all {
		list := c.GetAnnotations()[annDevices]
		if list == "" || c.GetLabels()[api.LabelLineage] == "" {
			continue
		}
		name := c.GetMetadata().GetName()
		into := taken
		if c.GetLabels()[api.LabelPodUID] == string(pod.UID) {
			switch {
			case name == container:
				into = own
			case slices.ContainsFunc(pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == name && !isSidecar(&i) }):
				continue
			}
		}
		for d := range strings.SplitSeq(list, ",") {
			into[d] = true
		}
	}
	return own, taken
}

// chooseDevices takes n of the node's devices in their order, those that the container had before first.
func chooseDevices(resource string, n int, devices []string, own, taken map[string]bool) ([]string, error) {
	var had, free []string
	for _, d := range devices {
		switch {
		case taken[d]:
		case own[d]:
			had = append(had, d)
		default:
			free = append(free, d)
		}
	}
	if len(had)+len(free) < n {
		return nil, fmt.Errorf("%d of %s asked for, %d of the node's %d left", n, resource, len(had)+len(free), len(devices))
	}
	return append(had, free...)[:n], nil
}
