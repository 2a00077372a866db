package planner

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/rollout"
)

// Who is behind a service beside the pods that are ready (semantics.md 4.2).

// takes reports whether a pod that exists is behind the services that mean it: it is ready, or the service does not care. One that
// the state does not know has no address for others before it is taken over.
func (s *service) takes(p *pod) bool {
	return p.serves() || s.value.Spec.PublishNotReadyAddresses && p.known && !p.dead && !p.missing && p.ip != ""
}

// manualEndpoints are those of the endpoint slices that name a service without selector.
func (d *draft) manualEndpoints(s *service) []api.EndpointLink { return d.manualOf(s.value, d.desired) }

func (d *draft) manualOf(v *corev1.Service, objects []*api.Object) []api.EndpointLink {
	if len(v.Spec.Selector) > 0 {
		return nil
	}
	var out []api.EndpointLink
	for _, o := range objects {
		e, ok := o.Value.(*discoveryv1.EndpointSlice)
		if !ok || e.Namespace != v.Namespace || e.Labels[discoveryv1.LabelServiceName] != v.Name {
			continue
		}
		ports := slicePorts(v, e)
		if len(ports) == 0 && !api.Headless(v) {
			continue
		}
		for i := range e.Endpoints {
			end := &e.Endpoints[i]
			ready := either(end.Conditions.Ready, true) || v.Spec.PublishNotReadyAddresses
			terminating := either(end.Conditions.Terminating, false)
			if !ready && !(terminating && either(end.Conditions.Serving, either(end.Conditions.Ready, true))) {
				continue
			}
			link := api.EndpointLink{IP: end.Addresses[0], Ports: ports, Terminating: terminating}
			if end.Hostname != nil {
				link.Hostname = *end.Hostname
			}
			if end.NodeName != nil {
				link.Node = *end.NodeName
			}
			out = append(out, link)
		}
	}
	return out
}

func either(b *bool, otherwise bool) bool {
	if b == nil {
		return otherwise
	}
	return *b
}

// slicePorts maps the service's ports to the numbers that a slice gives for them.
func slicePorts(svc *corev1.Service, e *discoveryv1.EndpointSlice) map[string]int32 {
	out := map[string]int32{}
	for _, p := range svc.Spec.Ports {
		for _, q := range e.Ports {
			name, protocol := "", corev1.ProtocolTCP
			if q.Name != nil {
				name = *q.Name
			}
			if q.Protocol != nil {
				protocol = *q.Protocol
			}
			if name == p.Name && protocol == p.Protocol && q.Port != nil {
				out[p.Name] = *q.Port
			}
		}
	}
	return out
}

// sidecarContainers are the init containers that run beside the others.
func sidecarContainers(spec *corev1.PodSpec) []corev1.Container {
	var out []corev1.Container
	for _, c := range spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	return out
}

// local reports whether some packets for the service go only to pods of the node that they arrive at.
func (s *service) local() bool {
	return rollout.ExternalLocal(s.value) || s.value.Spec.InternalTrafficPolicy != nil && *s.value.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
}

// lingers reports whether a pod that has left a service is still the only one that could answer, anywhere or, where packets do not
// leave their node, on its node. It is sent to until it is gone, as in Kubernetes.
func (s *service) lingers(p *pod) bool {
	if !s.rules || p.dead || p.ip == "" {
		return false
	}
	for name := range s.ports[p] {
		anywhere, here := false, false
		for _, m := range s.members {
			if _, ok := s.ports[m][name]; ok {
				anywhere, here = true, here || m.host == p.host
			}
		}
		if !anywhere || s.local() && !here {
			return true
		}
	}
	return false
}

// forgetEnded takes the pods that are gone now out of the services that still sent to them.
func (t *changeOver) forgetEnded(removed []graph.Step) []graph.Step {
	var out []graph.Step
	for _, s := range t.workload.services {
		n := len(s.ending)
		s.ending = slices.DeleteFunc(s.ending, func(p *pod) bool {
			gone := slices.Contains(t.workload.pods, p)
			if gone {
				s.touched = append(s.touched, p)
			}
			return gone
		})
		if len(s.ending) < n {
			out = append(out, t.setRules(s, "the last pods of "+t.workload.address.String()+" are gone", removed)...)
		}
	}
	t.own = append(t.own, out...)
	return out
}

// lastSets are the latest steps that set a service's rules.
func (d *draft) lastSets(s *service) []graph.Step {
	var out []graph.Step
	for _, h := range d.hosts {
		if step, ok := s.last[h]; ok {
			out = append(out, step)
		}
	}
	return out
}

// publish brings the pods of a wave into the services that do not wait for readiness, as soon as they have addresses.
func (t *changeOver) publish(k int, wave rollout.Wave) {
	ensured := t.ensured
	t.ensured = nil
	if len(ensured) == 0 {
		return
	}
	come := slices.Clone(t.workload.fresh[k])
	for _, i := range wave.Mend {
		come = append(come, t.workload.pods[i])
	}
	come = slices.DeleteFunc(come, t.workload.hidden)
	for _, s := range t.workload.services {
		if s.value.Spec.PublishNotReadyAddresses && t.moveMembers(s, come, nil) {
			t.own = append(t.own, t.setRules(s, "new pods of "+t.workload.address.String()+" have addresses", ensured)...)
		}
	}
}
