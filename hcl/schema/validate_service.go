package schema

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

func (c *checker) service(svc *corev1.Service) {
	s := &svc.Spec
	named := s.Type == corev1.ServiceTypeExternalName
	headless := s.ClusterIP == corev1.ClusterIPNone
	if len(s.Ports) == 0 && !headless && !named {
		c.required("spec.ports", "a service needs at least one port block")
	}
	if len(s.Selector) == 0 && !named {
		c.required("spec.selector", "the labels of the pods that the service leads to")
	}
	c.labels("spec.selector", s.Selector)
	switch {
	case headless && s.Type == corev1.ServiceTypeNodePort:
		c.invalid("spec.clusterIP", s.ClusterIP, "may not be set to 'None' for NodePort services")
	case s.ClusterIP != "" && named:
		c.forbidden("spec.clusterIP", "may not be set for ExternalName services")
	case s.ClusterIP != "" && !headless:
		c.ip("spec.clusterIP", s.ClusterIP)
	}
	c.externalName(s)
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

// externalName checks the name that a service stands for.
func (c *checker) externalName(s *corev1.ServiceSpec) {
	if s.Type != corev1.ServiceTypeExternalName {
		if s.ExternalName != "" {
			c.forbidden("spec.externalName", "may only be used when `type` is 'ExternalName'")
		}
		return
	}
	if c.needs("spec.externalName", s.ExternalName, "the name that the service stands for") {
		c.invalid("spec.externalName", s.ExternalName, validation.IsDNS1123Subdomain(strings.TrimSuffix(s.ExternalName, "."))...)
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
	if kind != corev1.ServiceTypeNodePort {
		c.forbidden(p+".nodePort", "may not be used when `type` is 'ClusterIP'; set type = \"NodePort\"")
	}
	c.invalid(p+".nodePort", port.NodePort, validation.IsValidPortNum(int(port.NodePort))...)
}
