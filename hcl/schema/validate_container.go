package schema

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	k8sfield "k8s.io/apimachinery/pkg/util/validation/field"
)

// container checks one container, its ports apart. volumes are the names of the pod's.
func (c *checker) container(p string, ct *corev1.Container, volumes map[string]bool) {
	if c.needs(p+".name", ct.Name, "write it as the block's label") {
		c.invalid(p+".name", ct.Name, validation.IsDNS1123Label(ct.Name)...)
	}
	if c.needs(p+".image", ct.Image, "a container runs an image") {
		c.imageName(p+".image", ct.Image)
	}
	c.resources(p+".resources", &ct.Resources)
	c.mounts(p+".volumeMounts", ct, volumes)
}

// imageName checks that the name of an image can be read. The kubelet finds out when it is to pull it.
func (c *checker) imageName(p, image string) {
	if strings.TrimSpace(image) != image {
		c.invalid(p, image, "must not have leading or trailing whitespace")
		return
	}
	if _, err := name.ParseReference(image); err != nil {
		c.invalid(p, image, fmt.Sprintf("couldn't parse image name (InvalidImageName): %v", err))
	}
}

// ports checks the ports of a container. hostPorts collects those of the pod.
func (c *checker) ports(path string, ports []corev1.ContainerPort, hostNetwork bool, hostPorts once) {
	names := once{}
	for i, p := range elements(path, ports, func(p *corev1.ContainerPort) string { return p.Name }) {
		port := &ports[i]
		if port.Name != "" {
			c.invalid(p+".name", port.Name, validation.IsValidPortName(port.Name)...)
			names.add(c, p+".name", port.Name)
		}
		if port.ContainerPort == 0 {
			c.required(p+".containerPort", "")
		} else {
			c.invalid(p+".containerPort", port.ContainerPort, validation.IsValidPortNum(int(port.ContainerPort))...)
		}
		if port.HostIP != "" {
			c.ip(p+".hostIP", port.HostIP)
		}
		if port.HostPort == 0 {
			continue
		}
		c.invalid(p+".hostPort", port.HostPort, validation.IsValidPortNum(int(port.HostPort))...)
		if hostNetwork && port.HostPort != port.ContainerPort {
			c.invalid(p+".hostPort", port.HostPort, "must match `containerPort` when `hostNetwork` is true")
		}
		hostPorts.add(c, p+".hostPort", fmt.Sprintf("%s/%s/%d", protocol(port.Protocol), port.HostIP, port.HostPort))
	}
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func (c *checker) mounts(list string, ct *corev1.Container, volumes map[string]bool) {
	paths, mounts := map[string]bool{}, ct.VolumeMounts
	for i, p := range elements(list, mounts, func(m *corev1.VolumeMount) string { return m.Name }) {
		m := &mounts[i]
		if c.needs(p+".name", m.Name, "write it as the block's label") && !volumes[m.Name] {
			e := k8sfield.NotFound(nil, m.Name)
			e.Detail = "the pod has no volume of this name"
			if len(volumes) > 0 {
				e.Detail += "; it has " + strings.Join(sortedOf(volumes), ", ")
			}
			c.report(p+".name", e)
		}
		if c.needs(p+".mountPath", m.MountPath, "") {
			clean := path.Join("/", m.MountPath)
			if paths[clean] {
				c.invalid(p+".mountPath", m.MountPath, "must be unique")
			}
			paths[clean] = true
			if strings.Contains(m.MountPath, ":") {
				c.invalid(p+".mountPath", m.MountPath, "must not contain ':'")
			}
		}
		c.relative(p+".subPath", m.SubPath)
		if m.SubPath != "" && m.SubPathExpr != "" {
			c.invalid(p+".subPathExpr", m.SubPathExpr, "subPathExpr and subPath are mutually exclusive")
		}
		c.relative(p+".subPathExpr", m.SubPathExpr)
		if v := m.MountPropagation; v != nil && *v == corev1.MountPropagationBidirectional && !privileged(ct) {
			c.forbidden(p+".mountPropagation", "Bidirectional mount propagation is available only to privileged containers")
		}
		c.recursive(p+".recursiveReadOnly", m)
	}
}

func privileged(ct *corev1.Container) bool {
	return ct.SecurityContext != nil && ct.SecurityContext.Privileged != nil && *ct.SecurityContext.Privileged
}

func (c *checker) recursive(p string, m *corev1.VolumeMount) {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return
	}
	if !m.ReadOnly {
		c.forbidden(p, "may only be specified when readOnly is true")
	}
	if v := m.MountPropagation; v != nil && *v != corev1.MountPropagationNone {
		c.forbidden(p, "may only be specified when mountPropagation is None or not specified")
	}
}

// relative checks a path that must stay in its volume.
func (c *checker) relative(p, value string) {
	if path.IsAbs(value) {
		c.invalid(p, value, "must be a relative path")
	}
	c.noDotDot(p, value)
}

func (c *checker) noDotDot(p, value string) {
	if slices.Contains(strings.Split(value, "/"), "..") {
		c.invalid(p, value, "must not contain '..'")
	}
}
