package executor

import (
	"sync"
	"time"

	"berth.dev/berth/api"
)

// events passes on what happens, one event at a time, and for each step in the order in which it happens.
type events struct {
	emit  func(api.Event)
	steps []api.Step

	mu       sync.Mutex
	finished int
	began    map[int]time.Time // of the running steps
	message  map[int]string    // what a running step reported last
}

func newEvents(emit func(api.Event), steps []api.Step) *events {
	return &events{emit: emit, steps: steps, began: map[int]time.Time{}, message: map[int]string{}}
}

func (e *events) start(id int, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.began[id] = now
	e.send(api.EventStart, id, "", nil)
}

// report passes on what a provider says of a running step; later it has nothing to say any more.
func (e *events) report(id int, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, running := e.began[id]; running && message != e.message[id] {
		e.message[id] = message
		e.send(api.EventProgress, id, message, nil)
	}
}

// still repeats the last report, or says nothing but that time passes.
func (e *events) still(id int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.send(api.EventProgress, id, e.message[id], nil)
}

func (e *events) done(id int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finished++
	e.end(api.EventDone, id, nil)
}

func (e *events) failed(id int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.end(api.EventFailed, id, err)
}

// stopped forgets a step that was stopped half way, which is no event of its own: the interrupt was.
func (e *events) stopped(id int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.began, id)
	delete(e.message, id)
}

func (e *events) skipped(id int, why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.send(api.EventSkipped, id, why, nil)
}

func (e *events) stopping() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.emit(api.Event{Type: api.EventStopping, Time: time.Now(), Done: e.finished, Total: len(e.steps)})
}

func (e *events) end(t api.EventType, id int, err error) {
	e.send(t, id, "", err)
	delete(e.began, id)
	delete(e.message, id)
}

func (e *events) send(t api.EventType, id int, message string, err error) {
	ev := api.Event{Type: t, Time: time.Now(), Step: &e.steps[id], Message: message, Err: err, Done: e.finished, Total: len(e.steps)}
	if began, ok := e.began[id]; ok {
		ev.Elapsed = ev.Time.Sub(began)
	}
	e.emit(ev)
}
