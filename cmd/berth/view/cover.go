package view

import (
	"strings"

	"berth.dev/berth/api"
)

// Cover replaces, in the JSON form m of an object's value, what must not be shown.
func Cover(m map[string]any, o *api.Object) {
	if o.Address.Kind == api.KindSecret {
		for _, field := range []string{"data", "stringData"} {
			if data, ok := m[field].(map[string]any); ok {
				for k := range data {
					data[k] = "(sensitive value)"
				}
			}
		}
	}
	for _, path := range o.Sensitive {
		remove(m, pathKeys(path))
	}
}

// CoverPod does the same for a pod, by what its owner's configuration marks as sensitive. Without an owner nobody knows what
// that was: then nothing of what containers are told is shown.
func CoverPod(m map[string]any, owner *api.Object) {
	if owner == nil {
		spec, _ := m["spec"].(map[string]any)
		for _, list := range []string{"initContainers", "containers"} {
			containers, _ := spec[list].([]any)
			for _, c := range containers {
				coverContainer(c)
			}
		}
		return
	}
	for _, path := range owner.Sensitive {
		if i := strings.LastIndex(path, "template."); i >= 0 {
			path = path[i+len("template."):]
		}
		remove(m, pathKeys(path))
	}
}

func coverContainer(c any) {
	m, _ := c.(map[string]any)
	for _, field := range []string{"command", "args"} {
		if _, ok := m[field]; ok {
			m[field] = []any{covered}
		}
	}
	env, _ := m["env"].([]any)
	for _, e := range env {
		if v, _ := e.(map[string]any); v["value"] != nil {
			v["value"] = covered
		}
	}
}

const covered = "(sensitive value)"
