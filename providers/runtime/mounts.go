package runtime

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// etcHosts is where containers see the pod's hosts file.
const etcHosts = "/etc/hosts"

// mounts are a container's mounts: its volumes, the hosts file and the place for its last words.
func (b *build) mounts(c *corev1.Container, vars *variables, attempt uint32) ([]*runtimev1.Mount, error) {
	var out []*runtimev1.Mount
	for i, vm := range c.VolumeMounts {
		m, err := b.mount(c, i, vm, vars)
		if err != nil {
			return nil, fmt.Errorf("volume mount %s: %w", vm.MountPath, err)
		}
		out = append(out, m)
	}
	taken := func(p string) bool {
		return slices.ContainsFunc(out, func(m *runtimev1.Mount) bool { return path.Clean(m.ContainerPath) == p })
	}
	if !taken(etcHosts) {
		out = append(out, &runtimev1.Mount{ContainerPath: etcHosts, HostPath: b.hostsPath(), SelinuxRelabel: true})
	}
	if p := c.TerminationMessagePath; p != "" && !taken(path.Clean(p)) {
		out = append(out, &runtimev1.Mount{
			ContainerPath: p, HostPath: terminationFile(string(b.pod.UID), c.Name, attempt), SelinuxRelabel: true,
		})
	}
	return out, nil
}

func (b *build) hostsPath() string { return path.Join(podDir(string(b.pod.UID)), "etc-hosts") }

func (b *build) mount(c *corev1.Container, index int, vm corev1.VolumeMount, vars *variables) (*runtimev1.Mount, error) {
	v, ok := b.volumes[vm.Name]
	if !ok {
		return nil, fmt.Errorf("the pod has no volume %q", vm.Name)
	}
	m := &runtimev1.Mount{
		ContainerPath: path.Join("/", vm.MountPath), HostPath: v.path,
		Readonly:       vm.ReadOnly || v.locked,
		SelinuxRelabel: v.source == ownDir,
	}
	sub, err := subPath(vm, vars)
	if err != nil {
		return nil, err
	}
	if sub != "" {
		m.HostPath = b.subPathTarget(vm.Name, c.Name, index)
	}
	if m.Propagation, err = propagation(c, vm.MountPropagation); err != nil {
		return nil, err
	}
	m.RecursiveReadOnly, err = b.recursiveReadOnly(vm, m)
	return m, err
}

// recursiveReadOnly says whether what is mounted below a volume is to be read-only too. A runtime that cannot do it ignores the
// field, so that it is asked first.
func (b *build) recursiveReadOnly(vm corev1.VolumeMount, m *runtimev1.Mount) (bool, error) {
	if vm.RecursiveReadOnly == nil || *vm.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return false, nil
	}
	can := b.facts.recursiveReadOnly && m.Readonly && m.Propagation == runtimev1.MountPropagation_PROPAGATION_PRIVATE
	if !can && *vm.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled {
		return false, fmt.Errorf("failed to resolve recursive read-only mode: volume %q requested recursive read-only mode, but it is not supported by the runtime", vm.Name)
	}
	return can, nil
}

// subPath is the mount's path in the volume, "" for the whole of it.
func subPath(vm corev1.VolumeMount, vars *variables) (string, error) {
	sub := vm.SubPath
	if vm.SubPathExpr != "" {
		missing := ""
		sub = expand(vm.SubPathExpr, func(name string) (string, bool) {
			v, ok := vars.lookup(name)
			if !ok || v == "" {
				missing = name
			}
			return v, ok
		})
		if missing != "" {
			return "", fmt.Errorf("subPathExpr %q: variable %s is not set", vm.SubPathExpr, missing)
		}
	}
	if sub == "" {
		return "", nil
	}
	if path.IsAbs(sub) || strings.Contains(sub, "\n") || slices.Contains(strings.Split(sub, "/"), "..") {
		return "", fmt.Errorf("subPath %q: want a relative path without .. in it", sub)
	}
	if sub = path.Clean(sub); sub == "." {
		return "", nil
	}
	return sub, nil
}

// subPathTarget is where the part of a volume is pinned for one mount of one container.
func (b *build) subPathTarget(volume, container string, index int) string {
	return path.Join(podDir(string(b.pod.UID)), "volume-subpaths", volume, container, fmt.Sprint(index))
}

func propagation(c *corev1.Container, mode *corev1.MountPropagationMode) (runtimev1.MountPropagation, error) {
	if mode == nil {
		return runtimev1.MountPropagation_PROPAGATION_PRIVATE, nil
	}
	switch *mode {
	case corev1.MountPropagationNone, "":
		return runtimev1.MountPropagation_PROPAGATION_PRIVATE, nil
	case corev1.MountPropagationHostToContainer:
		return runtimev1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, nil
	case corev1.MountPropagationBidirectional:
		if !privileged(c) {
			return 0, fmt.Errorf("mountPropagation Bidirectional is for privileged containers only")
		}
		return runtimev1.MountPropagation_PROPAGATION_BIDIRECTIONAL, nil
	}
	return 0, fmt.Errorf("unknown mountPropagation %q", *mode)
}
