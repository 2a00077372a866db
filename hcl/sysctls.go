package hcl

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"

	"berth.dev/berth/api"
)

// safeSysctls cannot be felt outside the pod that sets them: Kubernetes' list (semantics.md 1.13).
var safeSysctls = []string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.tcp_wmem",
}

// checkUnsafeSysctls checks the list of the cluster block: only what a pod has for itself can be allowed.
func checkUnsafeSysctls(list string) error {
	for pattern := range strings.SplitSeq(list, ",") {
		pattern = strings.TrimSpace(pattern)
		name := strings.TrimSuffix(pattern, "*")
		switch ns, _, _ := sysctl.GetNamespace(pattern); {
		case name == "" || strings.Contains(name, "*"):
			return fmt.Errorf("%q is neither the name of a sysctl nor a beginning with * after it", pattern)
		case ns == sysctl.UnknownNamespace:
			return fmt.Errorf("the sysctls %q are not known to be namespaced: they would change the whole node", pattern)
		}
	}
	return nil
}

// sysctls refuses what would be felt outside the pod, unless the cluster block allows it.
func (c *cross) sysctls(o *api.Object, path string, spec *corev1.PodSpec) {
	if spec.SecurityContext == nil {
		return
	}
	for _, s := range spec.SecurityContext.Sysctls {
		if name := sysctl.NormalizeName(s.Name); !slices.Contains(safeSysctls, name) && !c.allows(name) {
			c.errorf(o, path+".securityContext.sysctls["+s.Name+"].name", "Forbidden sysctl",
				"forbidden sysctl: %q not allowlisted. It can be felt outside the pod; where that is meant, name it in allowed_unsafe_sysctls of the cluster block.", s.Name)
		}
	}
}

func (c *cross) allows(name string) bool {
	for pattern := range strings.SplitSeq(c.cluster.AllowedUnsafeSysctls, ",") {
		pattern = sysctl.NormalizeName(strings.TrimSpace(pattern))
		if begin, all := strings.CutSuffix(pattern, "*"); all && begin != "" && strings.HasPrefix(name, begin) || pattern == name {
			return true
		}
	}
	return false
}
