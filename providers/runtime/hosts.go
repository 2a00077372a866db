package runtime

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
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
	last := ip + "\t" + hostname(pod)
	if fqdn := podFQDN(pod, domain); fqdn != "" {
		last = ip + "\t" + fqdn + "\t" + hostname(pod)
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

// hostname is the pod's name for itself.
func hostname(pod *corev1.Pod) string {
	name := pod.Spec.Hostname
	if name == "" {
		name = pod.Name
	}
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-.")
	}
	return name
}

// podFQDN is the full name of a pod in a subdomain, else "".
func podFQDN(pod *corev1.Pod, domain string) string {
	if pod.Spec.Subdomain == "" {
		return ""
	}
	return hostname(pod) + "." + pod.Spec.Subdomain + "." + pod.Namespace + ".svc." + domain
}

// kernelHostname is what `hostname` says in the pod; containerd takes the node's for pods in the host's network.
func kernelHostname(pod *corev1.Pod, domain string) string {
	if pod.Spec.HostNetwork {
		return ""
	}
	if pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN {
		if fqdn := podFQDN(pod, domain); fqdn != "" {
			return fqdn
		}
	}
	return hostname(pod)
}
