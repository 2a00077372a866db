package runtime

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
)

// variables is a container's environment in the order in which the names first came up.
type variables struct {
	names   []string
	values  map[string]string
	further *variables // known to references, and set where nothing else sets them; nil for none
}

func (v *variables) set(name, value string) {
	if _, known := v.values[name]; !known {
		v.names = append(v.names, name)
	}
	v.values[name] = value
}

func (v *variables) lookup(name string) (string, bool) {
	value, ok := v.values[name]
	if !ok && v.further != nil {
		return v.further.lookup(name)
	}
	return value, ok
}

func (v *variables) cri() []*runtimev1.KeyValue {
	var out []*runtimev1.KeyValue
	for _, n := range v.names {
		out = append(out, &runtimev1.KeyValue{Key: n, Value: []byte(v.values[n])})
	}
	return out
}

// environment makes a container's variables: envFrom in order, then env in order, each seeing those before, and those of services,
// which give way to both.
func (b *build) environment(c *corev1.Container) (*variables, error) {
	vars := &variables{values: map[string]string{}, further: serviceVariables(b.pod, b.objects.services)}
	for _, from := range c.EnvFrom {
		if err := b.addAll(vars, from); err != nil {
			return nil, err
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			vars.set(e.Name, expand(e.Value, vars.lookup))
			continue
		}
		value, ok, err := b.valueFrom(c, e.ValueFrom)
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", e.Name, err)
		}
		if ok {
			vars.set(e.Name, value)
		}
	}
	for _, name := range vars.further.names {
		if _, set := vars.values[name]; !set {
			vars.set(name, vars.further.values[name])
		}
	}
	return vars, nil
}

func (b *build) addAll(vars *variables, from corev1.EnvFromSource) error {
	var data map[string][]byte
	var err error
	switch {
	case from.ConfigMapRef != nil:
		data, err = b.objects.configMap(from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
	case from.SecretRef != nil:
		data, err = b.objects.secret(from.SecretRef.Name, from.SecretRef.Optional)
	default:
		return fmt.Errorf("envFrom names neither a config map nor a secret")
	}
	if err != nil {
		return err
	}
	for _, key := range sortedKeys(data) {
		vars.set(from.Prefix+key, string(data[key]))
	}
	return nil
}

// valueFrom returns a variable's value; false when it comes from something optional that is not there.
func (b *build) valueFrom(c *corev1.Container, from *corev1.EnvVarSource) (string, bool, error) {
	switch {
	case from.ConfigMapKeyRef != nil:
		r := from.ConfigMapKeyRef
		data, err := b.objects.configMap(r.Name, r.Optional)
		return pick(data, err, "ConfigMap", b.pod.Namespace, r.Name, r.Key, r.Optional)
	case from.SecretKeyRef != nil:
		r := from.SecretKeyRef
		data, err := b.objects.secret(r.Name, r.Optional)
		return pick(data, err, "Secret", b.pod.Namespace, r.Name, r.Key, r.Optional)
	case from.FieldRef != nil:
		v, err := b.field(from.FieldRef.FieldPath)
		return v, true, err
	case from.ResourceFieldRef != nil:
		v, err := b.resourceField(c, from.ResourceFieldRef)
		return v, true, err
	}
	return "", false, fmt.Errorf("valueFrom names no source that Berth knows")
}

func pick(data map[string][]byte, err error, kind, namespace, name, key string, optional *bool) (string, bool, error) {
	if err != nil {
		return "", false, err
	}
	if v, ok := data[key]; ok {
		return string(v), true, nil
	}
	if optional != nil && *optional {
		return "", false, nil
	}
	return "", false, fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, namespace, name)
}

// field is a downward API field that is one string.
func (b *build) field(path string) (string, error) {
	pod := b.pod
	if key, ok := subscript(path, "metadata.labels"); ok {
		return pod.Labels[key], nil
	}
	if key, ok := subscript(path, "metadata.annotations"); ok {
		return pod.Annotations[key], nil
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return b.node, nil
	case "spec.serviceAccountName":
		return cmp.Or(pod.Spec.ServiceAccountName, "default"), nil
	case "status.hostIP":
		return b.nodeIP, nil
	case "status.hostIPs":
		return api.JoinIPs(b.nodeIP, b.secondNodeIP), nil
	case "status.podIP":
		return b.ip, nil
	case "status.podIPs":
		return api.JoinIPs(b.ip, b.secondIP), nil
	}
	return "", fmt.Errorf("fieldRef %q is not a field that a pod can refer to", path)
}

// subscript takes the key out of metadata.labels['key'].
func subscript(path, field string) (string, bool) {
	rest, ok := strings.CutPrefix(path, field+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

// fieldText is a downward API field as a file has it: whole labels and annotations are allowed there.
func (b *build) fieldText(path string) (string, error) {
	switch path {
	case "metadata.labels":
		return mapText(b.pod.Labels), nil
	case "metadata.annotations":
		return mapText(b.pod.Annotations), nil
	}
	return b.field(path)
}

func mapText(m map[string]string) string {
	var lines []string
	for _, k := range sortedKeys(m) {
		lines = append(lines, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(lines, "\n")
}
