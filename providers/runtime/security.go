package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Paths of /proc and /sys that containers must not see, or not write, unless procMount is Unmasked.
func maskedPaths() []string {
	return []string{
		"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

func sandboxSecurity(pod *corev1.Pod) *runtimev1.LinuxSandboxSecurityContext {
	s := &runtimev1.LinuxSandboxSecurityContext{
		NamespaceOptions: namespaces(pod),
		Seccomp:          &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_RuntimeDefault},
	}
	for _, c := range allContainers(&pod.Spec) {
		s.Privileged = s.Privileged || privileged(c)
	}
	if p := pod.Spec.SecurityContext; p != nil {
		s.SupplementalGroups, s.SupplementalGroupsPolicy = groups(p), groupsPolicy(p)
		s.SelinuxOptions = selinux(p.SELinuxOptions)
		if p.RunAsUser != nil {
			s.RunAsUser = &runtimev1.Int64Value{Value: *p.RunAsUser}
		}
		if p.RunAsGroup != nil && p.RunAsUser != nil { // CRI knows a group only together with a user
			s.RunAsGroup = &runtimev1.Int64Value{Value: *p.RunAsGroup}
		}
	}
	return s
}

// containerSecurity merges the container's settings over the pod's. The default seccomp profile is the runtime's
// own (Kubernetes with seccompDefault): a container that needs more says type = "Unconfined".
func containerSecurity(pod *corev1.Pod, c *corev1.Container) (*runtimev1.LinuxContainerSecurityContext, error) {
	s := &runtimev1.LinuxContainerSecurityContext{NamespaceOptions: namespaces(pod)}
	p, own := securityOf(pod, c)
	user, group := cmp.Or(own.RunAsUser, p.RunAsUser), cmp.Or(own.RunAsGroup, p.RunAsGroup)
	if user != nil {
		s.RunAsUser = &runtimev1.Int64Value{Value: *user}
	}
	if group != nil {
		s.RunAsGroup = &runtimev1.Int64Value{Value: *group}
	}
	s.SupplementalGroups, s.SupplementalGroupsPolicy = groups(&p), groupsPolicy(&p)
	s.SelinuxOptions = selinux(cmp.Or(own.SELinuxOptions, p.SELinuxOptions))
	s.Privileged = privileged(c)
	s.ReadonlyRootfs = own.ReadOnlyRootFilesystem != nil && *own.ReadOnlyRootFilesystem
	s.NoNewPrivs = own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation
	s.Capabilities = capabilities(own.Capabilities)
	if !s.Privileged && (own.ProcMount == nil || *own.ProcMount != corev1.UnmaskedProcMount) {
		s.MaskedPaths, s.ReadonlyPaths = maskedPaths(), readonlyPaths()
	}
	var err error
	if s.Seccomp, err = seccomp(cmp.Or(own.SeccompProfile, p.SeccompProfile)); err != nil {
		return nil, err
	}
	s.Apparmor, err = apparmor(cmp.Or(own.AppArmorProfile, p.AppArmorProfile))
	return s, err
}

// securityOf returns both contexts, empty ones where there are none.
func securityOf(pod *corev1.Pod, c *corev1.Container) (corev1.PodSecurityContext, corev1.SecurityContext) {
	var p corev1.PodSecurityContext
	var own corev1.SecurityContext
	if pod.Spec.SecurityContext != nil {
		p = *pod.Spec.SecurityContext
	}
	if c.SecurityContext != nil {
		own = *c.SecurityContext
	}
	return p, own
}

func privileged(c *corev1.Container) bool {
	return c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
}

func groups(p *corev1.PodSecurityContext) []int64 {
	var out []int64
	if p.FSGroup != nil {
		out = append(out, *p.FSGroup)
	}
	return append(out, p.SupplementalGroups...)
}

// groupsPolicy says whether the groups that the image has for the user are left out. The planner has seen to it that the runtime can do that.
func groupsPolicy(p *corev1.PodSecurityContext) runtimev1.SupplementalGroupsPolicy {
	if p.SupplementalGroupsPolicy != nil && *p.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict {
		return runtimev1.SupplementalGroupsPolicy_Strict
	}
	return runtimev1.SupplementalGroupsPolicy_Merge
}

func selinux(o *corev1.SELinuxOptions) *runtimev1.SELinuxOption {
	if o == nil {
		return nil
	}
	return &runtimev1.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

func capabilities(c *corev1.Capabilities) *runtimev1.Capability {
	if c == nil {
		return nil
	}
	names := func(list []corev1.Capability) []string {
		var out []string
		for _, n := range list {
			out = append(out, strings.TrimPrefix(strings.ToUpper(string(n)), "CAP_"))
		}
		return out
	}
	return &runtimev1.Capability{AddCapabilities: names(c.Add), DropCapabilities: names(c.Drop)}
}

// seccompRoot is where profiles lie on a node that the pod names as Localhost: the kubelet's folder, so that those made for
// it serve as they are. It is only read.
const seccompRoot = "/var/lib/kubelet/seccomp"

func seccomp(p *corev1.SeccompProfile) (*runtimev1.SecurityProfile, error) {
	if p == nil {
		return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_RuntimeDefault}, nil
	}
	s, err := profile("seccompProfile", string(p.Type), p.LocalhostProfile)
	if ref := s.GetLocalhostRef(); ref != "" {
		if path.IsAbs(ref) || slices.Contains(strings.Split(ref, "/"), "..") {
			return nil, fmt.Errorf("seccompProfile: localhostProfile %q: want a relative path without .. in it", ref)
		}
		s.LocalhostRef = path.Join(seccompRoot, ref)
	}
	return s, err
}

func apparmor(p *corev1.AppArmorProfile) (*runtimev1.SecurityProfile, error) {
	if p == nil {
		return nil, nil
	}
	return profile("appArmorProfile", string(p.Type), p.LocalhostProfile)
}

func profile(field, kind string, localhost *string) (*runtimev1.SecurityProfile, error) {
	switch kind {
	case "RuntimeDefault":
		return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_RuntimeDefault}, nil
	case "Unconfined":
		return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_Unconfined}, nil
	case "Localhost":
		if localhost == nil || *localhost == "" {
			return nil, fmt.Errorf("%s: localhostProfile is missing", field)
		}
		return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_Localhost, LocalhostRef: *localhost}, nil
	}
	return nil, fmt.Errorf("%s: unknown type %q", field, kind)
}

// settleUser decides what the pod leaves to the image: it enforces runAsNonRoot, and names the image's user where the pod names a
// group alone, which CRI does not take. It asks the host only then.
func (m *machine) settleUser(ctx context.Context, pod *corev1.Pod, c *corev1.Container, s *runtimev1.LinuxContainerSecurityContext) error {
	p, own := securityOf(pod, c)
	nonRoot := cmp.Or(own.RunAsNonRoot, p.RunAsNonRoot)
	required := nonRoot != nil && *nonRoot
	if user := s.GetRunAsUser(); user != nil {
		if required && user.GetValue() == 0 {
			return errors.New("container's runAsUser breaks non-root policy")
		}
		return nil
	}
	if !required && s.GetRunAsGroup() == nil {
		return nil
	}
	st, err := m.cri.Images.ImageStatus(ctx, &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: c.Image}})
	if err != nil {
		return fmt.Errorf("ask for image %s: %w", c.Image, err)
	}
	image := st.GetImage()
	switch {
	case image == nil:
		return fmt.Errorf("image %s is not on the node", c.Image)
	case required && image.GetUsername() != "":
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", image.GetUsername())
	case required && image.GetUid().GetValue() == 0:
		return errors.New("container has runAsNonRoot and image will run as root")
	case image.GetUsername() != "":
		s.RunAsUsername = image.GetUsername()
	default:
		s.RunAsUser = &runtimev1.Int64Value{Value: image.GetUid().GetValue()}
	}
	return nil
}

// cureOf says what to do about a container that containerd did not make. Of a user that the image itself does not know it tells only
// which file it looked in vain for.
func (m *machine) cureOf(ctx context.Context, c *corev1.Container, err error) string {
	const correct = "Correct the workload and apply again."
	if !containsAny(err, "/etc/passwd", "/etc/group", "no users found", "no groups found", "no matching entries in passwd", "no matching entries in group") {
		return correct
	}
	st, statusErr := m.cri.Images.ImageStatus(ctx, &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: c.Image}})
	if statusErr != nil || st.GetImage().GetUsername() == "" {
		return correct
	}
	return fmt.Sprintf("The image runs as the user %q, which it does not know: set run_as_user to a number, or correct the image.", st.GetImage().GetUsername())
}
