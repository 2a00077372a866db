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
func hostsFile(pod *corev1.Pod, ip, domain string) string {
	last := ip + "\t" + api.PodHostname(pod)
	if fqdn := api.PodFQDN(pod, domain); fqdn != "" {
		last = ip + "\t" + fqdn + "\t" + api.PodHostname(pod)
	}
	return strings.Join([]string{hostsHead, hostsLoopback, last}, "\n") + hostAliases(pod)
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
