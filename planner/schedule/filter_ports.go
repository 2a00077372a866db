package schedule

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// filterPorts refuses nodes on which a pod already has one of the host ports that the pod asks for.
func filterPorts() filter {
	return filter{
		name:    "NodePorts",
		reach:   local,
		running: true,
		compile: func(r *request) check {
			if len(r.demand.ports) == 0 {
				return nil
			}
			return func(n *node) []Reason { return portReasons(r.demand.ports, n.ports) }
		},
		only: func(r *request) string { return "with " + joinPorts(r.demand.ports) + " free" },
	}
}

func portReasons(wanted, taken []hostPort) []Reason {
	var clash []hostPort
	for _, w := range wanted {
		if slices.ContainsFunc(taken, w.conflicts) {
			clash = append(clash, w)
		}
	}
	if clash == nil {
		return nil
	}
	return []Reason{{Text: "node(s) didn't have free ports for the requested pod ports", Detail: joinPorts(clash) + " taken"}}
}

// hostPort is a port of the node that a pod takes.
type hostPort struct {
	ip       string // "" stands for every address
	protocol corev1.Protocol
	port     int32
}

func (p hostPort) conflicts(q hostPort) bool {
	return p.port == q.port && p.protocol == q.protocol && (p.ip == q.ip || p.ip == "" || q.ip == "")
}

func (p hostPort) String() string {
	if p.ip == "" {
		return fmt.Sprintf("%d/%s", p.port, p.protocol)
	}
	return fmt.Sprintf("%s:%d/%s", p.ip, p.port, p.protocol)
}

func joinPorts(ports []hostPort) string {
	var s []string
	for _, p := range ports {
		s = append(s, p.String())
	}
	return "host port " + strings.Join(s, ", ")
}

// hostPorts lists what the app containers and sidecars take. In the host's network every container port is
// one of the host.
func hostPorts(spec *corev1.PodSpec) []hostPort {
	var ports []hostPort
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			h := hostPort{p.HostIP, p.Protocol, p.HostPort}
			if spec.HostNetwork && h.port == 0 {
				h.port = p.ContainerPort
			}
			if h.port <= 0 {
				continue
			}
			if h.protocol == "" {
				h.protocol = corev1.ProtocolTCP
			}
			if h.ip == "0.0.0.0" || h.ip == "::" {
				h.ip = ""
			}
			ports = append(ports, h)
		}
	}
	for i := range spec.Containers {
		add(&spec.Containers[i])
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	return ports
}
