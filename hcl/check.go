package hcl

import (
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
)

// cross checks what must hold between the objects of a configuration, and finds which objects use which by name.
type cross struct {
	objects    []*api.Object
	cluster    api.Cluster
	nodes      []string // names
	incomplete bool     // some block has errors, so nothing is said of what is missing
	byName     map[objectName]*api.Object
	pods       map[string][]podTemplate // by namespace
	labelled   map[podLabel][]podTemplate
	endpoints  map[string]bool // "namespace/name" of the services that endpoint slices name
	links      []link
	diags      api.Diagnostics
}

// objectName tells objects apart in Kubernetes: two of the same kind in one namespace cannot have one name.
type objectName struct{ kind, namespace, name string }

// link says that an object uses another one by name.
type link struct {
	user *api.Object
	used api.Address
}

// podLabel is one label that pods of a namespace have.
type podLabel struct{ namespace, key, value string }

// podTemplate is what services see of the pods of an object.
type podTemplate struct {
	owner  *api.Object
	labels map[string]string
	spec   *corev1.PodSpec
}

func newCross(cluster api.Cluster, objects []*api.Object, nodes []*api.Node, incomplete bool) *cross {
	c := &cross{cluster: cluster, objects: objects, incomplete: incomplete, byName: make(map[objectName]*api.Object, len(objects)), pods: map[string][]podTemplate{}, labelled: map[podLabel][]podTemplate{}, endpoints: map[string]bool{}}
	for _, n := range nodes {
		c.nodes = append(c.nodes, n.Name)
	}
	for _, o := range objects {
		id := objectName{o.Address.Kind, o.Namespace(), o.Name()}
		if first, ok := c.byName[id]; ok {
			c.duplicate(o, first)
			continue
		}
		c.byName[id] = o
		if e, ok := o.Value.(*discoveryv1.EndpointSlice); ok {
			c.endpoints[o.Namespace()+"/"+e.Labels[discoveryv1.LabelServiceName]] = true
		}
		if t, ok := templateOf(o); ok {
			c.pods[o.Namespace()] = append(c.pods[o.Namespace()], t)
			for k, v := range t.labels {
				l := podLabel{o.Namespace(), k, v}
				c.labelled[l] = append(c.labelled[l], t)
			}
		}
	}
	return c
}

func templateOf(o *api.Object) (podTemplate, bool) {
	v := o.Value
	spec := api.PodSpecOf(v)
	if spec == nil {
		return podTemplate{}, false
	}
	if c, ok := api.ControllerOf(v); ok {
		return podTemplate{o, c.Template.Labels, spec}, true
	}
	return podTemplate{o, v.GetLabels(), spec}, true
}

func (c *cross) duplicate(o, first *api.Object) {
	where := ""
	if o.Namespace() != "" {
		where = fmt.Sprintf(" in namespace %q", o.Namespace())
	}
	c.errorf(o, "metadata.name", "Duplicate name", "%s and %s are both the %s %q%s; the other one is at %s. Set another name or namespace.",
		o.Address, first.Address, o.Kind().APIKind, o.Name(), where, first.RangeOf("metadata.name"))
}

func (c *cross) errorf(o *api.Object, path, summary, format string, args ...any) {
	c.diags.Errorf(o.RangeOf(path), summary, format, args...)
	c.diags[len(c.diags)-1].Address = o.Address.String()
}

func (c *cross) check() {
	for _, o := range c.objects {
		c.use(o, "metadata.namespace", api.KindNamespace, "", o.Namespace(), true)
		if spec := api.PodSpecOf(o.Value); spec != nil {
			c.node(o, api.PodSpecPath(o.Address.Kind)+".nodeName", spec.NodeName)
			c.podSpec(o, api.PodSpecPath(o.Address.Kind), spec)
			c.sysctls(o, api.PodSpecPath(o.Address.Kind), spec)
			c.priority(o, api.PodSpecPath(o.Address.Kind), spec)
		}
		if v, ok := o.Value.(*api.Volume); ok {
			c.node(o, "spec.node", v.Spec.Node)
		}
		switch v := o.Value.(type) {
		case *corev1.Service:
			c.service(o, v)
		case *appsv1.StatefulSet:
			c.governing(o, v)
		case *discoveryv1.EndpointSlice:
			c.endpointSlice(o, v)
		case *api.Autoscaler:
			c.autoscaler(o, v)
		}
	}
	c.oneDefault()
	c.overlaps()
}

// node reports the name of a node that the inventory does not have.
func (c *cross) node(o *api.Object, path, name string) {
	if name == "" || c.incomplete || slices.Contains(c.nodes, name) || c.hidden(o, path, api.KindNode) {
		return
	}
	c.errorf(o, path, "Node not found", "There is no node %q, neither as a block nor in an inventory. %s", name, suggest(name, slices.Clone(c.nodes), "Declared:"))
}

// hidden reports a sensitive name of something that does not exist, without the name.
func (c *cross) hidden(o *api.Object, path, what string) bool {
	if !slices.Contains(o.Sensitive, path) {
		return false
	}
	c.errorf(o, path, "Sensitive name not found", "This names %s that does not exist. The name is not shown, because its value is sensitive.", article(what))
	return true
}

// use links an object to one that it names, and reports when there is none, unless that is all right.
func (c *cross) use(o *api.Object, path, kind, namespace, name string, optional bool) {
	if name == "" {
		return
	}
	if used, ok := c.byName[objectName{kind, namespace, name}]; ok {
		if used != o {
			c.links = append(c.links, link{o, used.Address})
		}
		return
	}
	if optional || c.incomplete || c.hidden(o, path, kind) {
		return
	}
	var names []string
	elsewhere := ""
	for id := range c.byName {
		switch {
		case id.kind == kind && id.namespace == namespace:
			names = append(names, id.name)
		case id.kind == kind && id.name == name:
			elsewhere = id.namespace
		}
	}
	row, _ := api.KindByName(kind)
	hint := suggest(name, names, "There are")
	if elsewhere != "" {
		hint = fmt.Sprintf("There is one in namespace %q, but pods see only those of their own namespace.", elsewhere)
	} else if len(names) == 0 {
		hint = fmt.Sprintf("The configuration declares none there: add a %s block, or make the use of it optional where that can be.", row.Block)
		if kind == api.KindVolume {
			hint = "The configuration declares none there: add a volume block."
		}
	}
	c.errorf(o, path, row.APIKind+" not found", "There is no %s %q in namespace %q. %s", row.Name, name, namespace, hint)
}

func (c *cross) podSpec(o *api.Object, path string, spec *corev1.PodSpec) {
	for i := range spec.Volumes {
		at := elementPath(path+".volumes", spec.Volumes[i].Name, i)
		c.volume(o, at, &spec.Volumes[i])
		c.files(o, at, &spec.Volumes[i])
	}
	for _, list := range []struct {
		name       string
		containers []corev1.Container
	}{{"initContainers", spec.InitContainers}, {"containers", spec.Containers}} {
		for i := range list.containers {
			c.container(o, elementPath(path+"."+list.name, list.containers[i].Name, i), &list.containers[i])
		}
	}
	for i, s := range spec.ImagePullSecrets {
		c.pullSecret(o, elementPath(path+".imagePullSecrets", s.Name, i), s.Name)
	}
}

func (c *cross) volume(o *api.Object, path string, v *corev1.Volume) {
	if s := v.PersistentVolumeClaim; s != nil {
		c.use(o, path+".persistentVolumeClaim.claimName", api.KindVolume, o.Namespace(), s.ClaimName, false)
	}
	if s := v.ConfigMap; s != nil {
		c.use(o, path+".configMap.name", api.KindConfigMap, o.Namespace(), s.Name, isTrue(s.Optional))
		c.items(o, path+".configMap", api.KindConfigMap, s.Name, s.Items, isTrue(s.Optional))
	}
	if s := v.Secret; s != nil {
		c.use(o, path+".secret.secretName", api.KindSecret, o.Namespace(), s.SecretName, isTrue(s.Optional))
		c.items(o, path+".secret", api.KindSecret, s.SecretName, s.Items, isTrue(s.Optional))
	}
	if v.Projected == nil {
		return
	}
	for i, s := range v.Projected.Sources {
		at := fmt.Sprintf("%s.projected.sources[%d]", path, i)
		if s.ConfigMap != nil {
			c.use(o, at+".configMap.name", api.KindConfigMap, o.Namespace(), s.ConfigMap.Name, isTrue(s.ConfigMap.Optional))
			c.items(o, at+".configMap", api.KindConfigMap, s.ConfigMap.Name, s.ConfigMap.Items, isTrue(s.ConfigMap.Optional))
		}
		if s.Secret != nil {
			c.use(o, at+".secret.name", api.KindSecret, o.Namespace(), s.Secret.Name, isTrue(s.Secret.Optional))
			c.items(o, at+".secret", api.KindSecret, s.Secret.Name, s.Secret.Items, isTrue(s.Secret.Optional))
		}
	}
}

func (c *cross) items(o *api.Object, path, kind, name string, items []corev1.KeyToPath, optional bool) {
	for i, item := range items {
		c.key(o, fmt.Sprintf("%s.items[%d].key", path, i), kind, name, item.Key, optional)
	}
}

// key reports a key that an object of the configuration does not have.
func (c *cross) key(o *api.Object, path, kind, name, key string, optional bool) {
	used, ok := c.byName[objectName{kind, o.Namespace(), name}]
	if !ok || optional || c.incomplete {
		return
	}
	keys := keysOf(used)
	if !slices.Contains(keys, key) && !c.hidden(o, path, "key") {
		c.errorf(o, path, "Key not found", "The %s %q has no key %q. %s", used.Kind().Name, name, key, suggest(key, keys, "It has"))
	}
}

func (c *cross) container(o *api.Object, path string, container *corev1.Container) {
	for i, env := range container.Env {
		at := elementPath(path+".env", env.Name, i) + ".valueFrom."
		if env.ValueFrom == nil {
			continue
		}
		if r := env.ValueFrom.ConfigMapKeyRef; r != nil {
			c.use(o, at+"configMapKeyRef.name", api.KindConfigMap, o.Namespace(), r.Name, isTrue(r.Optional))
			c.key(o, at+"configMapKeyRef.key", api.KindConfigMap, r.Name, r.Key, isTrue(r.Optional))
		}
		if r := env.ValueFrom.SecretKeyRef; r != nil {
			c.use(o, at+"secretKeyRef.name", api.KindSecret, o.Namespace(), r.Name, isTrue(r.Optional))
			c.key(o, at+"secretKeyRef.key", api.KindSecret, r.Name, r.Key, isTrue(r.Optional))
		}
	}
	for i, from := range container.EnvFrom {
		at := fmt.Sprintf("%s.envFrom[%d].", path, i)
		if r := from.ConfigMapRef; r != nil {
			c.use(o, at+"configMapRef.name", api.KindConfigMap, o.Namespace(), r.Name, isTrue(r.Optional))
		}
		if r := from.SecretRef; r != nil {
			c.use(o, at+"secretRef.name", api.KindSecret, o.Namespace(), r.Name, isTrue(r.Optional))
		}
	}
}

func isTrue(b *bool) bool { return b != nil && *b }

func elementPath(list, name string, i int) string {
	if name == "" {
		return fmt.Sprintf("%s[%d]", list, i)
	}
	return list + "[" + name + "]"
}

// service checks that a service can have endpoints: some workload's pods have its labels, and the ports that it names.
func (c *cross) service(o *api.Object, svc *corev1.Service) {
	c.nameless(o, svc)
	if c.incomplete || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	if len(svc.Spec.Selector) == 0 {
		if !c.endpoints[o.Namespace()+"/"+svc.Name] {
			c.errorf(o, "spec.selector", "Service without endpoints", "The service has no selector, and no endpoint_slice block in namespace %q has the label %s = %q, so it would never have an endpoint. Write one of them.",
				o.Namespace(), discoveryv1.LabelServiceName, svc.Name)
		}
		return
	}
	selected := c.selectPods(o.Namespace(), svc.Spec.Selector)
	if len(selected) == 0 {
		c.errorf(o, "spec.selector", "Selector matches nothing", "No workload in namespace %q makes pods with the labels %s, so this service would never have an endpoint. %s",
			o.Namespace(), labels.Set(svc.Spec.Selector), c.nearLabels(o.Namespace(), svc.Spec.Selector))
		return
	}
	for i, port := range svc.Spec.Ports {
		if port.TargetPort.Type != intstr.String || port.TargetPort.StrVal == "" {
			continue
		}
		names := portNames(selected)
		if !slices.Contains(names, port.TargetPort.StrVal) {
			hint := suggest(port.TargetPort.StrVal, names, "They have")
			if len(names) == 0 {
				hint = "Their containers have no port blocks with names: add one, or write the port's number."
			}
			c.errorf(o, elementPath("spec.ports", port.Name, i)+".targetPort", "Port not found",
				"None of the pods that this service selects has a port named %q. %s", port.TargetPort.StrVal, hint)
		}
	}
}

// nameless warns of a service that is a name and nothing else where the cluster has no DNS.
func (c *cross) nameless(o *api.Object, svc *corev1.Service) {
	if c.cluster.DNS != "" || !api.Headless(svc) && svc.Spec.Type != corev1.ServiceTypeExternalName {
		return
	}
	r := o.RangeOf("spec.clusterIP")
	c.diags = append(c.diags, api.Diagnostic{
		Severity: api.SeverityWarning, Summary: "Service has no effect", Address: o.Address.String(), Range: &r,
		Detail: "This service is a name in the cluster's DNS and nothing else, and DNS is switched off (dns { enabled = false } in the cluster block).",
	})
}

// governing links a stateful set to the headless service below which its pods have their names.
func (c *cross) governing(o *api.Object, set *appsv1.StatefulSet) {
	c.use(o, "spec.serviceName", api.KindService, o.Namespace(), set.Spec.ServiceName, c.cluster.DNS == "")
	used, ok := c.byName[objectName{api.KindService, o.Namespace(), set.Spec.ServiceName}]
	if !ok || c.cluster.DNS == "" {
		return
	}
	if svc, is := used.Value.(*corev1.Service); is && !api.Headless(svc) {
		r := o.RangeOf("spec.serviceName")
		c.diags = append(c.diags, api.Diagnostic{
			Severity: api.SeverityWarning, Summary: "Pods have no names", Address: o.Address.String(), Range: &r,
			Detail: "The pods of a stateful set have names below a headless service, and " + used.Address.String() + " is none. Set its cluster_ip = \"None\".",
		})
	}
}

// endpointSlice checks that endpoints are those of a service that has no others.
func (c *cross) endpointSlice(o *api.Object, e *discoveryv1.EndpointSlice) {
	name := e.Labels[discoveryv1.LabelServiceName]
	if c.incomplete || name == "" {
		return
	}
	s := c.byName[objectName{api.KindService, o.Namespace(), name}]
	if s == nil {
		c.errorf(o, "metadata.labels", "Service not found", "The label %s names the service %q, which namespace %q does not have.", discoveryv1.LabelServiceName, name, o.Namespace())
		return
	}
	c.links = append(c.links, link{s, o.Address})
	svc := s.Value.(*corev1.Service)
	if len(svc.Spec.Selector) > 0 {
		c.errorf(o, "metadata.labels", "Service has a selector", "The endpoints of the service %q are the pods that its selector means, so these would be no part of it. Take the selector away, or the endpoints.", name)
	}
	for i, p := range e.Ports {
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		if !slices.ContainsFunc(svc.Spec.Ports, func(sp corev1.ServicePort) bool { return sp.Name == name }) && len(svc.Spec.Ports) > 0 {
			c.errorf(o, fmt.Sprintf("ports[%d].name", i), "Port not found", "The service %q has no port named %q.", svc.Name, name)
		}
	}
}

// selectPods finds the pods that have all labels of a selector, among those that have its rarest one.
func (c *cross) selectPods(namespace string, selector map[string]string) []podTemplate {
	var fewest []podTemplate
	first := true
	for k, v := range selector {
		if with := c.labelled[podLabel{namespace, k, v}]; first || len(with) < len(fewest) {
			fewest, first = with, false
		}
	}
	matches := labels.SelectorFromSet(selector)
	var out []podTemplate
	for _, p := range fewest {
		if matches.Matches(labels.Set(p.labels)) {
			out = append(out, p)
		}
	}
	return out
}

func portNames(pods []podTemplate) []string {
	var names []string
	for _, p := range pods {
		for _, container := range slices.Concat(p.spec.InitContainers, p.spec.Containers) {
			for _, port := range container.Ports {
				if port.Name != "" && !slices.Contains(names, port.Name) {
					names = append(names, port.Name)
				}
			}
		}
	}
	return names
}

// nearLabels names the labels that come nearest to a selector.
func (c *cross) nearLabels(namespace string, selector map[string]string) string {
	best, most := "", -1
	for _, p := range c.pods[namespace] {
		n := 0
		for k, v := range selector {
			if p.labels[k] == v {
				n += 2
			} else if _, ok := p.labels[k]; ok {
				n++
			}
		}
		if s := labels.Set(p.labels).String(); n > most || n == most && s < best {
			best, most = s, n
		}
	}
	if most < 0 {
		for _, ns := range slices.Sorted(maps.Keys(c.pods)) {
			for _, p := range c.pods[ns] {
				if labels.SelectorFromSet(selector).Matches(labels.Set(p.labels)) {
					return fmt.Sprintf("There are such pods in namespace %q: a service selects those of its own namespace only.", ns)
				}
			}
		}
		return "There is no workload in that namespace."
	}
	return fmt.Sprintf("The nearest pods have the labels %s.", best)
}
