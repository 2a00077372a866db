package runtime

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

const (
	hostsHead     = "# Kubernetes-managed hosts file."
	hostsHeadNode = "# Kubernetes-managed hosts file (host network)."
	hostsLoopback = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
fe00::0	ip6-mcastprefix
fe00::1	ip6-allnodes
fe00::2	ip6-allrouters`
)

// hostsFile is the /etc/hosts of a pod with a network of its own, without a final newline.
// It has a line for each of the pod's addresses.
func hostsFile(pod *corev1.Pod, ip, second, domain string) string {
	names := api.PodHostname(pod)
	if fqdn := api.PodFQDN(pod, domain); fqdn != "" {
		names = fqdn + "\t" + names
	}
	lines := []string{hostsHead, hostsLoopback, ip + "\t" + names}
	if second != "" {
		lines = append(lines, second+"\t"+names)
	}
	return strings.Join(lines, "\n") + hostAliases(pod)
}

// hostAliases are the lines that the pod adds to its /etc/hosts, after a newline, or nothing.
func hostAliases(pod *corev1.Pod) string {
	if len(pod.Spec.HostAliases) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n\n# Entries added by HostAliases.")
	for _, a := range pod.Spec.HostAliases {
		b.WriteString("\n" + a.IP + "\t" + strings.Join(a.Hostnames, "\t"))
	}
	return b.String()
}
