package schedule

import "fmt"

// scoreLeastAllocated prefers nodes of which little is requested: the mean over cpu and memory of the share
// that would be left with the pod there. Containers without requests count with an assumed one.
func scoreLeastAllocated() score {
	return score{
		name:   "NodeResourcesFit",
		weight: 1,
		reach:  local,
		compile: func(r *request) *rating {
			d := r.demand
			return &rating{
				rate: func(n *node) int64 {
					return meanLeft(
						share{n.scoreCPU + d.scoreCPU, n.Allocatable.MilliCPU},
						share{n.scoreMemory + d.scoreMemory, n.Allocatable.Memory})
				},
				why: func(_, _ *node, n int) string { return fmt.Sprintf("least allocated of %d", n) },
			}
		},
	}
}

// share is what would be requested of what a node has.
type share struct{ requested, allocatable int64 }

func meanLeft(shares ...share) int64 {
	var sum, count int64
	for _, s := range shares {
		if s.allocatable == 0 {
			continue
		}
		count++
		if s.requested <= s.allocatable {
			sum += (s.allocatable - s.requested) * 100 / s.allocatable
		}
	}
	if count == 0 {
		return 0
	}
	return sum / count
}
