package runtime

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// serviceVariables tell a pod of the services of its namespace, those that were known when it was made (semantics.md 1.11).
func serviceVariables(pod *corev1.Pod, services []*corev1.Service) *variables {
	vars := &variables{values: map[string]string{}}
	if !api.WantsServiceLinks(&pod.Spec) {
		return vars
	}
	for _, s := range services {
		if ip := s.Spec.ClusterIP; ip != "" && ip != corev1.ClusterIPNone && len(s.Spec.Ports) > 0 {
			link(vars, s)
		}
	}
	return vars
}

func link(vars *variables, s *corev1.Service) {
	prefix := variableName(s.Name)
	port := func(p corev1.ServicePort) string { return strconv.Itoa(int(p.Port)) }
	vars.set(prefix+"_SERVICE_HOST", s.Spec.ClusterIP)
	vars.set(prefix+"_SERVICE_PORT", port(s.Spec.Ports[0]))
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			vars.set(prefix+"_SERVICE_PORT_"+variableName(p.Name), port(p))
		}
	}
	for i, p := range s.Spec.Ports {
		protocol := string(corev1.ProtocolTCP)
		if p.Protocol != "" {
			protocol = string(p.Protocol)
		}
		url := strings.ToLower(protocol) + "://" + net.JoinHostPort(s.Spec.ClusterIP, port(p))
		if i == 0 {
			vars.set(prefix+"_PORT", url)
		}
		each := fmt.Sprintf("%s_PORT_%d_%s", prefix, p.Port, strings.ToUpper(protocol))
		vars.set(each, url)
		vars.set(each+"_PROTO", strings.ToLower(protocol))
		vars.set(each+"_PORT", port(p))
		vars.set(each+"_ADDR", s.Spec.ClusterIP)
	}
}

func variableName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }
