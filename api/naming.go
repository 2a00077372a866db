package api

import (
	"strings"
	"unicode"
)

// SnakeName writes a JSON name as HCL does: nodePort → node_port, clusterIPs → cluster_ips, hostPID → host_pid.
func SnakeName(name string) string {
	r := []rune(name)
	var b strings.Builder
	for i, c := range r {
		if unicode.IsUpper(c) && i > 0 && wordStarts(r, i) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// wordStarts reports whether the capital at i begins a word: it follows a small letter, or ends a run of capitals
// that a word follows, the plural s of which does not count.
func wordStarts(r []rune, i int) bool {
	if !unicode.IsUpper(r[i-1]) {
		return true
	}
	if i+1 == len(r) || !unicode.IsLower(r[i+1]) {
		return false
	}
	plural := r[i+1] == 's' && (i+2 == len(r) || unicode.IsUpper(r[i+2]))
	return !plural
}

// SingularName names one element of a list: containers → container, hostAliases → host_alias.
func SingularName(name string) string {
	s := SnakeName(name)
	for _, end := range []struct{ plural, one string }{{"policies", "policy"}, {"aliases", "alias"}, {"ss", "ss"}, {"s", ""}} {
		if stem, ok := strings.CutSuffix(s, end.plural); ok {
			return stem + end.one
		}
	}
	return s
}
