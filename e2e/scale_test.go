package e2e

import (
	"fmt"
	"slices"
	"testing"
)

// Scaling leaves the pods that stay alone, and the service knows just those that there are.
func TestScale(t *testing.T) {
	s := begin(t, web)
	var before []string
	for _, n := range []int{2, 5, 1, 0, 2} {
		s.apply("--var", fmt.Sprintf("replicas=%d", n))
		now := names(s.pods("app=web"))
		s.exactly(now)
		if len(now) != n {
			t.Fatalf("%d pods, want %d", len(now), n)
		}
		kept := 0
		for _, name := range now {
			if slices.Contains(before, name) {
				kept++
			}
		}
		if kept != min(n, len(before)) {
			t.Errorf("from %v to %v: %d pods were kept, want %d", before, now, kept, min(n, len(before)))
		}
		if n > 0 {
			s.answers(webPort, "1")
		} else if body, err := fetch(t.Context(), fmt.Sprintf("http://%s:%d/", s.lab.Nodes()[0].Address, webPort)); err == nil {
			t.Errorf("a service without pods answers %q", body)
		}
		s.settled("--var", fmt.Sprintf("replicas=%d", n))
		before = now
	}
}
