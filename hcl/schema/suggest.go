package schema

import (
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// nearest returns the name that someone who wrote s may have meant, "" when none is near.
func nearest(s string, names []string) string {
	best, at := "", 3 // as HCL's own suggestions: fewer than three edits
	for _, n := range slices.Sorted(slices.Values(names)) {
		if d := levenshtein.Distance(s, n, nil); d < at && d < len(n) {
			best, at = n, d
		}
	}
	return best
}

// nearestFold is nearest, but for capitals.
func nearestFold(s string, names []string) string {
	for _, n := range names {
		if n != "" && strings.EqualFold(strings.ReplaceAll(s, "_", ""), n) {
			return n
		}
	}
	return nearest(s, names)
}
