package life_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/providers/runtime/life"
)

// run is one run of a probe: when it began, and what it gave ('+', '-', '?' for unclear).
type run struct {
	at    float64
	gives byte
	want  life.Verdict
	next  float64 // when it runs again
}

func TestProbeThresholds(t *testing.T) {
	tests := []struct {
		name string
		kind life.ProbeKind
		spec corev1.Probe
		runs []run
	}{
		{"readiness, three failures make it fail", life.Readiness, corev1.Probe{PeriodSeconds: 2, FailureThreshold: 3}, []run{
			{0, '+', life.Success, 2}, {2, '-', life.Success, 4}, {4, '-', life.Success, 6}, {6, '-', life.Failure, 6.1}, {6.1, '+', life.Success, 8}}},
		{"a success in between breaks the row", life.Readiness, corev1.Probe{PeriodSeconds: 2, FailureThreshold: 2}, []run{
			{0, '+', life.Success, 2}, {2, '-', life.Success, 4}, {4, '+', life.Success, 6}, {6, '-', life.Success, 8}, {8, '-', life.Failure, 8.1}}},
		{"early failures count for nothing", life.Startup, corev1.Probe{PeriodSeconds: 1, FailureThreshold: 2}, []run{
			{0, '-', life.Unknown, 0.1}, {0.1, '-', life.Unknown, 0.3}, {0.3, '-', life.Unknown, 0.7}, {0.7, '-', life.Unknown, 1}, {1, '-', life.Failure, 2}}},
		{"an early success counts", life.Startup, corev1.Probe{PeriodSeconds: 10}, []run{{0, '-', life.Unknown, 0.1}, {0.1, '+', life.Success, 10}}},
		{"no early runs where successes have to be a period apart", life.Readiness, corev1.Probe{PeriodSeconds: 3, SuccessThreshold: 2}, []run{
			{0, '-', life.Unknown, 3}, {3, '+', life.Unknown, 6}, {6, '+', life.Success, 9}}},
		{"no early runs for liveness", life.Liveness, corev1.Probe{PeriodSeconds: 5, FailureThreshold: 2}, []run{
			{0, '-', life.Unknown, 5}, {5, '-', life.Failure, 10}}},
		{"what is unclear counts for nothing", life.Liveness, corev1.Probe{PeriodSeconds: 1, FailureThreshold: 2}, []run{
			{0, '-', life.Unknown, 1}, {1, '?', life.Unknown, 2}, {2, '?', life.Unknown, 3}, {3, '-', life.Failure, 4}}},
		{"defaults", life.Liveness, corev1.Probe{}, []run{{0, '-', life.Unknown, 10}, {10, '-', life.Unknown, 20}, {20, '-', life.Failure, 30}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p life.Probe
			for _, r := range tt.runs {
				p = p.Counted(tt.kind, &tt.spec, life.Result{Began: at(r.at), OK: r.gives == '+', Unclear: r.gives == '?', Message: "no"}, at(r.at))
				if p.Verdict != r.want || !p.Next.Equal(at(r.next)) {
					t.Fatalf("after %c at %.1f: %q, next %s; want %q, %s", r.gives, r.at, p.Verdict, p.Next.Sub(start), r.want, at(r.next).Sub(start))
				}
			}
		})
	}
}
