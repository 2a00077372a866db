package schedule

import (
	"fmt"
	"math"
)

// What Kubernetes assumes for pods without spread constraints of their own: ScheduleAnyway over nodes and
// over zones.
const (
	nodeMaxSkew = 3
	zoneMaxSkew = 5
)

// scoreSpread prefers nodes and zones with few pods of the same owner. A node without the zone label is rated
// by its own count alone.
func scoreSpread() score {
	return score{
		name:      "PodTopologySpread",
		weight:    2,
		reach:     global,
		compile:   compileSpread,
		normalize: spreadPoints,
	}
}

func compileSpread(r *request) *rating {
	if r.Owner == "" || len(r.sched.nodes) < 2 {
		return nil
	}
	o := r.sched.ownerOf(r.Owner)
	var perNode, perZone float64
	var zones int
	return &rating{
		prepare: func(left []*node) {
			zones = countZones(left)
			perNode, perZone = math.Log(float64(len(left)+2)), math.Log(float64(zones+2))
		},
		rate: func(n *node) int64 {
			cost := float64(o.nodes[n.index])*perNode + (nodeMaxSkew - 1)
			if n.zone >= 0 {
				cost += float64(o.zones[n.zone])*perZone + (zoneMaxSkew - 1)
			}
			return int64(math.Round(cost))
		},
		why: func(best, next *node, n int) string {
			if o.nodes[best.index] >= o.nodes[next.index] && best.zone >= 0 && zones > 1 {
				return fmt.Sprintf("spread over %d zones", zones)
			}
			return fmt.Sprintf("spread over %d nodes", n)
		},
	}
}

func countZones(left []*node) int {
	seen := map[int]bool{}
	for _, n := range left {
		if n.zone >= 0 {
			seen[n.zone] = true
		}
	}
	return len(seen)
}

// spreadPoints turns costs into points: the lower the cost among those left, the more.
func spreadPoints(raw []int64) {
	if len(raw) == 0 {
		return
	}
	least, most := raw[0], raw[0]
	for _, v := range raw {
		least, most = min(least, v), max(most, v)
	}
	for i, v := range raw {
		if most == 0 {
			raw[i] = 100
			continue
		}
		raw[i] = 100 * (most + least - v) / most
	}
}
