package runtime

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
)

// The limits of resolv.conf, as upstream cuts it.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

// resolver is a resolv.conf.
type resolver struct {
	servers, searches, options []string
}

func parseResolver(text string) resolver {
	var r resolver
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.servers = append(r.servers, f[1])
		case "search", "domain": // the last one counts
			r.searches = slices.DeleteFunc(slices.Clone(f[1:]), func(s string) bool { return s == "." })
		case "options":
			r.options = append(r.options, f[1:]...)
		}
	}
	return r
}

// dnsConfig makes a pod's resolver from its policy, its own settings and the node's resolver (semantics.md 1.16).
//
// Where the cluster has no DNS of its own, ClusterFirst pods ask the node's resolvers, with the cluster's search domains and options in
// place. What is over the limits is left out, and said.
func dnsConfig(pod *corev1.Pod, cluster api.Cluster, node resolver) (config *runtimev1.DNSConfig, omitted []string) {
	r := resolver{slices.Clone(node.servers), slices.Clone(node.searches), slices.Clone(node.options)}
	switch effectiveDNSPolicy(&pod.Spec) {
	case corev1.DNSNone:
		r = resolver{}
	case corev1.DNSClusterFirst:
		if cluster.DNS != "" {
			r.servers = []string{cluster.DNS}
		}
		domain := cluster.Domain
		r.searches = append([]string{pod.Namespace + ".svc." + domain, "svc." + domain, domain}, r.searches...)
		r.options = []string{"ndots:5"}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		r.servers = append(r.servers, c.Nameservers...)
		r.searches = append(r.searches, c.Searches...)
		r.options = mergeOptions(r.options, c.Options)
	}
	r.servers, r.searches = distinct(r.servers), distinct(r.searches)
	config = &runtimev1.DNSConfig{
		Servers:  r.servers[:min(len(r.servers), maxNameservers)],
		Searches: cutSearches(r.searches),
		Options:  r.options,
	}
	if len(config.Servers) < len(r.servers) {
		omitted = append(omitted, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "+strings.Join(config.Servers, " "))
	}
	if len(config.Searches) < len(r.searches) {
		omitted = append(omitted, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "+strings.Join(config.Searches, " "))
	}
	return config, omitted
}

func effectiveDNSPolicy(spec *corev1.PodSpec) corev1.DNSPolicy {
	switch {
	case spec.DNSPolicy == corev1.DNSClusterFirstWithHostNet:
		return corev1.DNSClusterFirst
	case spec.DNSPolicy == corev1.DNSDefault, spec.DNSPolicy == corev1.DNSNone:
		return spec.DNSPolicy
	case spec.HostNetwork:
		return corev1.DNSDefault
	}
	return corev1.DNSClusterFirst
}

// mergeOptions lets an option of the same name take the place of the earlier one.
func mergeOptions(options []string, more []corev1.PodDNSConfigOption) []string {
	for _, o := range more {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		same := func(s string) bool { name, _, _ := strings.Cut(s, ":"); return name == o.Name }
		if i := slices.IndexFunc(options, same); i >= 0 {
			options[i] = text
			continue
		}
		options = append(options, text)
	}
	return options
}

func distinct(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func cutSearches(list []string) []string {
	list = list[:min(len(list), maxSearches)]
	for len(strings.Join(list, " ")) > maxSearchChars {
		list = list[:len(list)-1]
	}
	return list
}
