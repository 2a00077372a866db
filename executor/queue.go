package executor

// queue is a list that gives back what came first. Both ends cost the same however long it is.
type queue struct {
	items []int
	head  int
}

func (q *queue) empty() bool { return q.head == len(q.items) }

func (q *queue) push(i int) { q.items = append(q.items, i) }

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) pop() int {
	i := q.items[q.head]
	if q.head++; q.empty() {
		q.items, q.head = q.items[:0], 0
	}
	return i
}
