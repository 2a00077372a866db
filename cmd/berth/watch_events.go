package main

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
)

// watchEvents are what has happened and is not in the state yet: a bounded number, equal ones once with their count.
type watchEvents struct {
	now   func() time.Time
	noted func()
	log   *slog.Logger
	tell  func(api.ObjectEvent) // others, at once; nil for nobody

	mu      sync.Mutex
	list    []api.ObjectEvent
	dropped int
}

// mostEvents bounds what waits to be kept.
const mostEvents = api.EventLimit

// add takes an event.
func (w *watchEvents) add(e api.ObjectEvent) {
	e.Type = cmp.Or(e.Type, corev1.EventTypeNormal)
	e.Last = cmp.Or(e.Last, w.now().UTC())
	e.First = cmp.Or(e.First, e.Last)
	e.Count = max(e.Count, 1)
	say := w.log.Info
	if e.Type == corev1.EventTypeWarning {
		say = w.log.Warn
	}
	if w.tell != nil {
		w.tell(e)
	}
	say(e.Message, "reason", e.Reason, "object", objectOf(e), "node", e.Node)
	w.mu.Lock()
	i := slices.IndexFunc(w.list, func(o api.ObjectEvent) bool {
		return o.Object == e.Object && o.Reason == e.Reason && o.Message == e.Message && o.Field == e.Field && o.Type == e.Type && o.Node == e.Node && o.Waiting == e.Waiting
	})
	switch {
	case i >= 0:
		w.list[i].Count += e.Count
		w.list[i].Last = e.Last
	case len(w.list) >= mostEvents:
		w.dropped++
	default:
		w.list = append(w.list, e)
	}
	w.mu.Unlock()
	w.noted()
}

func objectOf(e api.ObjectEvent) string {
	if e.Object.Address.IsZero() {
		return e.Object.Name
	}
	return e.Object.Address.String()
}

// keep writes what waits. What cannot be written waits on.
func (w *watchEvents) keep(f *statefile.File) error {
	w.mu.Lock()
	list, dropped := w.list, w.dropped
	w.list, w.dropped = nil, 0
	w.mu.Unlock()
	if dropped > 0 {
		w.log.Warn("events were not kept: too many came at once", "events", dropped)
	}
	for i, e := range list {
		if err := f.Event(e); err != nil {
			w.mu.Lock()
			w.list = append(slices.Clone(list[i:]), w.list...)
			w.mu.Unlock()
			return err
		}
	}
	return nil
}

func (w *watchEvents) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.list) > 0
}

// toldJournal also tells others of what happens in a round.
type toldJournal struct {
	*statefile.File
	tell func(api.ObjectEvent)
}

// Event keeps an event and tells of it.
func (j toldJournal) Event(e api.ObjectEvent) error {
	if j.tell != nil {
		j.tell(e)
	}
	return j.File.Event(e)
}

// drop lets go of what waits.
func (w *watchEvents) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list, w.dropped = nil, 0
}
