package schedule

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// Victim is a pod that runs somewhere and that another one may take the room of.
type Victim struct {
	Key      string // as it was given to the scheduler
	Priority int32
	Started  time.Time
	// Budgets are the disruption budgets that select it, as indices into the numbers that Preempt is given.
	Budgets []int
}

// Preemption says which pods have to go from a node so that another pod fits there.
type Preemption struct {
	Node string
	// Victims are the most important ones first; the first Violating of them go though a disruption budget forbids it.
	Victims   []Victim
	Violating int
}

// The outcomes of looking for victims on a node, in Kubernetes' words.
const (
	notHelpful = "Preemption is not helpful for scheduling"
	noVictims  = "No preemption victims found for incoming pod"
)

// Preempt looks for the node where the least is lost when pods of a lower priority make room for one that fits nowhere
// (semantics.md 2.9). victims are those that may go, and allowed is how many pods each disruption budget lets go; budgets are kept
// where there is a choice. Nothing changes in the scheduler. Where no node will do, the text says why, in Kubernetes' words.
func (s *Scheduler) Preempt(p Pod, priority int32, victims []Victim, allowed []int) (*Preemption, string) {
	sh := s.shapeOf(p)
	s.refresh(sh)
	byNode := map[*node][]Victim{}
	for _, v := range victims {
		if pl, ok := s.placed[v.Key]; ok && v.Priority < priority {
			byNode[pl.node] = append(byNode[pl.node], v)
		}
	}
	var best *Preemption
	refusals := make([]Refusal, len(s.nodes))
	for i, n := range s.nodes {
		refusals[i] = Refusal{Node: n.Name, Reasons: []Reason{{Text: notHelpful}}}
		if sh.refused[i] == nil || !s.helps(sh.by[i]) {
			continue
		}
		if len(byNode[n]) == 0 {
			refusals[i].Reasons = []Reason{{Text: noVictims}}
			continue
		}
		found, reasons := s.victimsOn(sh, n, byNode[n], allowed)
		if found == nil {
			refusals[i].Reasons = reasons
			continue
		}
		if best == nil || found.betterThan(best) {
			best = found
		}
	}
	if best != nil {
		return best, ""
	}
	return nil, (&FitError{Nodes: len(s.nodes), Refusals: refusals}).Error()
}

// helps reports whether a node that a rule refuses could take the pod if others were not there.
func (s *Scheduler) helps(rule string) bool {
	i := slices.IndexFunc(s.filters, func(f filter) bool { return f.name == rule })
	return i >= 0 && s.filters[i].reach != fixed
}

// victimsOn takes all that are less important from a node and puts back as many as it can, the most important ones first, and before
// them those that a disruption budget wants to stay.
func (s *Scheduler) victimsOn(sh *shape, n *node, on []Victim, allowed []int) (*Preemption, []Reason) {
	slices.SortFunc(on, moreImportant)
	places := s.lift(keysOf(on))
	defer func() {
		for _, v := range on {
			s.restore(v.Key, places[v.Key])
		}
	}()
	if reasons := sh.refuses(n); reasons != nil {
		return nil, reasons
	}
	out := &Preemption{Node: n.Name}
	spare := func(pods []Victim) {
		for _, v := range pods {
			s.restore(v.Key, places[v.Key])
			if sh.refuses(n) != nil {
				s.Remove(Pod{Key: v.Key})
				out.Victims = append(out.Victims, v)
			}
		}
	}
	violating, others := splitByBudget(on, allowed)
	spare(violating)
	out.Violating = len(out.Victims)
	spare(others)
	return out, nil
}

func keysOf(pods []Victim) []string {
	var keys []string
	for _, v := range pods {
		keys = append(keys, v.Key)
	}
	return keys
}

// lift takes pods away and returns where they were.
func (s *Scheduler) lift(keys []string) map[string]place {
	places := map[string]place{}
	for _, key := range keys {
		places[key] = s.placed[key]
		s.Remove(Pod{Key: key})
	}
	return places
}

// restore puts a pod back where it was, unless it is there.
func (s *Scheduler) restore(key string, pl place) {
	if _, there := s.placed[key]; !there {
		s.put(key, pl)
	}
}

// refuses asks every rule about a node, without remembering the answer.
func (sh *shape) refuses(n *node) []Reason {
	for _, c := range sh.checks {
		if reasons := c.check(n); reasons != nil {
			return reasons
		}
	}
	return nil
}

// moreImportant puts the higher priority in front, then the one that has run for longer.
func moreImportant(a, b Victim) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Started.Compare(b.Started), strings.Compare(a.Key, b.Key))
}

// splitByBudget tells those pods apart whose eviction a budget forbids, each counting on those before it.
func splitByBudget(pods []Victim, allowed []int) (violating, others []Victim) {
	left := slices.Clone(allowed)
	for _, v := range pods {
		violates := false
		for _, b := range v.Budgets {
			left[b]--
			violates = violates || left[b] < 0
		}
		if violates {
			violating = append(violating, v)
		} else {
			others = append(others, v)
		}
	}
	return violating, others
}

// betterThan compares what two nodes would lose: budgets that are violated, the highest priority, the sum of priorities, the number of
// pods, and how long the most important ones have run. Of equal nodes the first is better.
func (p *Preemption) betterThan(q *Preemption) bool {
	return cmp.Or(
		cmp.Compare(p.Violating, q.Violating), cmp.Compare(p.highest(), q.highest()), cmp.Compare(p.sum(), q.sum()),
		cmp.Compare(len(p.Victims), len(q.Victims)), q.earliest().Compare(p.earliest())) < 0
}

func (p *Preemption) highest() int32 {
	out := int32(math.MinInt32)
	for _, v := range p.Victims {
		out = max(out, v.Priority)
	}
	return out
}

// sum adds priorities as Kubernetes does, shifted so that more pods of a negative one are not fewer.
func (p *Preemption) sum() int64 {
	var out int64
	for _, v := range p.Victims {
		out += int64(v.Priority) + math.MaxInt32 + 1
	}
	return out
}

// earliest is when the first of the most important victims has started.
func (p *Preemption) earliest() time.Time {
	var out time.Time
	first := true
	for _, v := range p.Victims {
		if v.Priority == p.highest() && (first || v.Started.Before(out)) {
			out, first = v.Started, false
		}
	}
	return out
}

// HeldBack reports whether a pod that fits nowhere would fit on some node if the pods of higher priorities were not there.
func (s *Scheduler) HeldBack(p Pod, priority int32) bool {
	sh := s.shapeOf(p)
	s.refresh(sh)
	byNode := map[*node][]string{}
	for key, pl := range s.placed {
		if pl.priority > priority {
			byNode[pl.node] = append(byNode[pl.node], key)
		}
	}
	for i, n := range s.nodes {
		if len(byNode[n]) == 0 || sh.refused[i] == nil || !s.helps(sh.by[i]) {
			continue
		}
		slices.Sort(byNode[n])
		places := s.lift(byNode[n])
		fits := sh.refuses(n) == nil
		for _, key := range byNode[n] {
			s.restore(key, places[key])
		}
		if fits {
			return true
		}
	}
	return false
}
