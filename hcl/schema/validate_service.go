package schema

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	k8sfield "k8s.io/apimachinery/pkg/util/validation/field"

	"berth.dev/berth/api"
)

func (c *checker) service(svc *corev1.Service) {
	s := &svc.Spec
	named := s.Type == corev1.ServiceTypeExternalName
	headless := s.ClusterIP == corev1.ClusterIPNone || len(s.ClusterIPs) > 0 && s.ClusterIPs[0] == corev1.ClusterIPNone
	if len(s.Ports) == 0 && !headless && !named {
		c.required("spec.ports", "a service needs at least one port block")
	}
	c.labels("spec.selector", s.Selector)
	switch {
	case headless && (s.Type == corev1.ServiceTypeNodePort || s.Type == corev1.ServiceTypeLoadBalancer):
		c.invalid("spec.clusterIP", s.ClusterIP, "may not be set to 'None' for "+string(s.Type)+" services")
	case s.ClusterIP != "" && named:
		c.forbidden("spec.clusterIP", "may not be set for ExternalName services")
	case s.ClusterIP != "" && !headless:
		c.ip("spec.clusterIP", s.ClusterIP)
	}
	c.families(s)
	c.serviceReach(s)
	names, ports, nodePorts := once{}, once{}, once{}
	for i, p := range elements("spec.ports", s.Ports, func(p *corev1.ServicePort) string { return p.Name }) {
		c.servicePort(p, &s.Ports[i], s.Type)
		switch name := s.Ports[i].Name; {
		case name != "":
			c.invalid(p+".name", name, validation.IsDNS1123Label(name)...)
			names.add(c, p+".name", name)
		case len(s.Ports) > 1:
			c.required(p+".name", "each port of a service with several has a name; write it as the block's label")
		}
		proto := protocol(s.Ports[i].Protocol)
		ports.add(c, p, fmt.Sprintf("%d/%s", s.Ports[i].Port, proto))
		if n := s.Ports[i].NodePort; n != 0 {
			nodePorts.add(c, p+".nodePort", fmt.Sprintf("%d/%s", n, proto))
		}
	}
}

// serviceReach checks from where a service is reached and who answers: affinity, traffic policies, addresses.
func (c *checker) serviceReach(s *corev1.ServiceSpec) {
	balanced := s.Type == corev1.ServiceTypeLoadBalancer
	outside := balanced || s.Type == corev1.ServiceTypeNodePort || len(s.ExternalIPs) > 0
	for _, f := range []struct {
		path string
		set  bool
	}{
		{"spec.loadBalancerSourceRanges", len(s.LoadBalancerSourceRanges) > 0},
		{"spec.loadBalancerClass", s.LoadBalancerClass != nil},
		{"spec.allocateLoadBalancerNodePorts", s.AllocateLoadBalancerNodePorts != nil},
		{"spec.loadBalancerIP", s.LoadBalancerIP != ""},
	} {
		if f.set && !balanced {
			c.forbidden(f.path, "may only be used when `type` is 'LoadBalancer'")
		}
	}
	if s.ExternalTrafficPolicy != "" && !outside {
		c.invalid("spec.externalTrafficPolicy", string(s.ExternalTrafficPolicy), "may only be set for externally-accessible services")
	}
	if s.HealthCheckNodePort != 0 {
		c.invalid("spec.healthCheckNodePort", s.HealthCheckNodePort, validation.IsValidPortNum(int(s.HealthCheckNodePort))...)
		if !balanced || s.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
			c.invalid("spec.healthCheckNodePort", s.HealthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'")
		}
	}
	c.affinity(s)
	c.balancerIPs(s.LoadBalancerIP)
	for i, ip := range s.ExternalIPs {
		c.outsideIP(fmt.Sprintf("spec.externalIPs[%d]", i), ip)
	}
	for i, r := range s.LoadBalancerSourceRanges {
		p := fmt.Sprintf("spec.loadBalancerSourceRanges[%d]", i)
		for _, e := range validation.IsValidCIDR(nil, r) {
			c.invalid(p, r, e.Detail)
		}
	}
	if s.Type == corev1.ServiceTypeExternalName {
		if c.needs("spec.externalName", s.ExternalName, "the name that the service stands for") {
			c.invalid("spec.externalName", s.ExternalName, validation.IsDNS1123Subdomain(strings.TrimSuffix(s.ExternalName, "."))...)
		}
	} else if s.ExternalName != "" {
		c.forbidden("spec.externalName", "may only be used when `type` is 'ExternalName'")
	}
}

func (c *checker) affinity(s *corev1.ServiceSpec) {
	config := s.SessionAffinityConfig
	if config == nil {
		return
	}
	if s.SessionAffinity != corev1.ServiceAffinityClientIP {
		c.forbidden("spec.sessionAffinityConfig", fmt.Sprintf("must not be set when session affinity is %s", corev1.ServiceAffinityNone))
		return
	}
	if config.ClientIP != nil && config.ClientIP.TimeoutSeconds != nil {
		if n := *config.ClientIP.TimeoutSeconds; n <= 0 || n > maxAffinitySeconds {
			c.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", n, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds))
		}
	}
}

// maxAffinitySeconds is a day, as in Kubernetes.
const maxAffinitySeconds = 86400

// balancerIPs checks an address, or two of different families with a comma between.
func (c *checker) balancerIPs(text string) {
	if text == "" {
		return
	}
	const path = "spec.loadBalancerIP"
	ips := strings.Split(text, ",")
	if len(ips) > 2 || len(ips) == 2 && api.FamilyOf(ips[0]) == api.FamilyOf(ips[1]) {
		c.invalid(path, text, "may hold one address, or one of each family with a comma between")
		return
	}
	for _, ip := range ips {
		c.ip(path, ip)
	}
}

// outsideIP checks an address that is not the cluster's: Kubernetes' ValidateNonSpecialIP.
func (c *checker) outsideIP(path, value string) {
	c.ip(path, value)
	ip, err := netip.ParseAddr(value)
	if err != nil {
		return
	}
	for _, bad := range []struct {
		is   bool
		text string
	}{
		{ip.IsUnspecified(), "may not be unspecified (0.0.0.0 or ::)"},
		{ip.IsLoopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"},
		{ip.IsLinkLocalUnicast(), "may not be in the link-local range (169.254.0.0/16, fe80::/10)"},
		{ip.IsLinkLocalMulticast(), "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"},
	} {
		if bad.is {
			c.invalid(path, value, bad.text)
		}
	}
}

// maxEndpoints is how many endpoints one slice may have, as in Kubernetes; a service may have several slices.
const maxEndpoints = 1000

// endpointSlice checks endpoints that somebody has written for a service without selector.
func (c *checker) endpointSlice(s *discoveryv1.EndpointSlice) {
	if c.needs("addressType", string(s.AddressType), `write "IPv4" or "IPv6"`) && s.Labels[discoveryv1.LabelServiceName] == "" {
		c.required("metadata.labels", fmt.Sprintf("the label %s = NAME says which service the endpoints belong to", discoveryv1.LabelServiceName))
	}
	if len(s.Endpoints) > maxEndpoints {
		c.report("endpoints", k8sfield.TooMany(nil, len(s.Endpoints), maxEndpoints))
	}
	for i := range s.Endpoints {
		e, p := &s.Endpoints[i], fmt.Sprintf("endpoints[%d]", i)
		if len(e.Addresses) == 0 {
			c.required(p+".addresses", "must contain at least 1 address")
		}
		if len(e.Addresses) > 1 {
			c.report(p+".addresses", k8sfield.TooMany(nil, len(e.Addresses), 1))
		}
		for j, ip := range e.Addresses {
			path := fmt.Sprintf("%s.addresses[%d]", p, j)
			c.outsideIP(path, ip)
			if f := api.FamilyOf(ip); f != "" && s.AddressType != "" && string(f) != string(s.AddressType) {
				c.invalid(path, ip, fmt.Sprintf("must be an %s address", s.AddressType))
			}
		}
		if e.Hostname != nil {
			c.invalid(p+".hostname", *e.Hostname, validation.IsDNS1123Label(*e.Hostname)...)
		}
		if e.NodeName != nil {
			c.invalid(p+".nodeName", *e.NodeName, validation.IsDNS1123Subdomain(*e.NodeName)...)
		}
	}
	names := once{}
	for i := range s.Ports {
		port, p := &s.Ports[i], fmt.Sprintf("ports[%d]", i)
		name := ""
		if port.Name != nil {
			name = *port.Name
		}
		if name != "" {
			c.invalid(p+".name", name, validation.IsDNS1123Label(name)...)
		}
		names.add(c, p+".name", name)
		if port.Port == nil {
			c.required(p+".port", "")
			continue
		}
		c.invalid(p+".port", *port.Port, validation.IsValidPortNum(int(*port.Port))...)
	}
}

func (c *checker) servicePort(p string, port *corev1.ServicePort, kind corev1.ServiceType) {
	if port.Port == 0 {
		c.required(p+".port", "")
	} else {
		c.invalid(p+".port", port.Port, validation.IsValidPortNum(int(port.Port))...)
	}
	switch t := port.TargetPort; {
	case t.Type == intstr.String:
		c.invalid(p+".targetPort", t.StrVal, validation.IsValidPortName(t.StrVal)...)
	case t.IntVal != 0:
		c.invalid(p+".targetPort", t.IntVal, validation.IsValidPortNum(int(t.IntVal))...)
	}
	if port.NodePort == 0 {
		return
	}
	if kind != corev1.ServiceTypeNodePort && kind != corev1.ServiceTypeLoadBalancer {
		c.forbidden(p+".nodePort", "may not be used when `type` is 'ClusterIP'; set type = \"NodePort\"")
	}
	c.invalid(p+".nodePort", port.NodePort, validation.IsValidPortNum(int(port.NodePort))...)
}
