package watchdog

import (
	"container/heap"
	"time"
)

// queue holds pods by when they are due, the earliest first; of equal times the one with the smaller uid.
type queue []*pod

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].UID < q[j].UID
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push is for package heap.
func (q *queue) Push(x any) {
	p := x.(*pod)
	p.at = len(*q)
	*q = append(*q, p)
}

// Pop is for package heap.
func (q *queue) Pop() any {
	old := *q
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	p.at = -1
	return p
}

// set makes a pod due at a time, never when it is zero.
func (q *queue) set(p *pod, due time.Time) {
	p.due = due
	switch {
	case due.IsZero() && p.at >= 0:
		heap.Remove(q, p.at)
	case due.IsZero():
	case p.at >= 0:
		heap.Fix(q, p.at)
	default:
		heap.Push(q, p)
	}
}
