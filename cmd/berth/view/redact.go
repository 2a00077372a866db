package view

import (
	"strconv"
	"strings"
)

// pathKeys splits a JSON path (api/path.go) into map keys, list indices and names of list elements.
func pathKeys(path string) []string {
	var keys []string
	for _, m := range segmentPattern.FindAllStringSubmatch(path, -1) {
		keys = append(keys, m[1])
		for _, b := range bracketPattern.FindAllStringSubmatch(m[2], -1) {
			if s, err := strconv.Unquote(b[1]); err == nil {
				keys = append(keys, s)
				continue
			}
			keys = append(keys, b[1])
		}
	}
	return keys
}

// remove takes the value at the path out of v, wherever it is found.
func remove(v any, keys []string) {
	if len(keys) == 0 {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if len(keys) == 1 {
			if _, ok := v[keys[0]]; ok {
				v[keys[0]] = "(sensitive value)"
			}
			return
		}
		remove(v[keys[0]], keys[1:])
	case []any:
		for i, e := range v {
			if named(e) == keys[0] || strconv.Itoa(i) == keys[0] {
				if len(keys) == 1 {
					v[i] = "(sensitive value)"
				}
				remove(e, keys[1:])
			}
		}
	}
}

func named(v any) string {
	m, ok := v.(map[string]any)
	if !ok {
		return "\x00"
	}
	s, _ := m["name"].(string)
	return strings.TrimSpace(s)
}
