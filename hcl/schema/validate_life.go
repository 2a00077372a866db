package schema

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	k8sfield "k8s.io/apimachinery/pkg/util/validation/field"

	"berth.dev/berth/api"
)

// lifetime checks what bounds the life of a pod.
func (c *checker) lifetime(path string, s *corev1.PodSpec, restart []corev1.RestartPolicy) {
	atLeast(c, path+".terminationGracePeriodSeconds", s.TerminationGracePeriodSeconds, 0)
	n := s.ActiveDeadlineSeconds
	if n == nil {
		return
	}
	path += ".activeDeadlineSeconds"
	if *n < 1 || *n > math.MaxInt32 {
		c.invalid(path, *n, validation.InclusiveRangeError(1, math.MaxInt32))
	}
	if len(restart) == 1 && restart[0] == corev1.RestartPolicyAlways { // pods that are meant to run on
		owner := c.o.Kind().APIKind
		if c.o.Address.Kind == api.KindDeployment {
			owner = "ReplicaSet"
		}
		c.forbidden(path, "activeDeadlineSeconds in "+owner+" is not Supported")
	}
}

// containerLife checks the probes and hooks of a container, and what is not for one that ends by itself.
func (c *checker) containerLife(p string, ct *corev1.Container, init bool, grace *int64) {
	sidecar := ct.RestartPolicy != nil && *ct.RestartPolicy == corev1.ContainerRestartPolicyAlways
	switch {
	case ct.RestartPolicy == nil:
	case !init:
		c.forbidden(p+".restartPolicy", "may not be set for non-init containers")
	case !sidecar:
		c.unsupported(p+".restartPolicy", string(*ct.RestartPolicy), string(corev1.ContainerRestartPolicyAlways))
	}
	ends := init && !sidecar
	for _, f := range []struct {
		name string
		set  bool
	}{{"lifecycle", ct.Lifecycle != nil}, {"livenessProbe", ct.LivenessProbe != nil}, {"readinessProbe", ct.ReadinessProbe != nil}, {"startupProbe", ct.StartupProbe != nil}} {
		if ends && f.set {
			c.forbidden(p+"."+f.name, "may not be set for init containers without restartPolicy=Always")
		}
	}
	c.probe(p+".readinessProbe", ct.ReadinessProbe, ct.Ports)
	c.probe(p+".livenessProbe", ct.LivenessProbe, ct.Ports)
	c.probe(p+".startupProbe", ct.StartupProbe, ct.Ports)
	if r := ct.ReadinessProbe; r != nil && r.TerminationGracePeriodSeconds != nil {
		c.invalid(p+".readinessProbe.terminationGracePeriodSeconds", *r.TerminationGracePeriodSeconds, "must not be set for readinessProbes")
	}
	c.killingProbe(p+".livenessProbe", ct.LivenessProbe)
	c.killingProbe(p+".startupProbe", ct.StartupProbe)
	if l := ct.Lifecycle; l != nil {
		c.hook(p+".lifecycle.postStart", l.PostStart, ct.Ports, grace)
		c.hook(p+".lifecycle.preStop", l.PreStop, ct.Ports, grace)
	}
}

// probe checks what all probes have in common.
func (c *checker) probe(p string, probe *corev1.Probe, ports []corev1.ContainerPort) {
	if probe == nil {
		return
	}
	h := &probe.ProbeHandler
	c.handlers(p, []string{"http_get", "tcp_socket", "exec", "grpc"}, h.HTTPGet != nil, h.TCPSocket != nil, h.Exec != nil, h.GRPC != nil)
	c.execAction(p+".exec", h.Exec)
	c.httpAction(p+".httpGet", h.HTTPGet, ports)
	if h.TCPSocket != nil {
		c.probePort(p+".tcpSocket.port", h.TCPSocket.Port, ports)
	}
	if h.GRPC != nil {
		c.invalid(p+".grpc.port", h.GRPC.Port, validation.IsValidPortNum(int(h.GRPC.Port))...)
	}
	atLeast(c, p+".initialDelaySeconds", &probe.InitialDelaySeconds, 0)
	atLeast(c, p+".timeoutSeconds", &probe.TimeoutSeconds, 0)
	atLeast(c, p+".periodSeconds", &probe.PeriodSeconds, 0)
	atLeast(c, p+".successThreshold", &probe.SuccessThreshold, 0)
	atLeast(c, p+".failureThreshold", &probe.FailureThreshold, 0)
}

// killingProbe checks a probe whose failure kills the container.
func (c *checker) killingProbe(p string, probe *corev1.Probe) {
	if probe == nil {
		return
	}
	if probe.SuccessThreshold > 1 {
		c.invalid(p+".successThreshold", probe.SuccessThreshold, "must be 1")
	}
	if g := probe.TerminationGracePeriodSeconds; g != nil && *g <= 0 {
		c.invalid(p+".terminationGracePeriodSeconds", *g, "must be greater than 0")
	}
}

func (c *checker) hook(p string, h *corev1.LifecycleHandler, ports []corev1.ContainerPort, grace *int64) {
	if h == nil {
		return
	}
	c.handlers(p, []string{"exec", "http_get", "sleep"}, h.Exec != nil, h.HTTPGet != nil, h.Sleep != nil)
	c.execAction(p+".exec", h.Exec)
	c.httpAction(p+".httpGet", h.HTTPGet, ports)
	if h.Sleep == nil {
		return
	}
	most := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if grace != nil {
		most = *grace
	}
	if h.Sleep.Seconds < 0 || h.Sleep.Seconds > most {
		c.invalid(p+".sleep.seconds", h.Sleep.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", most))
	}
}

// handlers checks that there is just one.
func (c *checker) handlers(p string, names []string, set ...bool) {
	n := 0
	for _, s := range set {
		if s {
			n++
		}
	}
	switch {
	case n == 0:
		c.required(p, "must specify a handler type: one of "+strings.Join(names, ", "))
	case n > 1:
		c.forbidden(p, "may not specify more than 1 handler type")
	}
}

func (c *checker) execAction(p string, a *corev1.ExecAction) {
	if a != nil && len(a.Command) == 0 {
		c.required(p+".command", "")
	}
}

func (c *checker) httpAction(p string, a *corev1.HTTPGetAction, ports []corev1.ContainerPort) {
	if a == nil {
		return
	}
	c.probePort(p+".port", a.Port, ports)
	for i, hp := range elements(p+".httpHeaders", a.HTTPHeaders, func(h *corev1.HTTPHeader) string { return h.Name }) {
		name := a.HTTPHeaders[i].Name
		c.invalid(hp+".name", name, validation.IsHTTPHeaderName(name)...)
	}
}

func (c *checker) probePort(p string, port intstr.IntOrString, ports []corev1.ContainerPort) {
	if port.Type == intstr.Int {
		if port.IntVal == 0 {
			c.required(p, "a number or the name of one of the container's ports")
			return
		}
		c.invalid(p, port.IntVal, validation.IsValidPortNum(int(port.IntVal))...)
		return
	}
	if messages := validation.IsValidPortName(port.StrVal); len(messages) > 0 {
		c.invalid(p, port.StrVal, messages...)
		return
	}
	if !slices.ContainsFunc(ports, func(cp corev1.ContainerPort) bool { return cp.Name == port.StrVal }) {
		e := k8sfield.NotFound(nil, port.StrVal)
		e.Detail = "the container has no port of this name"
		c.report(p, e)
	}
}
