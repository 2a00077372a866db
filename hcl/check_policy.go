package hcl

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"

	"berth.dev/berth/api"
)

// priority checks that a pod's priority class exists: those of the system always do.
func (c *cross) priority(o *api.Object, path string, spec *corev1.PodSpec) {
	name := spec.PriorityClassName
	if _, builtIn := api.SystemPriorities[name]; name == "" || builtIn {
		return
	}
	if used, ok := c.byName[objectName{api.KindPriorityClass, "", name}]; ok {
		c.links = append(c.links, link{o, used.Address})
		return
	}
	if c.incomplete || c.hidden(o, path+".priorityClassName", api.KindPriorityClass) {
		return
	}
	var names []string
	for id := range c.byName {
		if id.kind == api.KindPriorityClass {
			names = append(names, id.name)
		}
	}
	hint := suggest(name, names, "There are")
	if len(names) == 0 {
		hint = `Declare it: priority_class "` + name + `" { value = 1000 }.`
	}
	c.errorf(o, path+".priorityClassName", "PriorityClass not found", "%s %q is forbidden: no PriorityClass with name %s was found. %s", o.Kind().Plural, o.Name(), name, hint)
}

// oneDefault refuses a second class for pods that name none.
func (c *cross) oneDefault() {
	var first *api.Object
	for _, o := range c.objects {
		if p, ok := o.Value.(*schedulingv1.PriorityClass); !ok || !p.GlobalDefault {
			continue
		}
		if first == nil {
			first = o
			continue
		}
		c.errorf(o, "globalDefault", "Forbidden", "priorityclasses.scheduling.k8s.io %q is forbidden: PriorityClass %s is already marked as default. Only one default can exist.", o.Name(), first.Name())
	}
}

// scalable are the kinds whose replicas an autoscaler can set.
var scalable = []string{"Deployment", "ReplicaSet", "ReplicationController", "StatefulSet"}

// autoscaler checks that the target of an autoscaler exists and has no other one.
func (c *cross) autoscaler(o *api.Object, h *api.Autoscaler) {
	const path = "spec.scaleTargetRef"
	ref := h.Spec.ScaleTargetRef
	if !slices.Contains(scalable, ref.Kind) {
		c.errorf(o, path+".kind", "Invalid target", "A %s has no replicas that an autoscaler could set. Targets are of the kinds %s.", ref.Kind, strings.Join(scalable, ", "))
		return
	}
	for _, k := range api.Kinds {
		if k.APIKind == ref.Kind || k.Name == api.KindReplicaSet && ref.Kind == "ReplicationController" {
			c.use(o, path+".name", k.Name, o.Namespace(), ref.Name, false)
		}
	}
	for _, other := range c.objects {
		v, ok := other.Value.(*api.Autoscaler)
		if !ok || other == o || other.Namespace() != o.Namespace() || v.Spec.ScaleTargetRef.Kind != ref.Kind || v.Spec.ScaleTargetRef.Name != ref.Name {
			continue
		}
		if other.Address.Compare(o.Address) < 0 {
			c.errorf(o, path, "Two autoscalers", "%s scales the %s %q too, and they would undo each other's work. Remove one of them.", other.Address, ref.Kind, ref.Name)
		}
	}
}
