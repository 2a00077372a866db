package runtime

import (
	"encoding/json"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
)

// sandbox is the CRI message of the pod's sandbox (semantics.md 1.14).
func (b *build) sandbox(attempt uint32) (*runtimev1.PodSandboxConfig, error) {
	pod := b.pod
	annotations, err := b.annotations()
	if err != nil {
		return nil, err
	}
	hostname := api.KernelHostname(pod, b.work.Cluster.Domain)
	if len(hostname) > api.MaxHostname {
		return nil, fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)", hostname, api.MaxHostname, len(hostname))
	}
	dns, _ := dnsConfig(pod, b.work.Cluster, b.facts.resolver)
	security := sandboxSecurity(pod)
	security.NamespaceOptions.UsernsOptions = b.users()
	return &runtimev1.PodSandboxConfig{
		Metadata:     &runtimev1.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: attempt},
		Hostname:     hostname,
		LogDirectory: logDir(pod.Namespace, pod.Name, string(pod.UID)),
		DnsConfig:    dns,
		PortMappings: portMappings(pod),
		Labels:       b.labels(),
		Annotations:  annotations,
		Linux: &runtimev1.LinuxPodSandboxConfig{
			CgroupParent:    newPodCgroup(pod, 0).parent(b.facts.systemd),
			SecurityContext: security,
			Sysctls:         sysctls(pod),
			Resources:       podResources(pod),
			Overhead:        overhead(pod),
		},
	}, nil
}

// labels are the pod's own and those that make the sandbox say whose it is.
func (b *build) labels() map[string]string {
	l := maps.Clone(b.pod.Labels)
	if l == nil {
		l = map[string]string{}
	}
	l[api.LabelPodName] = b.pod.Name
	l[api.LabelPodNamespace] = b.pod.Namespace
	l[api.LabelPodUID] = string(b.pod.UID)
	l[api.LabelLineage] = b.work.Lineage
	if b.work.Step.Pod.Hash != "" {
		l[api.LabelTemplateHash] = b.work.Step.Pod.Hash
	}
	return l
}

// annotations are the pod's own, the owner's address, and the pod as JSON. References to secrets are in it, secrets are not.
func (b *build) annotations() (map[string]string, error) {
	text, err := json.Marshal(b.pod)
	if err != nil {
		return nil, fmt.Errorf("marshal pod %s: %w", podName(b.pod), err)
	}
	a := maps.Clone(b.pod.Annotations)
	if a == nil {
		a = map[string]string{}
	}
	a[api.AnnAddress] = b.work.Step.Address.Owner().String()
	a[api.AnnPod] = string(text)
	return a, nil
}

// runtimeHandler is the runtime in containerd's configuration that the pod wants, "" for the default one.
func runtimeHandler(pod *corev1.Pod) string {
	if pod.Spec.RuntimeClassName == nil {
		return ""
	}
	return *pod.Spec.RuntimeClassName
}

func portMappings(pod *corev1.Pod) []*runtimev1.PortMapping {
	if pod.Spec.HostNetwork {
		return nil
	}
	protocols := map[corev1.Protocol]runtimev1.Protocol{
		"": runtimev1.Protocol_TCP, corev1.ProtocolTCP: runtimev1.Protocol_TCP,
		corev1.ProtocolUDP: runtimev1.Protocol_UDP, corev1.ProtocolSCTP: runtimev1.Protocol_SCTP,
	}
	var out []*runtimev1.PortMapping
	for _, c := range allContainers(&pod.Spec) {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				out = append(out, &runtimev1.PortMapping{Protocol: protocols[p.Protocol], ContainerPort: p.ContainerPort, HostPort: p.HostPort, HostIp: p.HostIP})
			}
		}
	}
	return out
}

func namespaces(pod *corev1.Pod) *runtimev1.NamespaceOption {
	// CRI's zero value for the process namespace is POD, which would make the containers share the
	// sandbox's: it is always set.
	o := &runtimev1.NamespaceOption{Pid: runtimev1.NamespaceMode_CONTAINER}
	if pod.Spec.HostNetwork {
		o.Network = runtimev1.NamespaceMode_NODE
	}
	if pod.Spec.HostIPC {
		o.Ipc = runtimev1.NamespaceMode_NODE
	}
	switch {
	case pod.Spec.HostPID:
		o.Pid = runtimev1.NamespaceMode_NODE
	case pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace:
		o.Pid = runtimev1.NamespaceMode_POD
	}
	return o
}

func sysctls(pod *corev1.Pod) map[string]string {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	out := map[string]string{}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		out[sysctl.NormalizeName(s.Name)] = s.Value
	}
	return out
}
