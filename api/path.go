package api

import "strings"

// Path of an attribute: JSON names joined by dots, a list element by its key in brackets:
//
//	spec.replicas
//	spec.template.spec.containers[web].image     an element of a list keyed by name
//	spec.template.spec.tolerations[0].key        an element of any other list
//	data["a.b/c"]                                a key of a map, always quoted
//
// Field rules (fields.go) and Object.Ranges use the same form without brackets, except that Ranges may
// hold bracketed ones too; RangeOf falls back to the shorter ones.

// parentPath cuts the last segment or bracket off a path; "" when none is left.
func parentPath(p string) string {
	if strings.HasSuffix(p, "]") {
		if i := strings.LastIndexByte(p, '['); i >= 0 {
			return p[:i]
		}
	}
	dot, bracket := strings.LastIndexByte(p, '.'), strings.LastIndexByte(p, ']')
	if dot <= bracket {
		return ""
	}
	return p[:dot]
}

// SchemaPath removes every bracket from a path: the form in which field rules are looked up.
func SchemaPath(p string) string {
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case depth > 0 && c == '"':
			quoted = true
		case c == '[':
			depth++
		case c == ']':
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	return b.String()
}
