package rollout

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestVictims has one pair of pods for each rule of semantics.md 3.2 that differs in it and, the other way round, in all that
// come after it.
func TestVictims(t *testing.T) {
	t.Parallel()
	seen := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ago := func(s float64) time.Time { return seen.Add(-time.Duration(s * float64(time.Second))) }
	pod := func(uid, node string, change func(*Pod)) Pod {
		p := Pod{UID: uid, Node: node, Available: true, Created: ago(1000), Ending: Ending{Phase: corev1.PodRunning, ReadySince: ago(900), Seen: seen}}
		if change != nil {
			change(&p)
		}
		return p
	}
	late := func(p *Pod) { // everything after rule 1 says that it goes first
		p.Phase, p.Available, p.DeletionCost, p.Restarts, p.Created, p.UID = corev1.PodPending, false, -5, 9, ago(1), "0"
	}
	tests := []struct {
		name string
		pods []Pod
		want string
	}{
		{"on no host", []Pod{pod("a", "n1", late), pod("b", "", func(p *Pod) { p.Missing = true })}, "b 0"},
		{"pending, unknown, running", []Pod{pod("a", "n1", func(p *Pod) { p.Available, p.DeletionCost = false, -5 }),
			pod("b", "n2", func(p *Pod) { p.Phase = corev1.PodUnknown }), pod("c", "n3", func(p *Pod) { p.Phase, p.DeletionCost = corev1.PodPending, 5 })}, "c b a"},
		{"not ready", []Pod{pod("a", "n1", func(p *Pod) { p.DeletionCost = -5 }), pod("b", "n2", func(p *Pod) { p.Available = false })}, "b a"},
		{"cheap", []Pod{pod("a", "n1", nil), pod("b", "n1", nil), pod("c", "n2", func(p *Pod) { p.DeletionCost = -1 })}, "c a b"},
		{"doubled up", []Pod{pod("a", "n1", func(p *Pod) { p.ReadySince = ago(1) }), pod("b", "n2", nil), pod("c", "n2", nil)}, "b a c"},
		{"ready for a shorter time", []Pod{pod("a", "n1", func(p *Pod) { p.Restarts = 3 }), pod("b", "n2", func(p *Pod) { p.ReadySince = ago(100) })}, "b a"},
		{"ready since nobody knows when", []Pod{pod("a", "n1", func(p *Pod) { p.ReadySince = ago(1) }), pod("b", "n2", func(p *Pod) { p.ReadySince = time.Time{} })}, "b a"},
		{"in one class of ages the smaller uid goes, whatever the restarts", []Pod{
			pod("b", "n1", func(p *Pod) { p.ReadySince, p.Restarts = ago(900), 3 }), pod("a", "n2", func(p *Pod) { p.ReadySince = ago(901) })}, "a b"},
		{"restarted more often", []Pod{pod("a", "n1", func(p *Pod) { p.Created = ago(1) }), pod("b", "n2", func(p *Pod) { p.Restarts = 3 })}, "b a"},
		{"sidecars restarted more often", []Pod{pod("a", "n1", func(p *Pod) { p.Created = ago(1) }), pod("b", "n2", func(p *Pod) { p.SidecarRestarts = 3 })}, "b a"},
		{"newer", []Pod{pod("a", "n1", nil), pod("b", "n2", func(p *Pod) { p.Created = ago(100) })}, "b a"},
		{"new, in one class of ages", []Pod{pod("b", "n1", func(p *Pod) { p.Created = ago(999) }), pod("a", "n2", nil)}, "a b"},
		{"all alike", []Pod{pod("b", "n1", nil), pod("a", "n2", nil)}, "a b"},
	}
	for _, tt := range tests {
		var got []string
		for _, i := range victims(tt.pods) {
			got = append(got, tt.pods[i].UID)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
}

func TestLogAge(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]int{-time.Second: -1, 0: -1, 1: 0, 2: 1, 3: 1, 4: 2, time.Second: 29, 2 * time.Second: 30} {
		if got := logAge(age); got != want {
			t.Errorf("%v: %d, want %d", age, got, want)
		}
	}
}
