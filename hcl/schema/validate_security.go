package schema

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	k8sfield "k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"

	"berth.dev/berth/api"
)

// podSecurity checks what the pod as a whole asks of the node: its security context and the node's namespaces.
func (c *checker) podSecurity(path string, spec *corev1.PodSpec) {
	if share := spec.ShareProcessNamespace; share != nil && *share && spec.HostPID {
		c.invalid(path+".shareProcessNamespace", true, "ShareProcessNamespace and HostPID cannot both be enabled")
	}
	if u := spec.HostUsers; u != nil && !*u {
		c.ownUsers(path, spec)
	}
	s := spec.SecurityContext
	if s == nil {
		return
	}
	path += ".securityContext"
	c.user(path+".runAsUser", s.RunAsUser)
	c.group(path+".runAsGroup", s.RunAsGroup)
	c.group(path+".fsGroup", s.FSGroup)
	for i, g := range s.SupplementalGroups {
		c.group(fmt.Sprintf("%s.supplementalGroups[%d]", path, i), &g)
	}
	c.sysctls(path+".sysctls", spec)
	c.seccomp(path+".seccompProfile", s.SeccompProfile)
	c.appArmor(path+".appArmorProfile", s.AppArmorProfile)
}

// ownUsers checks a pod whose users are its own: it cannot see more of the node than they could.
func (c *checker) ownUsers(path string, spec *corev1.PodSpec) {
	const when = "when `hostUsers` is false"
	for _, of := range []struct {
		name string
		set  bool
	}{{"hostNetwork", spec.HostNetwork}, {"hostPID", spec.HostPID}, {"hostIPC", spec.HostIPC}} {
		if of.set {
			c.forbidden(path+"."+of.name, when)
		}
	}
	small := func(path string, id *int64) {
		if id != nil && *id >= api.UsersPerPod {
			c.invalid(path, *id, fmt.Sprintf("must be less than %d %s: a pod has so many users of its own", api.UsersPerPod, when))
		}
	}
	if s := spec.SecurityContext; s != nil {
		at := path + ".securityContext"
		small(at+".runAsUser", s.RunAsUser)
		small(at+".runAsGroup", s.RunAsGroup)
		small(at+".fsGroup", s.FSGroup)
		for i, g := range s.SupplementalGroups {
			small(fmt.Sprintf("%s.supplementalGroups[%d]", at, i), &g)
		}
	}
	own := func(list string, containers []corev1.Container) {
		for i, at := range elements(path+list, containers, func(ct *corev1.Container) string { return ct.Name }) {
			if s := containers[i].SecurityContext; s != nil {
				small(at+".securityContext.runAsUser", s.RunAsUser)
				small(at+".securityContext.runAsGroup", s.RunAsGroup)
			}
		}
	}
	own(".initContainers", spec.InitContainers)
	own(".containers", spec.Containers)
}

func (c *checker) user(path string, id *int64) {
	if id != nil {
		c.invalid(path, *id, validation.IsValidUserID(*id)...)
	}
}

func (c *checker) group(path string, id *int64) {
	if id != nil {
		c.invalid(path, *id, validation.IsValidGroupID(*id)...)
	}
}

// maxSysctl is the length of a sysctl's name, sysctlShape what it is made of.
const maxSysctl = 253

var sysctlShape = regexp.MustCompile(`^[a-z0-9]([-_a-z0-9]*[a-z0-9])?([\./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$`)

// sysctls checks the names. Which ones a cluster allows is checked where the cluster is known.
func (c *checker) sysctls(path string, spec *corev1.PodSpec) {
	seen := once{}
	list := spec.SecurityContext.Sysctls
	for i, p := range elements(path, list, func(s *corev1.Sysctl) string { return s.Name }) {
		name := list[i].Name
		p += ".name"
		if !c.needs(p, name, "") {
			continue
		}
		if len(name) > maxSysctl || !sysctlShape.MatchString(name) {
			c.invalid(p, name, fmt.Sprintf("must have at most %d characters and match regex %s", maxSysctl, sysctlShape))
			continue
		}
		seen.add(c, p, sysctl.NormalizeName(name))
		switch ns, _, _ := sysctl.GetNamespace(name); {
		case ns == sysctl.NetNamespace && spec.HostNetwork:
			c.invalid(p, name, "may not be specified when 'hostNetwork' is true")
		case ns == sysctl.IPCNamespace && spec.HostIPC:
			c.invalid(p, name, "may not be specified when 'hostIPC' is true")
		}
	}
}

func (c *checker) seccomp(path string, s *corev1.SeccompProfile) {
	if s == nil {
		return
	}
	local := path + ".localhostProfile"
	switch {
	case s.Type == "":
		c.required(path+".type", "type is required when seccompProfile is set")
	case s.Type != corev1.SeccompProfileTypeLocalhost && s.LocalhostProfile != nil:
		c.invalid(local, *s.LocalhostProfile, "can only be set when seccomp type is Localhost")
	case s.Type == corev1.SeccompProfileTypeLocalhost && (s.LocalhostProfile == nil || *s.LocalhostProfile == ""):
		c.required(local, "must be set when seccomp type is Localhost")
	case s.Type == corev1.SeccompProfileTypeLocalhost:
		c.relative(local, *s.LocalhostProfile)
	}
}

// maxProfile is the length of the name of an AppArmor profile.
const maxProfile = 4095

func (c *checker) appArmor(path string, s *corev1.AppArmorProfile) {
	if s == nil {
		return
	}
	local := path + ".localhostProfile"
	switch {
	case s.Type == "":
		c.required(path+".type", "type is required when appArmorProfile is set")
	case s.Type != corev1.AppArmorProfileTypeLocalhost && s.LocalhostProfile != nil:
		c.invalid(local, *s.LocalhostProfile, "can only be set when AppArmor type is Localhost")
	case s.Type != corev1.AppArmorProfileTypeLocalhost:
	case s.LocalhostProfile == nil || *s.LocalhostProfile == "":
		c.required(local, "must be set when AppArmor type is Localhost")
	case strings.TrimSpace(*s.LocalhostProfile) != *s.LocalhostProfile:
		c.invalid(local, *s.LocalhostProfile, "must not be padded with whitespace")
	case len(*s.LocalhostProfile) > maxProfile:
		c.report(local, k8sfield.TooLong(nil, "", maxProfile))
	}
}

// security checks a container's security context, alone and over the pod's.
func (c *checker) security(p string, spec *corev1.PodSpec, s *corev1.SecurityContext) {
	if s == nil {
		s = &corev1.SecurityContext{}
	}
	c.user(p+".runAsUser", s.RunAsUser)
	c.group(p+".runAsGroup", s.RunAsGroup)
	c.seccomp(p+".seccompProfile", s.SeccompProfile)
	c.appArmor(p+".appArmorProfile", s.AppArmorProfile)
	c.nonRoot(p, spec, s)
	c.capabilities(p+".capabilities", s.Capabilities)
	if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
		return
	}
	if s.Privileged != nil && *s.Privileged {
		c.invalid(p, "", "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
	}
	if s.Capabilities != nil && slices.ContainsFunc(s.Capabilities.Add, func(n corev1.Capability) bool { return n == "SYS_ADMIN" || n == "CAP_SYS_ADMIN" }) {
		c.invalid(p, "", "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")
	}
}

// nonRoot finds a container that is to run as root and must not. What its image says is known on the node alone.
func (c *checker) nonRoot(p string, spec *corev1.PodSpec, s *corev1.SecurityContext) {
	var pod corev1.PodSecurityContext
	if spec.SecurityContext != nil {
		pod = *spec.SecurityContext
	}
	must, user := cmp.Or(s.RunAsNonRoot, pod.RunAsNonRoot), cmp.Or(s.RunAsUser, pod.RunAsUser)
	if must != nil && *must && user != nil && *user == 0 {
		c.invalid(p+".runAsUser", 0, "container's runAsUser breaks non-root policy")
	}
}

// capabilities checks their names, which a runtime passes over when it does not know them.
func (c *checker) capabilities(p string, caps *corev1.Capabilities) {
	if caps == nil {
		return
	}
	for _, list := range []struct {
		path  string
		names []corev1.Capability
	}{{p + ".add", caps.Add}, {p + ".drop", caps.Drop}} {
		for _, n := range list.names {
			if !slices.Contains(capabilityNames, strings.TrimPrefix(strings.ToUpper(string(n)), "CAP_")) {
				c.invalid(list.path, string(n), "not a capability of Linux; write it as in capabilities(7), with or without CAP_, or ALL")
			}
		}
	}
}

// capabilityNames are those of capabilities(7), and ALL of them.
var capabilityNames = []string{
	"ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH",
	"FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
	"SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
}
