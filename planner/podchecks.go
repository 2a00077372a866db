package planner

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// checkPod refuses what only a pod's name or its node makes impossible. It is called when both are known.
func (d *draft) checkPod(w *workload, p *pod) {
	spec := api.PodSpecPath(w.address.Kind)
	if name := api.KernelHostname(p.object, d.Config.Cluster.Domain); len(name) > api.MaxHostname {
		d.errorAt(w.object, spec+".setHostnameAsFQDN", "Host name too long",
			"%s: failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested). Shorten hostname, subdomain or the names.",
			w.address, name, api.MaxHostname, len(name))
	}
	if p.host.facts.Containerd == "" {
		return // nobody has looked at it
	}
	for _, c := range nodeCan {
		if c.can(&p.host.facts) {
			continue
		}
		for _, at := range c.asks(p.spec) {
			d.errorAt(w.object, spec+"."+at.path, "Not supported by the node", "%s: %s: %s %s", w.address, at.what, fmt.Sprintf(c.why, p.host.name, p.host.facts.Containerd), c.remedy)
		}
	}
}

// asked is a place in a pod's specification that asks for something, and Kubernetes' words for a node that cannot do it.
type asked struct{ path, what string }

// nodeCan are the abilities that not every node has: what asks for each, and what a person is told.
var nodeCan = []struct {
	can         func(*api.NodeFacts) bool
	asks        func(*corev1.PodSpec) []asked
	why, remedy string // why is given the names of the node and of its containerd's version
}{
	{func(f *api.NodeFacts) bool { return major(f.Containerd) >= recursiveSince }, recursiveMounts,
		"node %s has containerd %s, and it takes containerd 2.", `Use "IfPossible", or keep the pods off such nodes.`},
	{func(f *api.NodeFacts) bool { return f.StrictGroups }, strictGroups,
		"the runtime of node %s (containerd %s) cannot do it; containerd 2 can.", `Use "Merge", or keep the pods off such nodes.`},
	{func(f *api.NodeFacts) bool { return f.UserNamespaces }, ownUsers,
		"the runtime of node %s (containerd %s) cannot do it; containerd 2 with runc 1.2 can.", "Leave it out, or keep the pods off such nodes."},
	{func(f *api.NodeFacts) bool { return f.AppArmor }, appArmorProfiles,
		"the kernel of node %s (containerd %s) runs without it.", "Leave the profile out, or keep the pods off such nodes."},
}

// recursiveSince is the major version of containerd that mounts everything below a volume read-only.
const recursiveSince = 2

func recursiveMounts(spec *corev1.PodSpec) []asked {
	var out []asked
	eachContainer(spec, func(path string, c *corev1.Container) {
		for _, m := range c.VolumeMounts {
			if m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled {
				out = append(out, asked{path + ".volumeMounts[" + m.Name + "].recursiveReadOnly", fmt.Sprintf("volume %q requested recursive read-only mode, but it is not supported by the runtime", m.Name)})
			}
		}
	})
	return out
}

func strictGroups(spec *corev1.PodSpec) []asked {
	s := spec.SecurityContext
	if s == nil || s.SupplementalGroupsPolicy == nil || *s.SupplementalGroupsPolicy != corev1.SupplementalGroupsPolicyStrict {
		return nil
	}
	return []asked{{"securityContext.supplementalGroupsPolicy", "SupplementalGroupsPolicy=Strict is not supported in this node"}}
}

// ownUsers is asked for with hostUsers: false. What a runtime other than the node's usual one can do shows when the pod is made.
func ownUsers(spec *corev1.PodSpec) []asked {
	if spec.HostUsers == nil || *spec.HostUsers || spec.RuntimeClassName != nil {
		return nil
	}
	return []asked{{"hostUsers", `RuntimeClass handler "" does not support user namespaces`}}
}

// appArmorProfiles are those that are set; Unconfined is what a node without AppArmor does.
func appArmorProfiles(spec *corev1.PodSpec) []asked {
	const what = "Cannot enforce AppArmor: AppArmor is not enabled on the host"
	var out []asked
	enforced := func(p *corev1.AppArmorProfile) bool {
		return p != nil && p.Type != corev1.AppArmorProfileTypeUnconfined
	}
	if s := spec.SecurityContext; s != nil && enforced(s.AppArmorProfile) {
		out = append(out, asked{"securityContext.appArmorProfile", what})
	}
	eachContainer(spec, func(path string, c *corev1.Container) {
		if s := c.SecurityContext; s != nil && enforced(s.AppArmorProfile) {
			out = append(out, asked{path + ".securityContext.appArmorProfile", what})
		}
	})
	return out
}

func eachContainer(spec *corev1.PodSpec, visit func(path string, c *corev1.Container)) {
	for _, list := range []struct {
		path       string
		containers []corev1.Container
	}{{"initContainers", spec.InitContainers}, {"containers", spec.Containers}} {
		for i := range list.containers {
			visit(list.path+"["+list.containers[i].Name+"]", &list.containers[i])
		}
	}
}

// major is the first number of a version, 0 when it has none.
func major(version string) int {
	first, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return n
}
