package schema

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	k8sfield "k8s.io/apimachinery/pkg/util/validation/field"

	"berth.dev/berth/api"
)

// maxFamilies is how many there are.
const maxFamilies = 2

// families checks what a service says of address families by itself: Kubernetes' ValidateServiceClusterIPsRelatedFields. Whether the cluster has
// them is seen when addresses are given out.
func (c *checker) families(s *corev1.ServiceSpec) {
	if s.Type == corev1.ServiceTypeExternalName {
		for _, f := range []struct {
			path string
			set  bool
		}{{"spec.clusterIPs", len(s.ClusterIPs) > 0}, {"spec.ipFamilies", len(s.IPFamilies) > 0}, {"spec.ipFamilyPolicy", s.IPFamilyPolicy != nil}} {
			if f.set {
				c.forbidden(f.path, "may not be set for ExternalName services")
			}
		}
		return
	}
	seen := map[corev1.IPFamily]bool{}
	for i, f := range s.IPFamilies {
		if seen[f] {
			c.report("spec.ipFamilies", k8sfield.Duplicate(k8sfield.NewPath("spec", "ipFamilies").Index(i), f))
		}
		seen[f] = true
	}
	if len(s.ClusterIPs) == 0 {
		return
	}
	const path = "spec.clusterIPs"
	if s.ClusterIP != "" && s.ClusterIP != s.ClusterIPs[0] {
		c.invalid(path, s.ClusterIPs, "first value must match `clusterIP`")
	}
	if s.ClusterIPs[0] == corev1.ClusterIPNone {
		if len(s.ClusterIPs) > 1 {
			c.invalid(path, s.ClusterIPs, "'None' must be the first and only value")
		}
		return
	}
	if len(s.ClusterIPs) > maxFamilies {
		c.invalid(path, s.ClusterIPs, "may only hold up to 2 values")
		return
	}
	families := map[corev1.IPFamily]bool{}
	for i, ip := range s.ClusterIPs {
		c.ip(fmt.Sprintf("%s[%d]", path, i), ip)
		f := api.FamilyOf(ip)
		if f != "" && families[f] {
			c.invalid(path, s.ClusterIPs, "may specify no more than one IP for each IP family")
		}
		families[f] = true
		if i < len(s.IPFamilies) && f != "" && f != s.IPFamilies[i] {
			c.invalid(fmt.Sprintf("%s[%d]", path, i), ip, fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%d]`", s.IPFamilies[i], i))
		}
	}
}
