package api

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// MaxHostname is how long a kernel's host name may be.
const MaxHostname = 64

// PodHostname is a pod's name for itself: spec.hostname, else the pod's name cut to a DNS label (semantics.md 1.3).
func PodHostname(pod *corev1.Pod) string {
	name := pod.Spec.Hostname
	if name == "" {
		name = pod.Name
	}
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-.")
	}
	return name
}

// PodFQDN is the full name of a pod that has a subdomain, else "". domain is the cluster's.
func PodFQDN(pod *corev1.Pod, domain string) string {
	if pod.Spec.Subdomain == "" {
		return ""
	}
	return PodHostname(pod) + "." + pod.Spec.Subdomain + "." + pod.Namespace + ".svc." + domain
}

// KernelHostname is what `hostname` says in the pod: its full name with setHostnameAsFQDN, "" for a pod in the node's network, which has
// the node's. It can be longer than [MaxHostname], and then the pod cannot be made.
func KernelHostname(pod *corev1.Pod, domain string) string {
	if pod.Spec.HostNetwork {
		return ""
	}
	if pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN {
		if fqdn := PodFQDN(pod, domain); fqdn != "" {
			return fqdn
		}
	}
	return PodHostname(pod)
}
