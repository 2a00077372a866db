package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkDNS asks from a pod for the address of a service, at the server of its node, one question after the other.
func BenchmarkDNS(b *testing.B) {
	s := begin(b, "berth {\n  cluster {\n    dns {\n    }\n  }\n}\n"+onEachNode)
	s.apply()
	pod := s.pods("app=web")[0].Name
	const questions = 20_000
	for b.Loop() {
		out := s.exec(pod, "/app", "asks", "10.96.0.10:53", "web.default.svc.cluster.local", fmt.Sprint(questions))
		var median, p99, longest float64
		if _, err := fmt.Sscan(strings.TrimSpace(out), &median, &p99, &longest); err != nil {
			b.Fatalf("%q: %v", out, err)
		}
		b.ReportMetric(median, "median-µs")
		b.ReportMetric(p99, "p99-µs")
		b.ReportMetric(longest, "longest-µs")
	}
}
