package schedule

import (
	"fmt"
	"math"
)

// scoreBalanced prefers nodes whose cpu and memory would be requested to a like degree, so that neither runs
// out alone.
func scoreBalanced() score {
	return score{
		name:   "NodeResourcesBalancedAllocation",
		weight: 1,
		reach:  local,
		compile: func(r *request) *rating {
			d := r.demand
			if d.cpu == 0 && d.memory == 0 {
				return nil
			}
			return &rating{
				rate: func(n *node) int64 {
					return balance(
						share{n.cpu + d.cpu, n.Allocatable.MilliCPU},
						share{n.memory + d.memory, n.Allocatable.Memory})
				},
				why: func(_, _ *node, n int) string {
					return fmt.Sprintf("best balance of cpu and memory of %d", n)
				},
			}
		},
	}
}

func balance(cpu, memory share) int64 {
	return int64((1 - math.Abs(cpu.fraction()-memory.fraction())/2) * 100)
}

func (s share) fraction() float64 {
	if s.allocatable == 0 {
		return 0
	}
	return min(1, float64(s.requested)/float64(s.allocatable))
}
