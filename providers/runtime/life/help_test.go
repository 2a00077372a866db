package life_test

import (
	"slices"
	"strconv"
	"strings"
)

func contains(line, part string) bool {
	return strings.Contains(strings.Join(strings.Fields(line), " "), part)
}

func spaced(log []string) []string {
	out := make([]string, len(log))
	for i, l := range log {
		out[i] = strings.Join(strings.Fields(l), " ")
	}
	return out
}

func equal(a, b []float64) bool { return slices.Equal(a, b) }

// moments are the times of the lines that begin so.
func (s *sim) moments(what string) []float64 {
	var out []float64
	for _, l := range spaced(s.log) {
		when, rest, _ := strings.Cut(l, " ")
		if strings.HasPrefix(rest, what) {
			f, err := strconv.ParseFloat(when, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			out = append(out, f)
		}
	}
	return out
}
