package hcl

import (
	"fmt"
	"maps"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// volumeFile is one file of a pod's volume, and what it is made of.
type volumeFile struct {
	path   string // in the volume
	source string // for people
	at     string // JSON path
}

// files reports two files of one path in a volume, and a file where another one needs a directory.
func (c *cross) files(o *api.Object, at string, v *corev1.Volume) {
	if c.incomplete {
		return
	}
	files, below := map[string]volumeFile{}, map[string]volumeFile{} // by path; by each directory that a file needs
	for _, f := range c.filesOf(o.Namespace(), at, v) {
		other, clash := files[f.path]
		if !clash {
			other, clash = below[f.path]
		}
		for dir := path.Dir(f.path); dir != "." && dir != "/" && !clash; dir = path.Dir(dir) {
			other, clash = files[dir]
			below[dir] = f
		}
		if clash {
			c.errorf(o, f.at, "Invalid value", "%s: Invalid value: %q: conflicting duplicate paths: %s is a file from %s, and %s one from %s. Give one of them another path with item blocks.",
				f.at, f.path, other.path, other.source, f.path, f.source)
		}
		files[f.path] = f
	}
}

// filesOf lists the files of a volume in the order in which they are declared.
func (c *cross) filesOf(namespace, at string, v *corev1.Volume) []volumeFile {
	switch {
	case v.ConfigMap != nil:
		return c.filesOfKeys(namespace, at+".configMap", api.KindConfigMap, v.ConfigMap.Name, v.ConfigMap.Items)
	case v.Secret != nil:
		return c.filesOfKeys(namespace, at+".secret", api.KindSecret, v.Secret.SecretName, v.Secret.Items)
	case v.DownwardAPI != nil:
		return filesOfFields(at+".downwardAPI", v.DownwardAPI.Items)
	case v.Projected == nil:
		return nil
	}
	var out []volumeFile
	for i, s := range v.Projected.Sources {
		at := fmt.Sprintf("%s.projected.sources[%d]", at, i)
		switch {
		case s.ConfigMap != nil:
			out = append(out, c.filesOfKeys(namespace, at+".configMap", api.KindConfigMap, s.ConfigMap.Name, s.ConfigMap.Items)...)
		case s.Secret != nil:
			out = append(out, c.filesOfKeys(namespace, at+".secret", api.KindSecret, s.Secret.Name, s.Secret.Items)...)
		case s.DownwardAPI != nil:
			out = append(out, filesOfFields(at+".downwardAPI", s.DownwardAPI.Items)...)
		}
	}
	return out
}

func (c *cross) filesOfKeys(namespace, at, kind, name string, items []corev1.KeyToPath) []volumeFile {
	used := c.byName[objectName{kind, namespace, name}]
	if used == nil {
		return nil
	}
	keys := keysOf(used)
	var out []volumeFile
	for i, item := range items {
		if slices.Contains(keys, item.Key) {
			out = append(out, volumeFile{path.Clean(item.Path), used.Address.String(), fmt.Sprintf("%s.items[%d].path", at, i)})
		}
	}
	if len(items) == 0 {
		for _, key := range keys {
			out = append(out, volumeFile{key, used.Address.String(), at})
		}
	}
	return out
}

func filesOfFields(at string, items []corev1.DownwardAPIVolumeFile) []volumeFile {
	var out []volumeFile
	for i, item := range items {
		out = append(out, volumeFile{path.Clean(item.Path), "the pod's fields", fmt.Sprintf("%s.items[%d].path", at, i)})
	}
	return out
}

// keysOf are the keys of a config map or secret, sorted.
func keysOf(o *api.Object) []string {
	switch v := o.Value.(type) {
	case *corev1.ConfigMap:
		return slices.Sorted(maps.Keys(mergedKeys(v.Data, v.BinaryData)))
	case *corev1.Secret:
		return slices.Sorted(maps.Keys(v.Data))
	}
	return nil
}

func mergedKeys(text map[string]string, binary map[string][]byte) map[string]bool {
	out := map[string]bool{}
	for k := range text {
		out[k] = true
	}
	for k := range binary {
		out[k] = true
	}
	return out
}
