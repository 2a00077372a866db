package executor

import (
	"cmp"
	"context"
	"time"

	"berth.dev/berth/api"
)

// A step that has to wait before it can go on, as for a registry that is not there just now, rests: it gives its place on its host to
// others, and takes a new one when the time is over. It is on its way all the while: the journal has begun it once.

// turn is what a resting step tells the walk: that it gives its place back, or, with resume, that it wants one again.
type turn struct {
	id     int
	resume chan struct{} // closed when the step has a place
}

// rest waits without a place, and returns with one; or with the context's cause, when the step is to end.
func (w *walk) rest(ctx context.Context, id int, d time.Duration) error {
	if err := w.tell(ctx, turn{id: id}); err != nil {
		return err
	}
	if pause(ctx, d) != nil {
		return context.Cause(ctx)
	}
	resume := make(chan struct{})
	if err := w.tell(ctx, turn{id, resume}); err != nil {
		return err
	}
	select {
	case <-resume:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *walk) tell(ctx context.Context, t turn) error {
	select {
	case w.turns <- t:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// turned takes what a resting step has told.
func (w *walk) turned(t turn) {
	r := w.running[t.id]
	switch {
	case t.resume != nil:
		r.resume = t.resume
		w.ready(t.id)
	default:
		w.unplace(t.id)
		if w.stopping { // who only waits has nothing to finish
			r.gaveUp = true
			r.cancel(errStopped)
		}
	}
}

// goOn gives a place to a step that has rested.
func (r *running) goOn() {
	close(r.resume)
	r.resume, r.placed = nil, true
}

// unplace takes a step's place back, if it has one.
func (w *walk) unplace(id int) {
	if r := w.running[id]; r.placed {
		r.placed = false
		if a := &w.actions[id]; a.joins() {
			w.left(w.lane(a))
		} else {
			w.busy--
			w.free(w.lane(a))
		}
	}
}

// defaultPatience is that of pods without a progress deadline, as those of jobs.
const defaultPatience = 10 * time.Minute

// patience is how long what may pass by itself is tried again: as long as those that wait for the step have time to become ready.
func (w *walk) patience(s *api.Step) time.Duration {
	if s.Op != api.OpImageEnsure {
		return 0
	}
	var longest time.Duration
	for _, next := range w.dependents[s.ID] {
		switch p := w.actions[next].step; {
		case p.Op == api.OpJobRun:
			longest = max(longest, defaultPatience)
		case p.Op == api.OpPodEnsure && p.Pod != nil:
			longest = max(longest, cmp.Or(time.Duration(p.Pod.DeadlineSeconds)*time.Second, defaultPatience))
		}
	}
	return longest
}
