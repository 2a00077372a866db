package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	k8sfield "k8s.io/apimachinery/pkg/util/validation/field"
)

// podSpec checks a pod. restart lists the restart policies that its owner allows; nil for all.
func (c *checker) podSpec(path string, s *corev1.PodSpec, restart []corev1.RestartPolicy) {
	if len(s.Containers) == 0 {
		c.required(path+".containers", "a pod needs at least one container block")
	}
	if restart != nil && s.RestartPolicy != "" && !slices.Contains(restart, s.RestartPolicy) {
		var allowed []string
		for _, r := range restart {
			allowed = append(allowed, string(r))
		}
		c.unsupported(path+".restartPolicy", string(s.RestartPolicy), allowed...)
	}
	volumes := c.podVolumes(path+".volumes", s)
	maps.Copy(volumes, c.claims)
	names, hostPorts := once{}, once{}
	for _, list := range []struct {
		path       string
		containers []corev1.Container
		init       bool
	}{{path + ".containers", s.Containers, false}, {path + ".initContainers", s.InitContainers, true}} {
		for i, p := range elements(list.path, list.containers, func(c *corev1.Container) string { return c.Name }) {
			ct := &list.containers[i]
			c.container(p, ct, volumes)
			names.add(c, p+".name", ct.Name)
			c.environment(p, s, ct)
			c.security(p+".securityContext", s, ct.SecurityContext)
			c.ports(p+".ports", ct.Ports, s.HostNetwork, hostPorts)
			c.containerLife(p, ct, list.init, s.TerminationGracePeriodSeconds)
		}
	}
	c.lifetime(path, s, restart)
	c.placement(path, s)
	c.podNetwork(path, s)
	c.podSecurity(path, s)
	c.overhead(path, s)
	for i, p := range elements(path+".imagePullSecrets", s.ImagePullSecrets, func(r *corev1.LocalObjectReference) string { return r.Name }) {
		c.reference(p+".name", s.ImagePullSecrets[i].Name)
	}
}

func (c *checker) placement(path string, s *corev1.PodSpec) {
	if s.NodeName != "" {
		c.invalid(path+".nodeName", s.NodeName, validation.IsDNS1123Subdomain(s.NodeName)...)
	}
	c.labels(path+".nodeSelector", s.NodeSelector)
	for i, p := range indexed(path+".tolerations", s.Tolerations) {
		t := &s.Tolerations[i]
		if t.Key != "" {
			c.invalid(p+".key", t.Key, validation.IsQualifiedName(t.Key)...)
		} else if t.Operator != corev1.TolerationOpExists {
			c.invalid(p+".operator", string(t.Operator), "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
		}
		if t.Operator == corev1.TolerationOpExists && t.Value != "" {
			c.invalid(p+".operator", t.Value, "value must be empty when `operator` is 'Exists'")
		} else {
			c.invalid(p+".value", t.Value, validation.IsValidLabelValue(t.Value)...)
		}
		if t.TolerationSeconds == nil {
			continue
		}
		if t.Effect != corev1.TaintEffectNoExecute {
			c.invalid(p+".effect", string(t.Effect), "effect must be 'NoExecute' when `tolerationSeconds` is set")
		}
		if t.Key != corev1.TaintNodeUnreachable && t.Key != corev1.TaintNodeNotReady {
			c.invalid(p+".tolerationSeconds", strconv.FormatInt(*t.TolerationSeconds, 10), "supported for the taints of lost nodes, with the keys "+corev1.TaintNodeUnreachable+" and "+corev1.TaintNodeNotReady+": taints of the inventory evict at once, or never")
		}
	}
}

func (c *checker) podNetwork(path string, s *corev1.PodSpec) {
	if s.Hostname != "" {
		c.invalid(path+".hostname", s.Hostname, validation.IsDNS1123Label(s.Hostname)...)
	}
	if s.Subdomain != "" {
		c.invalid(path+".subdomain", s.Subdomain, validation.IsDNS1123Label(s.Subdomain)...)
	}
	for i, p := range indexed(path+".hostAliases", s.HostAliases) {
		a := &s.HostAliases[i]
		c.ip(p+".ip", a.IP)
		for _, h := range a.Hostnames {
			c.invalid(p+".hostnames", h, validation.IsDNS1123Subdomain(h)...)
		}
	}
	c.dns(path, s)
}

// Limits of resolv.conf.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

func (c *checker) dns(path string, s *corev1.PodSpec) {
	d := s.DNSConfig
	if s.DNSPolicy == corev1.DNSNone && (d == nil || len(d.Nameservers) == 0) {
		c.required(path+".dnsConfig.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None")
	}
	if d == nil {
		return
	}
	path += ".dnsConfig"
	if len(d.Nameservers) > maxNameservers {
		c.invalid(path+".nameservers", d.Nameservers, fmt.Sprintf("must not have more than %d nameservers", maxNameservers))
	}
	for _, ns := range d.Nameservers {
		c.ip(path+".nameservers", ns)
	}
	if len(d.Searches) > maxSearches {
		c.invalid(path+".searches", d.Searches, fmt.Sprintf("must not have more than %d search paths", maxSearches))
	}
	if n := len(strings.Join(d.Searches, " ")); n > maxSearchChars {
		c.invalid(path+".searches", d.Searches, fmt.Sprintf("must not have more than %d characters (including spaces) in the search list", maxSearchChars))
	}
	for _, search := range d.Searches {
		if name := strings.TrimSuffix(search, "."); name != "" {
			c.invalid(path+".searches", search, validation.IsDNS1123SubdomainWithUnderscore(name)...)
		}
	}
	for i, p := range elements(path+".options", d.Options, func(o *corev1.PodDNSConfigOption) string { return o.Name }) {
		c.needs(p+".name", d.Options[i].Name, "must not be empty")
	}
}

func (c *checker) ip(path, value string) {
	for _, e := range validation.IsValidIP(nil, value) {
		c.report(path, k8sfield.Invalid(nil, value, e.Detail))
	}
}
