package runtime

import "strings"

// expand replaces $(NAME) by the variable's value. A name that is not known stays as it is written, $$ is a
// dollar sign, and a reference that is not closed is text (semantics.md 1.11). There is no shell in it.
func expand(text string, lookup func(name string) (string, bool)) string {
	if !strings.Contains(text, "$") {
		return text
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i+1 == len(text) {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:i])
		text = text[i:]
		end := strings.IndexByte(text, ')')
		switch {
		case text[1] == '$':
			b.WriteByte('$')
			text = text[2:]
		case text[1] == '(' && end > 0:
			if value, ok := lookup(text[2:end]); ok {
				b.WriteString(value)
			} else {
				b.WriteString(text[:end+1])
			}
			text = text[end+1:]
		default:
			b.WriteString(text[:2])
			text = text[2:]
		}
	}
}

// expandAll expands each of a command's words.
func expandAll(words []string, lookup func(name string) (string, bool)) []string {
	var out []string
	for _, w := range words {
		out = append(out, expand(w, lookup))
	}
	return out
}
