package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/providers"
)

// maxBatch is how many services one script takes at most.
const maxBatch = 5000

// queue joins the changes that wait for one host into few scripts: while one runs, all that come meanwhile become the next one. It starts
// no goroutine: one of those who wait does the work for the others.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	running bool
}

// request is one text of rules to be brought into force.
type request struct {
	args   []string                   // of the mark
	share  string                     // of the service among the files
	texts  map[corev1.IPFamily]string // those of each family of the cluster
	remove bool                       // the rules are to go
	repair bool                       // nothing is known of what is in force of them

	ended bool          // out and err are set
	turn  chan struct{} // closed when it is over, or when the one who waits is to do the work
	out   providers.Output
	err   error
}

// do returns when the request is carried out.
func (q *queue) do(ctx context.Context, h providers.Host, r *request) (providers.Output, error) {
	q.mu.Lock()
	r.turn = make(chan struct{})
	q.waiting = append(q.waiting, r)
	if q.running {
		q.mu.Unlock()
		select {
		case <-r.turn:
		case <-ctx.Done():
			if q.withdraw(r) {
				return providers.Output{}, context.Cause(ctx)
			}
			<-r.turn // it is being carried out, or its turn has just come
		}
		if r.ended {
			return r.out, r.err
		}
		q.mu.Lock()
	}
	q.running = true
	batch := q.take(r)
	q.mu.Unlock()
	q.carryOut(ctx, h, batch)
	q.mu.Lock()
	for _, b := range batch {
		if b != r {
			close(b.turn)
		}
	}
	q.running = len(q.waiting) > 0
	if q.running {
		close(q.waiting[0].turn) // the next does the work
	}
	q.mu.Unlock()
	return r.out, r.err
}

// withdraw takes a request back that nobody has begun with.
func (q *queue) withdraw(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, r)
	if i < 0 {
		return false
	}
	select {
	case <-r.turn: // it is to do the work
		return false
	default:
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

// take removes a request from the queue, and those with it that belong to the same run.
func (q *queue) take(r *request) []*request {
	batch := []*request{r}
	rest := q.waiting[:0:0]
	for _, w := range q.waiting {
		switch {
		case w == r:
		case len(batch) < maxBatch && w.remove == r.remove && slices.Equal(w.args, r.args):
			batch = append(batch, w)
		default:
			rest = append(rest, w)
		}
	}
	q.waiting = rest
	return batch
}

// carryOut runs one script for all. Where that fails because of what the rules say, each gets its own, so that one cannot spoil the others.
func (q *queue) carryOut(ctx context.Context, h providers.Host, batch []*request) {
	out, err := run(ctx, h, batch...)
	_, script := errors.AsType[*providers.ExitError](err)
	for _, r := range batch {
		r.out, r.err, r.ended = out, err, true
		if script && len(batch) > 1 {
			r.out, r.err = run(ctx, h, r)
		}
	}
}
