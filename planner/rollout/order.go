package rollout

import (
	"slices"
	"time"
)

// Order says in what waves a workload's pods change over: one by one or many at a time, the new before the old or after
// it. It is a value that knows nothing of hosts; its answer follows from what it is given.
type Order interface {
	// Waves returns the rounds that lead from the existing pods to the wanted ones, none when there is nothing to do.
	// Each pod is removed once at most and each slot filled once at most. The last wave creates nothing, so that each
	// wave's pods have a successor that shows them ready: see finish.
	Waves(w *Want, pods []Pod) []Wave
	// Blocked says what the change-over has to wait for, "" when it can go all the way: "some are on a host that takes no
	// work now".
	Blocked(w *Want, pods []Pod) string
	// Least is how many of n wanted pods serve at any time while they change over.
	Least(n int) int
	// Anew is the order for pods of which all old ones must be gone before the first new one comes.
	Anew() Order
	// Evicting is the order for pods that have to leave their nodes: as many as least serve at any time, whatever the order says,
	// and pods of one template may run side by side. What cannot be done so is not done.
	Evicting(least int) Order
	// String describes the order as plans show it: "surge 1, unavailable 0".
	String() string
}

// Pod is one existing pod of a workload as its controller sees it.
type Pod struct {
	// Slot is the place that the pod has among the wanted ones: an index into Want.Slots, -1 for none. Of pods that are all
	// alike it is 0.
	Slot      int
	Current   bool   // made from the template that its slot wants, or one that it may keep, and allowed to stay where it is
	Hash      string // of the template it was made from
	Available bool   // it serves, as far as is known
	Fixed     bool   // its host cannot be reached: it can be neither removed nor mended
	Leaving   bool   // its host leaves the cluster: it goes, whatever else has to wait
	Known     bool   // the state has it; of two pods with one identity the other one is a left-over
	// What follows only orders those of which some must go.
	Ordinal int // the number at the end of its name, -1 for none
	UID     string
	Node    string
	Created time.Time
	Ending
}

// Wave is one round of a change-over. Its removals start when the pods created or mended by the wave before are ready and
// its removals done; the first Free creations start at the same time, the others when the removals are done.
type Wave struct {
	Remove []int // indices of existing pods
	Mend   []int // indices of existing pods that have to be made to run again where they are
	Create []int // slots to fill
	Free   int

	// A wave that does none of this is one of these: it has the services go over to the pods of the first slot, or it is a
	// gate, which is passed when the services know the pods of the waves before.
	Switch bool
	Gate   *Gate
}

func (w Wave) empty() bool {
	return len(w.Remove)+len(w.Mend)+len(w.Create) == 0 && !w.Switch && w.Gate == nil
}

// Finish drops empty waves and adds the one that shows the last pods ready.
func Finish(waves []Wave) []Wave {
	waves = slices.DeleteFunc(waves, Wave.empty)
	if n := len(waves); n > 0 && len(waves[n-1].Create)+len(waves[n-1].Mend) > 0 {
		waves = append(waves, Wave{})
	}
	return waves
}

// sequence returns the n numbers from first on.
func sequence(first, n int) []int {
	if n <= 0 {
		return nil
	}
	out := make([]int, n)
	for i := range out {
		out[i] = first + i
	}
	return out
}

// inTheWay is the reason of Blocked that all orders share.
const inTheWay = "some are on a host that takes no work now"
