package main

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/cmd/berth/view"
)

func describePod(d *description, l *live, e entry) error {
	var p corev1.Pod
	if err := uncovered(e, &p); err != nil {
		return err
	}
	d.head(&p, true)
	if p.Spec.Priority != nil {
		d.key("Priority", *p.Spec.Priority)
	}
	d.some("Priority Class Name", p.Spec.PriorityClassName)
	if p.Spec.RuntimeClassName != nil {
		d.some("Runtime Class Name", *p.Spec.RuntimeClassName)
	}
	d.some("Service Account", p.Spec.ServiceAccountName)
	d.key("Node", or(strings.Trim(p.Spec.NodeName+"/"+p.Status.HostIP, "/"), "<none>"))
	if p.Status.StartTime != nil {
		d.key("Start Time", when(*p.Status.StartTime))
	}
	d.labels(&p)
	if p.DeletionTimestamp != nil {
		d.key("Status", fmt.Sprintf("Terminating (lasts %s)", view.Age(l.now.Sub(p.DeletionTimestamp.Time))))
		d.key("Termination Grace Period", fmt.Sprintf("%ds", *p.DeletionGracePeriodSeconds))
	} else {
		d.key("Status", p.Status.Phase)
	}
	d.some("Reason", p.Status.Reason)
	d.some("Message", p.Status.Message)
	if c := p.Spec.SecurityContext; c != nil && c.SeccompProfile != nil {
		d.key("SeccompProfile", c.SeccompProfile.Type)
		if c.SeccompProfile.LocalhostProfile != nil {
			d.key("LocalhostProfile", *c.SeccompProfile.LocalhostProfile)
		}
	}
	d.key("IP", p.Status.PodIP)
	if len(p.Status.PodIPs) == 0 {
		d.key("IPs", "<none>")
	} else {
		d.put(0, "IPs:")
		for _, ip := range p.Status.PodIPs {
			d.put(1, "IP:\t%s", ip.IP)
		}
	}
	for _, r := range p.OwnerReferences {
		d.key("Controlled By", r.Kind+"/"+r.Name)
	}
	d.some("NominatedNodeName", p.Status.NominatedNodeName)
	if r := p.Spec.Resources; r != nil {
		d.put(0, "Resources:")
		d.resources(1, "Limits", r.Limits)
		d.resources(1, "Requests", r.Requests)
	}
	d.containers(0, "Init Containers", p.Spec.InitContainers, p.Status.InitContainerStatuses, &p)
	d.containers(0, "Containers", p.Spec.Containers, p.Status.ContainerStatuses, &p)
	d.containers(0, "Ephemeral Containers", ephemeralContainers(&p), p.Status.EphemeralContainerStatuses, &p)
	describePodRest(d, &p)
	return nil
}

func describePodRest(d *description, p *corev1.Pod) {
	if len(p.Spec.ReadinessGates) > 0 {
		d.put(0, "Readiness Gates:\n  Type\tStatus")
		for _, g := range p.Spec.ReadinessGates {
			status := "<none>"
			for _, c := range p.Status.Conditions {
				if c.Type == g.ConditionType {
					status = string(c.Status)
				}
			}
			d.put(1, "%v\t%v", g.ConditionType, status)
		}
	}
	if len(p.Status.Conditions) > 0 {
		d.put(0, "Conditions:\n  Type\tStatus")
		for _, c := range p.Status.Conditions {
			d.put(1, "%v\t%v", c.Type, c.Status)
		}
	}
	d.volumes(0, p.Spec.Volumes)
	d.some("QoS Class", string(p.Status.QOSClass))
	d.placement(0, &p.Spec)
}

// placement writes what says where pods may go.
func (d *description) placement(level int, s *corev1.PodSpec) {
	d.pairs(level, "Node-Selectors", s.NodeSelector, "=")
	var tolerations []string
	for _, t := range s.Tolerations {
		tolerations = append(tolerations, tolerationText(&t))
	}
	slices.Sort(tolerations)
	d.list(level, "Tolerations", tolerations)
	if len(s.TopologySpreadConstraints) == 0 {
		return
	}
	var spread []string
	for _, c := range s.TopologySpreadConstraints {
		text := fmt.Sprintf("%s:%s when max skew %d is exceeded", c.TopologyKey, c.WhenUnsatisfiable, c.MaxSkew)
		if c.LabelSelector != nil {
			text += " for selector " + metav1.FormatLabelSelector(c.LabelSelector)
		}
		spread = append(spread, text)
	}
	d.list(level, "Topology Spread Constraints", spread)
}

func tolerationText(t *corev1.Toleration) string {
	text := t.Key
	if t.Value != "" {
		text += "=" + t.Value
	}
	if t.Effect != "" {
		text += ":" + string(t.Effect)
	}
	if t.Operator == corev1.TolerationOpExists && t.Value == "" {
		text = strings.TrimSpace(text + " op=Exists")
	}
	if t.TolerationSeconds != nil {
		text += fmt.Sprintf(" for %ds", *t.TolerationSeconds)
	}
	return text
}

func ephemeralContainers(p *corev1.Pod) []corev1.Container {
	var out []corev1.Container
	for _, e := range p.Spec.EphemeralContainers {
		out = append(out, corev1.Container(e.EphemeralContainerCommon))
	}
	return out
}

// containers writes containers with their states; of a template, which has none, without.
func (d *description) containers(level int, name string, list []corev1.Container, states []corev1.ContainerStatus, p *corev1.Pod) {
	if len(list) == 0 {
		return
	}
	d.put(level, "%s:", name)
	for i := range list {
		c := &list[i]
		d.put(level+1, "%s:", c.Name)
		at := slices.IndexFunc(states, func(s corev1.ContainerStatus) bool { return s.Name == c.Name })
		if at >= 0 {
			d.put(level+2, "Container ID:\t%s", states[at].ContainerID)
		}
		d.put(level+2, "Image:\t%s", c.Image)
		if at >= 0 {
			d.put(level+2, "Image ID:\t%s", states[at].ImageID)
		}
		d.ports(level+2, c.Ports)
		d.words(level+2, "Command", c.Command)
		d.words(level+2, "Args", c.Args)
		if at >= 0 {
			d.state(level+2, "State", states[at].State)
			if states[at].LastTerminationState.Terminated != nil {
				d.state(level+2, "Last State", states[at].LastTerminationState)
			}
			d.put(level+2, "Ready:\t%s", capital(states[at].Ready))
			d.put(level+2, "Restart Count:\t%d", states[at].RestartCount)
		}
		d.resources(level+2, "Limits", c.Resources.Limits)
		d.resources(level+2, "Requests", c.Resources.Requests)
		for _, probe := range []struct {
			name string
			p    *corev1.Probe
		}{{"Liveness", c.LivenessProbe}, {"Readiness", c.ReadinessProbe}, {"Startup", c.StartupProbe}} {
			if probe.p != nil {
				d.put(level+2, "%s:\t%s", probe.name, probeText(probe.p))
			}
		}
		d.environment(level+2, c, p)
		d.mounts(level+2, c)
	}
}

func (d *description) ports(level int, ports []corev1.ContainerPort) {
	var own, host []string
	for _, p := range ports {
		text := fmt.Sprintf("%d/%s", p.ContainerPort, or(string(p.Protocol), "TCP"))
		if p.Name != "" {
			text += " (" + p.Name + ")"
		}
		own, host = append(own, text), append(host, fmt.Sprintf("%d/%s", p.HostPort, or(string(p.Protocol), "TCP")))
	}
	plural := ""
	if len(ports) > 1 {
		plural = "s"
	}
	d.put(level, "Port%s:\t%s", plural, or(strings.Join(own, ", "), "<none>"))
	d.put(level, "Host Port%s:\t%s", plural, or(strings.Join(host, ", "), "<none>"))
}

// words writes a command one word a line.
func (d *description) words(level int, name string, words []string) {
	if len(words) == 0 {
		return
	}
	d.put(level, "%s:", name)
	for _, w := range words {
		for line := range strings.SplitSeq(w, "\n") {
			d.put(level+1, "%s", line)
		}
	}
}

func (d *description) state(level int, name string, s corev1.ContainerState) {
	switch {
	case s.Running != nil:
		d.put(level, "%s:\tRunning", name)
		d.put(level+1, "Started:\t%s", when(s.Running.StartedAt))
	case s.Terminated != nil:
		t := s.Terminated
		d.put(level, "%s:\tTerminated", name)
		if t.Reason != "" {
			d.put(level+1, "Reason:\t%s", t.Reason)
		}
		if t.Message != "" {
			d.put(level+1, "Message:\t%s", strings.TrimRight(strings.ReplaceAll(t.Message, "\n", "\n\t"), "\n\t"))
		}
		d.put(level+1, "Exit Code:\t%d", t.ExitCode)
		if t.Signal > 0 {
			d.put(level+1, "Signal:\t%d", t.Signal)
		}
		d.put(level+1, "Started:\t%s", when(t.StartedAt))
		d.put(level+1, "Finished:\t%s", when(t.FinishedAt))
	default:
		d.put(level, "%s:\tWaiting", name)
		if s.Waiting != nil && s.Waiting.Reason != "" {
			d.put(level+1, "Reason:\t%s", s.Waiting.Reason)
		}
		if s.Waiting != nil && s.Waiting.Message != "" {
			d.put(level+1, "Message:\t%s", oneLine(s.Waiting.Message))
		}
	}
}

// probeText is "http-get http://:8080/healthz delay=0s timeout=1s period=10s #success=1 #failure=3".
func probeText(p *corev1.Probe) string {
	attrs := fmt.Sprintf("delay=%ds timeout=%ds period=%ds #success=%d #failure=%d",
		p.InitialDelaySeconds, orNumber(p.TimeoutSeconds, 1), orNumber(p.PeriodSeconds, 10), orNumber(p.SuccessThreshold, 1), orNumber(p.FailureThreshold, 3))
	switch {
	case p.Exec != nil:
		return fmt.Sprintf("exec %v %s", p.Exec.Command, attrs)
	case p.HTTPGet != nil:
		u := &url.URL{Scheme: strings.ToLower(or(string(p.HTTPGet.Scheme), "HTTP")), Host: net.JoinHostPort(p.HTTPGet.Host, p.HTTPGet.Port.String())}
		return fmt.Sprintf("http-get %s%s %s", u, or(p.HTTPGet.Path, "/"), attrs)
	case p.TCPSocket != nil:
		return fmt.Sprintf("tcp-socket %s:%s %s", p.TCPSocket.Host, p.TCPSocket.Port.String(), attrs)
	case p.GRPC != nil:
		service := ""
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		return fmt.Sprintf("grpc <pod>:%d %s %s", p.GRPC.Port, service, attrs)
	}
	return "unknown " + attrs
}

func orNumber(n, other int32) int32 {
	if n == 0 {
		return other
	}
	return n
}

// environment writes where variables come from. Those that only the host fills in are named with their source.
func (d *description) environment(level int, c *corev1.Container, p *corev1.Pod) {
	if len(c.EnvFrom) > 0 {
		d.put(level, "Environment Variables from:")
		for _, e := range c.EnvFrom {
			name, from, optional := "", "", false
			switch {
			case e.ConfigMapRef != nil:
				name, from, optional = e.ConfigMapRef.Name, "ConfigMap", isTrue(e.ConfigMapRef.Optional)
			case e.SecretRef != nil:
				name, from, optional = e.SecretRef.Name, "Secret", isTrue(e.SecretRef.Optional)
			}
			if e.Prefix != "" {
				from += fmt.Sprintf(" with prefix '%s'", e.Prefix)
			}
			d.put(level+1, "%s\t%s\tOptional: %t", name, from, optional)
		}
	}
	if len(c.Env) == 0 {
		d.put(level, "Environment:\t<none>")
		return
	}
	d.put(level, "Environment:")
	for i := range c.Env {
		d.variable(level+1, &c.Env[i], p)
	}
}

func (d *description) variable(level int, e *corev1.EnvVar, p *corev1.Pod) {
	from := e.ValueFrom
	switch {
	case from == nil:
		d.put(level, "%s:\t%s", e.Name, strings.ReplaceAll(e.Value, "\n", "\n\t"))
	case from.FieldRef != nil:
		d.put(level, "%s:\t%s (%s:%s)", e.Name, fieldValue(p, from.FieldRef.FieldPath), or(from.FieldRef.APIVersion, "v1"), from.FieldRef.FieldPath)
	case from.ResourceFieldRef != nil:
		d.put(level, "%s:\t(%s)", e.Name, from.ResourceFieldRef.Resource)
	case from.SecretKeyRef != nil:
		d.put(level, "%s:\t<set to the key '%s' in secret '%s'>\tOptional: %t", e.Name, from.SecretKeyRef.Key, from.SecretKeyRef.Name, isTrue(from.SecretKeyRef.Optional))
	case from.ConfigMapKeyRef != nil:
		d.put(level, "%s:\t<set to the key '%s' of config map '%s'>\tOptional: %t", e.Name, from.ConfigMapKeyRef.Key, from.ConfigMapKeyRef.Name, isTrue(from.ConfigMapKeyRef.Optional))
	}
}

// fieldValue is what a field reference gives in this pod, where that is known.
func fieldValue(p *corev1.Pod, path string) string {
	if p == nil {
		return ""
	}
	return map[string]string{
		"metadata.name": p.Name, "metadata.namespace": p.Namespace, "metadata.uid": string(p.UID),
		"spec.nodeName": p.Spec.NodeName, "spec.serviceAccountName": p.Spec.ServiceAccountName, "status.podIP": p.Status.PodIP, "status.hostIP": p.Status.HostIP,
	}[path]
}

func isTrue(b *bool) bool { return b != nil && *b }

func (d *description) mounts(level int, c *corev1.Container) {
	if len(c.VolumeMounts) == 0 {
		d.put(level, "Mounts:\t<none>")
		return
	}
	d.put(level, "Mounts:")
	list := slices.Clone(c.VolumeMounts)
	slices.SortFunc(list, func(a, b corev1.VolumeMount) int { return strings.Compare(a.MountPath, b.MountPath) })
	for _, m := range list {
		flags := "rw"
		if m.ReadOnly {
			flags = "ro"
		}
		if m.SubPath != "" {
			flags += ",path=" + strconv.Quote(m.SubPath)
		}
		d.put(level+1, "%s from %s (%s)", m.MountPath, m.Name, flags)
	}
}

func (d *description) volumes(level int, volumes []corev1.Volume) {
	if len(volumes) == 0 {
		d.put(level, "Volumes:\t<none>")
		return
	}
	d.put(level, "Volumes:")
	for i := range volumes {
		d.put(level+1, "%s:", volumes[i].Name)
		for _, line := range volumeLines(&volumes[i]) {
			d.put(level+2, "%s", line)
		}
	}
}

// volumeLines are a volume's type and fields.
func volumeLines(v *corev1.Volume) []string {
	line := func(key string, value any) string { return fmt.Sprintf("%s:\t%v", key, value) }
	switch s := v.VolumeSource; {
	case s.HostPath != nil:
		t := ""
		if s.HostPath.Type != nil {
			t = string(*s.HostPath.Type)
		}
		return []string{line("Type", "HostPath (bare host directory volume)"), line("Path", s.HostPath.Path), line("HostPathType", t)}
	case s.EmptyDir != nil:
		limit := "<unset>"
		if s.EmptyDir.SizeLimit != nil {
			limit = s.EmptyDir.SizeLimit.String()
		}
		return []string{line("Type", "EmptyDir (a temporary directory that shares a pod's lifetime)"), line("Medium", s.EmptyDir.Medium), line("SizeLimit", limit)}
	case s.ConfigMap != nil:
		return []string{line("Type", "ConfigMap (a volume populated by a ConfigMap)"), line("Name", s.ConfigMap.Name), line("Optional", isTrue(s.ConfigMap.Optional))}
	case s.Secret != nil:
		return []string{line("Type", "Secret (a volume populated by a Secret)"), line("SecretName", s.Secret.SecretName), line("Optional", isTrue(s.Secret.Optional))}
	case s.PersistentVolumeClaim != nil:
		return []string{line("Type", "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)"),
			line("ClaimName", s.PersistentVolumeClaim.ClaimName), line("ReadOnly", s.PersistentVolumeClaim.ReadOnly)}
	case s.DownwardAPI != nil:
		out := []string{line("Type", "DownwardAPI (a volume populated by information about the pod)"), "Items:"}
		return append(out, downwardLines(s.DownwardAPI.Items)...)
	case s.Projected != nil:
		out := []string{line("Type", "Projected (a volume that contains injected data from multiple sources)")}
		for _, p := range s.Projected.Sources {
			switch {
			case p.Secret != nil:
				out = append(out, line("SecretName", p.Secret.Name), line("SecretOptionalName", isTrue(p.Secret.Optional)))
			case p.ConfigMap != nil:
				out = append(out, line("ConfigMapName", p.ConfigMap.Name), line("Optional", isTrue(p.ConfigMap.Optional)))
			case p.DownwardAPI != nil:
				out = append(out, line("DownwardAPI", true))
			case p.ServiceAccountToken != nil && p.ServiceAccountToken.ExpirationSeconds != nil:
				out = append(out, line("TokenExpirationSeconds", *p.ServiceAccountToken.ExpirationSeconds))
			}
		}
		return out
	}
	return []string{line("Type", "<unknown>")}
}

func downwardLines(items []corev1.DownwardAPIVolumeFile) []string {
	var out []string
	for _, f := range items {
		from := ""
		switch {
		case f.FieldRef != nil:
			from = f.FieldRef.FieldPath
		case f.ResourceFieldRef != nil:
			from = f.ResourceFieldRef.Resource
		}
		out = append(out, fmt.Sprintf("  %s -> %s", from, f.Path))
	}
	return out
}

// template writes a pod template, indented.
func (d *description) template(t *corev1.PodTemplateSpec) {
	d.put(0, "Pod Template:")
	d.pairs(1, "Labels", t.Labels, "=")
	if len(t.Annotations) > 0 {
		d.pairs(1, "Annotations", t.Annotations, ": ")
	}
	if t.Spec.ServiceAccountName != "" {
		d.put(1, "Service Account:\t%s", t.Spec.ServiceAccountName)
	}
	d.containers(1, "Init Containers", t.Spec.InitContainers, nil, nil)
	d.containers(1, "Containers", t.Spec.Containers, nil, nil)
	d.volumes(1, t.Spec.Volumes)
	if t.Spec.PriorityClassName != "" {
		d.put(1, "Priority Class Name:\t%s", t.Spec.PriorityClassName)
	}
	d.placement(1, &t.Spec)
}
