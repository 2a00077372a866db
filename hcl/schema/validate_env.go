package schema

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	k8sfield "k8s.io/apimachinery/pkg/util/validation/field"
)

// environment checks where the variables of a container come from.
func (c *checker) environment(p string, spec *corev1.PodSpec, ct *corev1.Container) {
	names := once{}
	for i, ep := range elements(p+".env", ct.Env, func(e *corev1.EnvVar) string { return e.Name }) {
		e := &ct.Env[i]
		if c.needs(ep+".name", e.Name, "write it as the block's label") {
			c.invalid(ep+".name", e.Name, validation.IsRelaxedEnvVarName(e.Name)...)
			names.add(c, ep+".name", e.Name)
		}
		if e.ValueFrom == nil {
			continue
		}
		if e.Value != "" {
			c.invalid(ep+".valueFrom", "", "may not be specified when `value` is not empty")
		}
		c.valueFrom(ep+".valueFrom", spec, e.ValueFrom)
	}
	for i, ep := range indexed(p+".envFrom", ct.EnvFrom) {
		e := &ct.EnvFrom[i]
		if e.Prefix != "" {
			c.invalid(ep+".prefix", e.Prefix, validation.IsRelaxedEnvVarName(e.Prefix)...)
		}
		c.exactlyOne(ep, []string{"configMapRef", "secretRef"}, e.ConfigMapRef != nil, e.SecretRef != nil)
		if r := e.ConfigMapRef; r != nil {
			c.reference(ep+".configMapRef.name", r.Name)
		}
		if r := e.SecretRef; r != nil {
			c.reference(ep+".secretRef.name", r.Name)
		}
	}
}

// exactlyOne checks a choice of which one has to be made.
func (c *checker) exactlyOne(p string, choices []string, set ...bool) {
	n := 0
	for _, s := range set {
		if s {
			n++
		}
	}
	switch {
	case n == 0:
		c.required(p, "must specify one of: `"+strings.Join(choices, "`, `")+"`")
	case n > 1:
		c.invalid(p, "", "may not have more than one field specified at a time")
	}
}

// reference checks the name of another object.
func (c *checker) reference(p, name string) {
	if c.needs(p, name, "") {
		c.invalid(p, name, validation.IsDNS1123Subdomain(name)...)
	}
}

func (c *checker) valueFrom(p string, spec *corev1.PodSpec, v *corev1.EnvVarSource) {
	c.exactlyOne(p, []string{"fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"}, v.FieldRef != nil, v.ResourceFieldRef != nil, v.ConfigMapKeyRef != nil, v.SecretKeyRef != nil)
	if r := v.FieldRef; r != nil {
		c.fieldPath(p+".fieldRef.fieldPath", r.FieldPath)
	}
	if r := v.ResourceFieldRef; r != nil {
		c.resourceField(p+".resourceFieldRef", spec, r)
	}
	if r := v.ConfigMapKeyRef; r != nil {
		c.reference(p+".configMapKeyRef.name", r.Name)
		c.key(p+".configMapKeyRef.key", r.Key)
	}
	if r := v.SecretKeyRef; r != nil {
		c.reference(p+".secretKeyRef.name", r.Name)
		c.key(p+".secretKeyRef.key", r.Key)
	}
}

func (c *checker) key(p, key string) {
	if c.needs(p, key, "") {
		c.invalid(p, key, validation.IsConfigMapKey(key)...)
	}
}

// fieldPaths are the fields of a pod that a variable can have.
var fieldPaths = []string{"metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels['KEY']", "metadata.annotations['KEY']",
	"spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"}

func (c *checker) fieldPath(p, value string) {
	if !c.needs(p, value, "") || slices.Contains(fieldPaths, value) {
		return
	}
	for _, f := range []string{"metadata.labels['", "metadata.annotations['"} {
		if key, ok := strings.CutPrefix(value, f); ok && strings.HasSuffix(key, "']") {
			key = strings.TrimSuffix(key, "']")
			c.invalid(p, value, validation.IsQualifiedName(strings.ToLower(key))...)
			return
		}
	}
	c.unsupported(p, value, fieldPaths...)
}

// resourceFields are the amounts of a container that a variable or a file can have.
var resourceFields = []string{"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"}

// divisors are the units in which an amount can be told.
var divisors = map[string]struct {
	values []string
	of     string
}{
	"cpu":               {[]string{"1m", "1"}, "cpu resource"},
	"memory":            {byteDivisors, "memory resource"},
	"ephemeral-storage": {byteDivisors, "local ephemeral storage resource"},
}

var byteDivisors = []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}

// resourceField checks a reference to an amount that some container of the pod asks for.
func (c *checker) resourceField(p string, spec *corev1.PodSpec, r *corev1.ResourceFieldSelector) {
	if n := r.ContainerName; n != "" {
		is := func(ct corev1.Container) bool { return ct.Name == n }
		if !slices.ContainsFunc(spec.Containers, is) && !slices.ContainsFunc(spec.InitContainers, is) {
			e := k8sfield.NotFound(nil, n)
			e.Detail = "the pod has no container of this name"
			c.report(p+".containerName", e)
		}
	}
	if !c.needs(p+".resource", r.Resource, "") {
		return
	}
	if !slices.Contains(resourceFields, r.Resource) {
		c.unsupported(p+".resource", r.Resource, resourceFields...)
		return
	}
	_, name, _ := strings.Cut(r.Resource, ".")
	if d := divisors[name]; !r.Divisor.IsZero() && !slices.Contains(d.values, r.Divisor.String()) {
		list := strings.Join(d.values, ", ")
		if len(d.values) == 2 {
			list = strings.Join(d.values, " and ")
		}
		c.invalid(p+".divisor", r.Resource, "only divisor's values "+list+" are supported with the "+d.of)
	}
}
