package schedule

import (
	"fmt"
	"testing"
)

// BenchmarkPlace places all pods on empty nodes; "own" shapes give every pod a specification of its own.
func BenchmarkPlace(b *testing.B) {
	for _, c := range []struct {
		nodes, pods, shapes int
		zones               bool
	}{
		{100, 10_000, 1, false}, {100, 10_000, 100, false}, {100, 10_000, 100, true}, {100, 10_000, 10_000, false},
		{1000, 10_000, 100, false}, {1000, 100_000, 100, false},
	} {
		b.Run(fmt.Sprintf("nodes=%d/pods=%d/shapes=%d/zones=%t", c.nodes, c.pods, c.shapes, c.zones), func(b *testing.B) {
			var ns []Node
			for i := range c.nodes {
				n := nodeOf(fmt.Sprintf("n%04d", i), label("disk", "ssd"))
				n.Allocatable.Pods, n.Allocatable.MilliCPU, n.Allocatable.Memory = 250, 64_000, 256<<30
				if c.zones {
					zone(fmt.Sprint(i % 3))(&n)
				}
				ns = append(ns, n)
			}
			pods := make([]Pod, c.pods)
			for i := range c.shapes {
				s := spec(asks("100m", "128Mi"), selects("disk", "ssd"))
				for j := i; j < c.pods; j += c.shapes {
					pods[j] = Pod{Key: fmt.Sprint("pod/", j), Owner: fmt.Sprint("owner/", i), Spec: s}
				}
			}
			for b.Loop() {
				s := New(ns, nil, Options{})
				for _, p := range pods {
					if _, err := s.Place(p); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
