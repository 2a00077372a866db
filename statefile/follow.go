package statefile

import (
	"bytes"
	"context"
	"encoding/json"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile/internal/frame"
)

// Follower tells of events as they are recorded, by this process or another. It takes no lock. While a run is in progress
// a look costs the new part of its journal; without one the document is read at one look in idleLooks.
type Follower struct {
	store  Store
	known  api.State // lineage and events alone
	header []byte    // of the journal that is being read
	at     int       // how much of it was read
	idle   int       // looks since the document was read
}

// idleLooks is how many looks without a journal pass between two of the document, to find runs that came and went between.
const idleLooks = 8

// Follow returns a Follower that takes the events of a state, read before, as told already.
func Follow(store Store, told *api.State) *Follower {
	return &Follower{store: store, known: api.State{Lineage: told.Lineage, Events: append([]api.ObjectEvent(nil), told.Events...)}}
}

// Look returns the events that came since the last look, in their order. An event that was there before comes again
// with its raised count.
func (f *Follower) Look(ctx context.Context) ([]api.ObjectEvent, error) {
	journal, err := f.store.Journal(ctx)
	if err != nil {
		return nil, err
	}
	header, _, whole := bytes.Cut(journal, []byte{'\n'})
	if whole && bytes.Equal(header, f.header) && len(journal) >= f.at {
		return f.lines(journal), nil
	}
	if f.idle++; !whole && f.header == nil && f.idle < idleLooks {
		return nil, nil
	}
	f.idle, f.header, f.at = 0, nil, 0
	state, err := Read(ctx, f.store)
	if err != nil {
		return nil, err
	}
	if whole {
		f.header, f.at = bytes.Clone(header), len(header)+1
	}
	return f.all(state), nil
}

// all takes the events of a whole state.
func (f *Follower) all(state *api.State) []api.ObjectEvent {
	var news []api.ObjectEvent
	next := f.known.NextEvent()
	if state.Lineage != f.known.Lineage {
		next = 0 // another cluster: everything is new
	}
	for _, e := range state.Events {
		if e.Number >= next {
			news = append(news, e)
		}
	}
	f.known = api.State{Lineage: state.Lineage, Events: append([]api.ObjectEvent(nil), state.Events...)}
	return news
}

// lines takes the events of the journal's new lines. A line that is not whole yet waits for the next look.
func (f *Follower) lines(journal []byte) []api.ObjectEvent {
	var news []api.ObjectEvent
	for {
		line, _, whole := bytes.Cut(journal[f.at:], []byte{'\n'})
		body, good := frame.Decode(line)
		if !whole || !good {
			return news
		}
		f.at += len(line) + 1
		var r struct {
			Event *api.ObjectEvent `json:"event"`
		}
		if json.Unmarshal(body, &r) != nil || r.Event == nil || r.Event.Number < f.known.NextEvent() {
			continue
		}
		f.known.Happened(*r.Event)
		news = append(news, f.known.Events[len(f.known.Events)-1])
	}
}
