package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
)

func listServices(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindService) {
		s := l.service(o)
		out = append(out, entry{meta: s, object: covered(o, s), cells: []string{
			s.Name, or(string(s.Spec.Type), string(corev1.ServiceTypeClusterIP)), serviceIP(s), serviceExternal(s), servicePorts(s), l.ageOf(o), labelText(s.Spec.Selector),
		}})
	}
	return out
}

// service is an applied service with its status: the load balancer's address, once a node holds it.
func (l *live) service(o *api.Object) *corev1.Service {
	s := o.Value.(*corev1.Service)
	if node, _ := l.state.HolderOf(s); node == "" {
		return s
	}
	s = s.DeepCopy()
	for _, ip := range api.LoadBalancerIPs(s) {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	return s
}

// serviceIP is the CLUSTER-IP cell (semantics.md 8.3).
func serviceIP(s *corev1.Service) string {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return "<none>"
	}
	return or(s.Spec.ClusterIP, "<none>")
}

// serviceExternal is the EXTERNAL-IP cell.
func serviceExternal(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var ips []string
		for _, i := range s.Status.LoadBalancer.Ingress {
			ips = append(ips, or(i.IP, i.Hostname))
		}
		return or(strings.Join(append(ips, s.Spec.ExternalIPs...), ","), "<pending>")
	}
	return or(strings.Join(s.Spec.ExternalIPs, ","), "<none>")
}

func servicePorts(s *corev1.Service) string {
	var ports []string
	for _, p := range s.Spec.Ports {
		text := strconv.Itoa(int(p.Port))
		if p.NodePort != 0 {
			text += ":" + strconv.Itoa(int(p.NodePort))
		}
		ports = append(ports, text+"/"+or(string(p.Protocol), "TCP"))
	}
	return or(strings.Join(ports, ","), "<none>")
}

// endpoint is a ready pod behind one port of a service.
type endpoint struct {
	pod     string
	node    string
	address string // IP and port
}

// endpoints lists the ready pods behind a service's port, by address.
func (l *live) endpoints(s *corev1.Service, port *corev1.ServicePort) []endpoint {
	if len(s.Spec.Selector) == 0 {
		return l.manualEndpoints(s, port)
	}
	var out []endpoint
	selector := labels.SelectorFromSet(s.Spec.Selector)
	for _, p := range l.pods() {
		ready := podReady(&p) && p.DeletionTimestamp == nil || s.Spec.PublishNotReadyAddresses
		if p.Namespace != s.Namespace || !ready || p.Status.PodIP == "" || !selector.Matches(labels.Set(p.Labels)) {
			continue
		}
		if n := targetPort(&p, port); n != 0 {
			families := api.ServiceFamilies(s, &l.state.Cluster)
			for _, ip := range p.Status.PodIPs {
				if slices.Contains(families, api.FamilyOf(ip.IP)) {
					out = append(out, endpoint{p.Name, p.Spec.NodeName, net.JoinHostPort(ip.IP, strconv.Itoa(int(n)))})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b endpoint) int { return strings.Compare(a.address, b.address) })
	return out
}

// manualEndpoints are those that somebody has written for a service without selector.
func (l *live) manualEndpoints(s *corev1.Service, port *corev1.ServicePort) []endpoint {
	var out []endpoint
	for _, o := range l.objects(api.KindEndpointSlice) {
		e := o.Value.(*discoveryv1.EndpointSlice)
		if e.Namespace != s.Namespace || e.Labels[discoveryv1.LabelServiceName] != s.Name {
			continue
		}
		for _, p := range e.Ports {
			if p.Port == nil || text(p.Name) != port.Name {
				continue
			}
			for _, end := range e.Endpoints {
				if end.Conditions.Ready == nil || *end.Conditions.Ready || s.Spec.PublishNotReadyAddresses {
					out = append(out, endpoint{node: text(end.NodeName), address: fmt.Sprintf("%s:%d", end.Addresses[0], *p.Port)})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b endpoint) int { return strings.Compare(a.address, b.address) })
	return out
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// targetPort is the number in the pod of a service's port; 0 when the pod has no port of that name.
func targetPort(p *corev1.Pod, port *corev1.ServicePort) int32 {
	if n := port.TargetPort.IntVal; n != 0 {
		return n
	}
	if port.TargetPort.StrVal == "" {
		return port.Port
	}
	protocol := or(string(port.Protocol), string(corev1.ProtocolTCP))
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		for _, cp := range c.Ports {
			if cp.Name == port.TargetPort.StrVal && or(string(cp.Protocol), string(corev1.ProtocolTCP)) == protocol {
				return cp.ContainerPort
			}
		}
	}
	return 0
}

// firstThree joins the first three addresses, as Kubernetes does.
func firstThree(list []endpoint) string {
	var parts []string
	for _, e := range list[:min(3, len(list))] {
		parts = append(parts, e.address)
	}
	text := or(strings.Join(parts, ","), "<none>")
	if more := len(list) - 3; more > 0 {
		text += fmt.Sprintf(" + %d more...", more)
	}
	return text
}

func listEndpointSlices(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindEndpointSlice) {
		e := o.Value.(*discoveryv1.EndpointSlice)
		var ports, ends []string
		for _, p := range e.Ports {
			if p.Port != nil {
				ports = append(ports, strconv.Itoa(int(*p.Port)))
			}
		}
		for _, end := range e.Endpoints {
			ends = append(ends, end.Addresses...)
		}
		out = append(out, entry{meta: e, object: covered(o, e), cells: []string{
			e.Name, string(e.AddressType), or(strings.Join(ports, ","), "<unset>"), or(strings.Join(ends, ","), "<unset>"), l.ageOf(o),
		}})
	}
	return out
}

// describeEndpointSlice shows endpoints that somebody has written.
func describeEndpointSlice(d *description, _ *live, e entry) error {
	var s discoveryv1.EndpointSlice
	if err := uncovered(e, &s); err != nil {
		return err
	}
	d.head(&s, true)
	d.labels(&s)
	d.key("AddressType", s.AddressType)
	d.put(0, "Ports:")
	for _, p := range s.Ports {
		number, protocol := "<unset>", string(corev1.ProtocolTCP)
		if p.Port != nil {
			number = strconv.Itoa(int(*p.Port))
		}
		if p.Protocol != nil {
			protocol = string(*p.Protocol)
		}
		d.put(1, "%s\t%s/%s", or(text(p.Name), "<unset>"), number, protocol)
	}
	d.put(0, "Endpoints:")
	for _, end := range s.Endpoints {
		d.put(1, "- Addresses:\t%s", strings.Join(end.Addresses, ","))
		d.put(1, "  Ready:\t%t", end.Conditions.Ready == nil || *end.Conditions.Ready)
		d.put(1, "  Hostname:\t%s", or(text(end.Hostname), "<unset>"))
		d.put(1, "  NodeName:\t%s", or(text(end.NodeName), "<unset>"))
	}
	return nil
}

func listEndpoints(l *live) []entry {
	var out []entry
	for _, o := range l.objects(api.KindService) {
		s := o.Value.(*corev1.Service)
		var all []endpoint
		subsets := []map[string]any{}
		for i := range s.Spec.Ports {
			list := l.endpoints(s, &s.Spec.Ports[i])
			all = append(all, list...)
			subsets = append(subsets, subset(&s.Spec.Ports[i], list))
		}
		object := map[string]any{"apiVersion": "v1", "kind": "Endpoints", "metadata": metav1.ObjectMeta{Name: s.Name, Namespace: s.Namespace, Labels: s.Labels}, "subsets": subsets}
		out = append(out, entry{meta: s, object: object, cells: []string{s.Name, firstThree(all), l.ageOf(o)}})
	}
	return out
}

// subset is one port's ready addresses in the form of core/v1 Endpoints.
func subset(port *corev1.ServicePort, list []endpoint) map[string]any {
	addresses := []map[string]any{}
	var number int64
	for _, e := range list {
		ip, n, _ := strings.Cut(e.address, ":")
		number, _ = strconv.ParseInt(n, 10, 32)
		address := map[string]any{"ip": ip}
		if e.node != "" {
			address["nodeName"] = e.node
		}
		if e.pod != "" {
			address["targetRef"] = map[string]any{"kind": "Pod", "name": e.pod}
		}
		addresses = append(addresses, address)
	}
	return map[string]any{"addresses": addresses, "ports": []map[string]any{{"name": port.Name, "port": number, "protocol": or(string(port.Protocol), "TCP")}}}
}
