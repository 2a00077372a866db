package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"berth.dev/berth/cmd/berth/view"

	"berth.dev/berth/api"
)

func describeNode(d *description, l *live, e entry) error {
	n := e.object.(corev1.Node)
	d.key("Name", n.Name)
	d.key("Roles", or(strings.Join(nodeRoles(&n), ","), "<none>"))
	d.labels(&n)
	d.created(&n)
	var taints []string
	for _, t := range n.Spec.Taints {
		taints = append(taints, t.ToString())
	}
	slices.Sort(taints)
	d.list(0, "Taints", taints)
	d.key("Unschedulable", n.Spec.Unschedulable)
	d.key("Lease", "<none>") // nothing on a host reports by itself
	var rows [][]string
	for _, c := range n.Status.Conditions {
		asked := when(metav1.NewTime(l.now))
		switch {
		case !c.LastHeartbeatTime.IsZero():
			asked = when(c.LastHeartbeatTime)
		case c.Status == corev1.ConditionUnknown:
			asked = "<unknown>"
		}
		rows = append(rows, []string{string(c.Type), string(c.Status), asked, when(c.LastTransitionTime), c.Reason, oneLine(c.Message)})
	}
	d.table(0, "Conditions", []string{"Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message"}, rows)
	d.put(0, "Addresses:")
	for _, a := range n.Status.Addresses {
		d.put(1, "%s:\t%s", a.Type, a.Address)
	}
	d.resources(0, "Capacity", n.Status.Capacity)
	d.resources(0, "Allocatable", n.Status.Allocatable)
	info := n.Status.NodeInfo
	d.put(0, "System Info:")
	for _, kv := range [][2]string{
		{"Boot ID", info.BootID}, {"Kernel Version", info.KernelVersion}, {"OS Image", info.OSImage}, {"Operating System", info.OperatingSystem},
		{"Architecture", info.Architecture}, {"Container Runtime Version", info.ContainerRuntimeVersion},
	} {
		d.put(1, "%s:\t%s", kv[0], kv[1])
	}
	d.some("PodCIDR", n.Spec.PodCIDR)
	d.some("PodCIDRs", strings.Join(n.Spec.PodCIDRs, ","))
	describeNodePods(d, l, &n)
	return nil
}

// describeNodePods lists the pods of a node with what they ask for, and the sums.
func describeNodePods(d *description, l *live, n *corev1.Node) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	var rows [][]string
	for _, p := range l.pods() {
		if p.Spec.NodeName != n.Name || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed && p.Status.Reason != reasonMissing {
			continue
		}
		r, m := resourcehelper.PodRequests(&p, resourcehelper.PodResourcesOptions{}), resourcehelper.PodLimits(&p, resourcehelper.PodResourcesOptions{})
		addTo(requests, r)
		addTo(limits, m)
		row := []string{p.Namespace, p.Name}
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			row = append(row, shareText(r, name, n), shareText(m, name, n))
		}
		rows = append(rows, append(row, l.age(p.CreationTimestamp)))
	}
	d.table(0, fmt.Sprintf("Non-terminated Pods:\t(%d in total)", len(rows)),
		[]string{"Namespace", "Name", "CPU Requests", "CPU Limits", "Memory Requests", "Memory Limits", "Age"}, rows)
	d.put(0, "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)")
	rows = nil
	names := map[corev1.ResourceName]bool{corev1.ResourceCPU: true, corev1.ResourceMemory: true, corev1.ResourceEphemeralStorage: true}
	for _, list := range []corev1.ResourceList{requests, limits} {
		for name := range list {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		rows = append(rows, []string{string(name), shareText(requests, name, n), shareText(limits, name, n)})
	}
	d.rows(1, []string{"Resource", "Requests", "Limits"}, rows)
}

func addTo(sum, list corev1.ResourceList) {
	for name, q := range list {
		have := sum[name]
		have.Add(q)
		sum[name] = have
	}
}

// shareText is "100m (2%)", of what the node can give.
func shareText(list corev1.ResourceList, name corev1.ResourceName, n *corev1.Node) string {
	q, ok := list[name]
	if !ok {
		q = *resource.NewQuantity(0, resource.DecimalSI)
	}
	all := n.Status.Allocatable[name]
	if all.IsZero() {
		return q.String() + " (0%)"
	}
	return q.String() + " (" + strconv.FormatInt(int64(q.AsApproximateFloat64()/all.AsApproximateFloat64()*100), 10) + "%)"
}

func describeService(d *description, l *live, e entry) error {
	var s corev1.Service
	if err := uncovered(e, &s); err != nil {
		return err
	}
	d.head(&s, true)
	d.labels(&s)
	d.key("Selector", labelText(s.Spec.Selector))
	d.key("Type", or(string(s.Spec.Type), string(corev1.ServiceTypeClusterIP)))
	policy, families := corev1.IPFamilyPolicySingleStack, api.ServiceFamilies(&s, &l.state.Cluster)
	switch {
	case s.Spec.IPFamilyPolicy != nil:
		policy = *s.Spec.IPFamilyPolicy
	case len(families) > 1: // a headless service without selector
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	d.key("IP Family Policy", policy)
	var names []string
	for _, f := range families {
		names = append(names, string(f))
	}
	d.key("IP Families", strings.Join(names, ","))
	d.key("IP", serviceIP(&s))
	ips := api.ClusterIPs(&s)
	if api.Headless(&s) {
		ips = []string{corev1.ClusterIPNone}
	}
	d.key("IPs", or(strings.Join(ips, ","), "<none>"))
	d.some("External IPs", strings.Join(s.Spec.ExternalIPs, ","))
	d.some("External Name", s.Spec.ExternalName)
	d.some("Desired LoadBalancer IP", s.Spec.LoadBalancerIP)
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		d.key("LoadBalancer Ingress", serviceExternal(&s))
		node, _ := l.state.HolderOf(&s)
		d.some("Held By", node)
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		protocol := or(string(p.Protocol), "TCP")
		d.key("Port", fmt.Sprintf("%s  %d/%s", or(p.Name, "<unset>"), p.Port, protocol))
		target := p.TargetPort.String()
		if p.TargetPort.IntVal == 0 && p.TargetPort.StrVal == "" {
			target = strconv.Itoa(int(p.Port))
		}
		d.key("TargetPort", target+"/"+protocol)
		if p.NodePort != 0 {
			d.key("NodePort", fmt.Sprintf("%s  %d/%s", or(p.Name, "<unset>"), p.NodePort, protocol))
		}
		d.key("Endpoints", firstThree(l.endpoints(&s, p)))
	}
	d.key("Session Affinity", or(string(s.Spec.SessionAffinity), "None"))
	if s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		d.key("External Traffic Policy", or(string(s.Spec.ExternalTrafficPolicy), "Cluster"))
	}
	if s.Spec.HealthCheckNodePort != 0 {
		d.key("HealthCheck NodePort", s.Spec.HealthCheckNodePort)
	}
	internal := "Cluster"
	if s.Spec.InternalTrafficPolicy != nil {
		internal = string(*s.Spec.InternalTrafficPolicy)
	}
	d.key("Internal Traffic Policy", internal)
	d.some("LoadBalancer Source Ranges", strings.Join(s.Spec.LoadBalancerSourceRanges, ","))
	return nil
}

// describeEndpoints shows what is behind a service.
func describeEndpoints(d *description, l *live, e entry) error {
	d.head(e.meta, true)
	d.labels(e.meta)
	for _, o := range l.owners("service") {
		s, ok := o.Value.(*corev1.Service)
		if !ok || s.Name != e.meta.GetName() || s.Namespace != e.meta.GetNamespace() {
			continue
		}
		d.put(0, "Subsets:")
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			d.put(1, "Port:\t%s %d/%s", or(p.Name, "<unset>"), p.Port, or(string(p.Protocol), "TCP"))
			var rows []string
			for _, ep := range l.endpoints(s, p) {
				row := ep.address
				if ep.pod != "" {
					row = fmt.Sprintf("%s (%s on %s)", ep.address, ep.pod, ep.node)
				}
				rows = append(rows, row)
			}
			d.list(2, "Addresses", rows)
		}
	}
	return nil
}

// describeEvent shows one event.
func describeEvent(d *description, _ *live, e entry) error {
	ev := e.object.(*corev1.Event)
	d.head(ev, true)
	d.key("Type", ev.Type)
	d.key("Reason", ev.Reason)
	d.key("Object", strings.ToLower(ev.InvolvedObject.Kind)+"/"+ev.InvolvedObject.Name)
	d.some("Field", ev.InvolvedObject.FieldPath)
	d.key("Message", oneLine(ev.Message))
	d.key("Source", ev.Source.Component+", "+or(ev.Source.Host, "<none>"))
	d.key("First Seen", when(ev.FirstTimestamp)+" ("+view.Age(d.now.Sub(ev.FirstTimestamp.Time))+" ago)")
	d.key("Last Seen", when(ev.LastTimestamp)+" ("+view.Age(d.now.Sub(ev.LastTimestamp.Time))+" ago)")
	d.key("Count", ev.Count)
	return nil
}
