package view

import "berth.dev/berth/api"

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
