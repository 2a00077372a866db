package planner

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

// Ways in from outside.
const (
	byNodePort   = "node port"
	byBalancer   = "load balancer"
	byExternalIP = "external IP"
	byHealth     = "health check port"
)

// opening is one port of a service on one address.
type opening struct {
	service  api.Address
	by       string
	port     int32
	protocol string
	sources  string // with commas
	at       api.ExposedAddress
}

// expose compares what of the services could be reached from outside before with what can be after the plan. It is about who may
// come in, not about whether somebody answers: a service whose pods are not ready yet counts.
func (d *draft) expose() {
	before, after := map[opening]bool{}, map[opening]bool{}
	for _, o := range d.prior.Objects {
		if v := priorService(o); v != nil {
			d.openings(before, o.Address, rollout.ServiceDefaults(v), holderOf(d.prior, v), d.nodesBefore(v))
		}
	}
	if !d.Destroy {
		for _, s := range d.services {
			d.openings(after, s.object.Address, s.value, s.holder, d.nodesAfter(s))
		}
	}
	grouped := map[string]*api.Exposure{}
	note := func(o opening, a api.Action) {
		e := api.Exposure{Service: o.service, Action: a, By: o.by, Port: o.port, Protocol: o.protocol}
		key := strings.Join([]string{o.service.String(), string(a), o.by, strconv.Itoa(int(o.port)), o.protocol, o.sources}, "\n")
		if grouped[key] == nil {
			if o.sources != "" {
				e.Sources = strings.Split(o.sources, ",")
			}
			grouped[key] = &e
		}
		grouped[key].At = append(grouped[key].At, o.at)
	}
	for o := range after {
		if !before[o] {
			note(o, api.Create)
		}
	}
	for o := range before {
		if !after[o] {
			note(o, api.Delete)
		}
	}
	for _, key := range sortedKeys(grouped) {
		e := grouped[key]
		slices.SortFunc(e.At, func(a, b api.ExposedAddress) int {
			return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.IP, b.IP))
		})
		d.plan.Exposure = append(d.plan.Exposure, *e)
	}
	slices.SortFunc(d.plan.Exposure, api.Exposure.Compare)
}

// exposedNode is a node as clients outside see it.
type exposedNode struct {
	name string
	ips  []string
	pods bool // it has pods of the service
}

// openings adds what a service opens. Addresses of the pool are those of nobody in particular while the holder moves within the cluster.
func (d *draft) openings(into map[opening]bool, a api.Address, v *corev1.Service, holder string, nodes []exposedNode) {
	if !hasRules(v) {
		return
	}
	sources := ""
	if v.Spec.Type == corev1.ServiceTypeLoadBalancer {
		ranges := slices.Clone(v.Spec.LoadBalancerSourceRanges)
		slices.Sort(ranges)
		sources = strings.Join(slices.Compact(ranges), ",")
	}
	if n := v.Spec.HealthCheckNodePort; n != 0 { // every node says whether it has pods
		for _, node := range nodes {
			for _, ip := range node.ips {
				if api.OfFamily(api.FamilyOf(ip), api.ClusterIPs(v)...) != "" {
					into[opening{service: a, by: byHealth, port: n, protocol: string(corev1.ProtocolTCP), at: api.ExposedAddress{Node: node.name, IP: ip}}] = true
				}
			}
		}
	}
	for _, p := range v.Spec.Ports {
		o := opening{service: a, port: p.Port, protocol: string(p.Protocol)}
		for _, ip := range api.LoadBalancerIPs(v) {
			if holder != "" {
				o.by, o.sources, o.at = byBalancer, sources, api.ExposedAddress{IP: ip}
				into[o] = true
			}
		}
		o.sources = ""
		for _, ip := range v.Spec.ExternalIPs {
			o.by, o.at = byExternalIP, api.ExposedAddress{IP: ip}
			into[o] = true
		}
		if p.NodePort == 0 {
			continue
		}
		o.by, o.port = byNodePort, p.NodePort
		for _, n := range nodes {
			for _, ip := range n.ips {
				if (n.pods || !rollout.ExternalLocal(v)) && api.OfFamily(api.FamilyOf(ip), api.ClusterIPs(v)...) != "" {
					o.at = api.ExposedAddress{Node: n.name, IP: ip}
					into[o] = true
				}
			}
		}
	}
}

func holderOf(s *api.State, v *corev1.Service) string {
	node, _ := s.HolderOf(v)
	return node
}

// nodesBefore are the members as last applied.
func (d *draft) nodesBefore(v *corev1.Service) []exposedNode {
	selector := labels.SelectorFromSet(v.Spec.Selector)
	var out []exposedNode
	for _, n := range d.prior.Nodes {
		e := exposedNode{name: n.Name, ips: n.IPs()}
		if len(v.Spec.Selector) > 0 && rollout.ExternalLocal(v) {
			e.pods = slices.ContainsFunc(d.prior.Pods, func(p api.PodState) bool {
				return p.Node == n.Name && p.Ready && p.Namespace == v.Namespace && selector.Matches(labels.Set(p.Labels))
			})
		}
		for _, l := range d.manualOf(v, d.prior.Objects) {
			e.pods = e.pods || l.Node == n.Name
		}
		out = append(out, e)
	}
	return out
}

// nodesAfter are the members when the plan is done. Hosts that cannot be worked on stay as they were.
func (d *draft) nodesAfter(s *service) []exposedNode {
	with := map[string]bool{}
	for _, m := range s.members {
		with[m.host.name] = true
	}
	for _, l := range s.manual {
		with[l.Node] = true
	}
	var out []exposedNode
	for _, h := range d.hosts {
		switch {
		case h.member():
			out = append(out, exposedNode{h.name, h.ips(), with[h.name]})
		case h.state != nil && !h.leaves: // its rules stay as they are
			if old := d.prior.Object(s.object.Address); old != nil {
				for _, n := range d.nodesBefore(priorService(old)) {
					if n.name == h.name {
						out = append(out, n)
					}
				}
			}
		}
	}
	return out
}
