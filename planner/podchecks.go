package planner

import (
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
	if p.host.facts.Containerd == "" || major(p.host.facts.Containerd) >= recursiveSince {
		return
	}
	for _, list := range []struct {
		path       string
		containers []corev1.Container
	}{{spec + ".initContainers", p.spec.InitContainers}, {spec + ".containers", p.spec.Containers}} {
		for _, c := range list.containers {
			for _, m := range c.VolumeMounts {
				if m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled {
					d.errorAt(w.object, list.path+"["+c.Name+"].volumeMounts["+m.Name+"].recursiveReadOnly", "Not supported by the runtime",
						"%s: volume %q requested recursive read-only mode, but it is not supported by the runtime: node %s has containerd %s, and it takes containerd %d. Use \"IfPossible\", or keep the pods off such nodes.",
						w.address, m.Name, p.host.name, p.host.facts.Containerd, recursiveSince)
				}
			}
		}
	}
}

// recursiveSince is the major version of containerd that mounts everything below a volume read-only.
const recursiveSince = 2

// major is the first number of a version, 0 when it has none.
func major(version string) int {
	first, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return n
}
