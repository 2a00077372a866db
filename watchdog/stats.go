package watchdog

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Stats are what a watchdog counts and how it stands.
type Stats struct {
	Hints, Restarts, Errors, Rounds, RoundErrors, ChoreErrors uint64
	Read, Synced                                              time.Time // the state was last read; the last whole round ended well
	GoalError                                                 string
	Waiting                                                   string // the digest of the plan that waits for approval
	Drift                                                     int
	MassLoss                                                  string      // why nothing of lost nodes is moved; "" when it is
	Nodes                                                     []NodeStats // sorted by name
	Pods                                                      []PodStats  // sorted by address
}

// NodeStats is how one node stands.
type NodeStats struct {
	Name    string
	Watched bool
	Lost    time.Time // since when it is not watched; zero while it is
	Why     string
	BootID  string
}

// PodStats is how one pod stands.
type PodStats struct {
	Pod
	Phase    string
	Ready    bool
	Restarts int
	Waiting  string
}

// Stats returns a copy of what is known now.
func (m *Mind) Stats() Stats {
	s := m.stats
	s.Waiting, s.Drift, s.MassLoss = m.round.waiting, m.round.drift, m.brake.why
	for _, name := range sortedNames(m.nodes) {
		n := m.nodes[name]
		ns := NodeStats{Name: name, Watched: n.watched(), Lost: n.lost, BootID: n.boot}
		if n.why != nil {
			ns.Why = text(n.why.Err)
		}
		s.Nodes = append(s.Nodes, ns)
	}
	for _, p := range m.pods {
		s.Pods = append(s.Pods, PodStats{Pod: p.Pod, Phase: p.last.Phase, Ready: p.ready(), Restarts: p.last.Restarts, Waiting: p.last.Waiting})
	}
	slices.SortFunc(s.Pods, func(a, b PodStats) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.UID, b.UID))
	})
	return s
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
