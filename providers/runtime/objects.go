package runtime

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// objects are the config maps, secrets and services of a pod's namespace.
type objects struct {
	namespace  string
	configMaps map[string]map[string][]byte // by name
	secrets    map[string]map[string][]byte
	services   []*corev1.Service // sorted by name
}

func newObjects(namespace string, given map[api.Address]*api.Object) objects {
	o := objects{namespace: namespace, configMaps: map[string]map[string][]byte{}, secrets: map[string]map[string][]byte{}}
	for _, obj := range given {
		if obj.Namespace() != namespace {
			continue
		}
		switch v := obj.Value.(type) {
		case *corev1.ConfigMap:
			o.configMaps[v.Name] = merge(v.BinaryData, v.Data)
		case *corev1.Secret:
			o.secrets[v.Name] = merge(v.Data, v.StringData)
		case *corev1.Service:
			o.services = append(o.services, v)
		}
	}
	slices.SortFunc(o.services, func(a, b *corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	return o
}

func merge(data map[string][]byte, text map[string]string) map[string][]byte {
	out := maps.Clone(data)
	if out == nil {
		out = map[string][]byte{}
	}
	for k, v := range text {
		out[k] = []byte(v)
	}
	return out
}

// configMap returns the data of a config map; nil without an error when it is optional and not there.
func (o objects) configMap(name string, optional *bool) (map[string][]byte, error) {
	return o.find("configmap", o.configMaps, name, optional)
}

// secret returns the data of a secret; nil without an error when it is optional and not there.
func (o objects) secret(name string, optional *bool) (map[string][]byte, error) {
	return o.find("secret", o.secrets, name, optional)
}

func (o objects) find(kind string, in map[string]map[string][]byte, name string, optional *bool) (map[string][]byte, error) {
	if data, ok := in[name]; ok {
		return data, nil
	}
	if optional != nil && *optional {
		return nil, nil
	}
	return nil, fmt.Errorf("%s %q not found in namespace %s", kind, name, o.namespace)
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
