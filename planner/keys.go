package planner

import (
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// checkKeys refuses what a pod takes from config maps and secrets that are there and do not have it, in Kubernetes' words, and
// files of one volume that get in each other's way. Objects that are missing altogether are checkReferences' business.
func (d *draft) checkKeys(o *api.Object, spec *corev1.PodSpec) {
	at := templatePath(o.Address.Kind) + "."
	for _, list := range []struct {
		path       string
		containers []corev1.Container
	}{{at + "initContainers", spec.InitContainers}, {at + "containers", spec.Containers}} {
		for i := range list.containers {
			c := &list.containers[i]
			for _, e := range c.Env {
				if e.ValueFrom != nil {
					d.checkVariable(o, list.path+"["+c.Name+"].env["+e.Name+"]", e.ValueFrom)
				}
			}
		}
	}
	d.checkFiles(o, at, spec)
}

func (d *draft) checkVariable(o *api.Object, at string, from *corev1.EnvVarSource) {
	lacks := func(kind, what, name, key string, optional *bool) {
		source := d.named[kindName(kind, o.Namespace(), name)]
		if source == nil || optional != nil && *optional {
			return
		}
		if _, ok := dataOf(source)[key]; !ok {
			d.errorAt(o, at, "Reference to nothing", "%s: couldn't find key %s in %s %s/%s. Add the key, or mark the reference optional.", o.Address, key, what, o.Namespace(), name)
		}
	}
	if r := from.ConfigMapKeyRef; r != nil {
		lacks(api.KindConfigMap, "ConfigMap", r.Name, r.Key, r.Optional)
	}
	if r := from.SecretKeyRef; r != nil {
		lacks(api.KindSecret, "Secret", r.Name, r.Key, r.Optional)
	}
}

// checkFiles goes through the files of each volume.
func (d *draft) checkFiles(o *api.Object, at string, spec *corev1.PodSpec) {
	taken := map[string]map[string]bool{} // paths by volume
	for _, s := range sourcesOf(spec) {
		source := d.named[kindName(s.kind, o.Namespace(), s.name)]
		if source == nil {
			continue
		}
		if taken[s.volume] == nil {
			taken[s.volume] = fieldFiles(spec, s.volume)
		}
		data := dataOf(source)
		for _, i := range s.items {
			if _, ok := data[i.Key]; !ok && !s.optional {
				d.errorAt(o, at+s.path, "Reference to nothing", "%s: volume %q: %s references non-existent key: %s. Add the key to it, or mark the source optional.", o.Address, s.volume, source.Address, i.Key)
			}
		}
		for _, p := range s.files(data) {
			if other := inTheWay(taken[s.volume], p); other != "" {
				d.errorAt(o, at+s.path, "Files in each other's way", "%s: volume %q: conflicting duplicate paths: %s would be a file from %s, and %s is there from another source. Give one of them another path by item blocks.",
					o.Address, s.volume, p, source.Address, other)
			}
			taken[s.volume][p] = true
		}
	}
}

// files are the paths of the files that the source makes, in a fixed order.
func (s *source) files(data map[string][]byte) []string {
	if len(s.items) == 0 {
		return sortedKeys(data)
	}
	var out []string
	for _, i := range s.items {
		if _, ok := data[i.Key]; ok {
			out = append(out, path.Clean(i.Path))
		}
	}
	return out
}

// fieldFiles are the paths of the files that a projected volume makes of fields of the pod.
func fieldFiles(spec *corev1.PodSpec, volume string) map[string]bool {
	out := map[string]bool{}
	for _, v := range spec.Volumes {
		if v.Name != volume || v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.DownwardAPI == nil {
				continue
			}
			for _, i := range s.DownwardAPI.Items {
				out[path.Clean(i.Path)] = true
			}
		}
	}
	return out
}

// inTheWay returns the path that is the same, or a file where the other one needs a directory; "" for none.
func inTheWay(taken map[string]bool, p string) string {
	for _, other := range sortedKeys(taken) {
		if other == p || strings.HasPrefix(other, p+"/") || strings.HasPrefix(p, other+"/") {
			return other
		}
	}
	return ""
}
