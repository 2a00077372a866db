package statefile

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"berth.dev/berth/api"
)

// Reader reads one state again and again. What [Look] does at each call, it does only when there is another document: while a run is in progress a look
// costs the new lines of its journal and a copy of the state's lists. It takes no lock, and may be used by several goroutines.
type Reader struct {
	store Store

	mu     sync.Mutex
	known  *loaded // what is sensitive in pods is not put back; nil when nothing was read
	glance *Glance // of that; nil when it is older
	header []byte  // the first line of the journal that is part of it; nil for none
	at     int     // how much of that journal is part of it
}

// NewReader returns a reader of what is in a store.
func NewReader(store Store) *Reader { return &Reader{store: store} }

// Look returns what [Look] does. What it returned before stays as it is.
func (r *Reader) Look(ctx context.Context) (*Glance, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	journal, err := r.store.Journal(ctx)
	if err != nil {
		return nil, explain(ctx, r.store, fmt.Errorf("read the journal: %w", err))
	}
	if !r.goOn(journal) {
		if err := r.begin(ctx, journal); err != nil {
			r.known, r.glance, r.header = nil, nil, nil
			return nil, explain(ctx, r.store, err)
		}
	}
	if r.glance != nil {
		return r.glance, nil
	}
	state := copyLists(r.known.state)
	if err := state.MakeWhole(); err != nil {
		return nil, explain(ctx, r.store, &DamagedError{reason: err.Error()})
	}
	r.glance = &Glance{state, slices.Clone(r.known.recovery.InFlight), r.known.fence}
	return r.glance, nil
}

// begin reads the document, unless it is the one that is known and has no journal.
func (r *Reader) begin(ctx context.Context, journal []byte) error {
	data, version, err := r.store.Get(ctx)
	if err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	if len(journal) == 0 && r.header == nil && r.known != nil && r.known.version == version && version != "" && r.known.journal == journalNone {
		return nil
	}
	l, err := build(data, version, journal)
	if err != nil {
		return err
	}
	r.known, r.glance, r.header, r.at = l, nil, nil, 0
	if header, _, whole := bytes.Cut(journal, []byte{'\n'}); whole && l.journal == journalLive {
		r.header, r.at = bytes.Clone(header), wholeLines(journal)
	}
	return nil
}

// goOn takes in the new lines of the journal that is known. It reports false when it is another one, or cannot be believed: then all is read anew. While
// its header is there the document is the one that it continues, or has all of it already.
func (r *Reader) goOn(journal []byte) bool {
	header, _, whole := bytes.Cut(journal, []byte{'\n'})
	if !whole || r.header == nil || !bytes.Equal(header, r.header) || len(journal) < r.at {
		return false
	}
	end := wholeLines(journal)
	if end == r.at {
		return true
	}
	lines, _, err := splitJournal(journal[r.at:end])
	if err != nil || len(lines) != bytes.Count(journal[r.at:end], []byte{'\n'}) {
		return false
	}
	r.glance = nil
	if r.known.apply(lines) != nil {
		return false
	}
	r.at = end
	return true
}

// wholeLines is how much of a journal ends in a newline.
func wholeLines(journal []byte) int { return bytes.LastIndexByte(journal, '\n') + 1 }

// copyLists is a state that stays as it is when deltas are applied to the one that it is a copy of: these put other values into lists, and leave those
// that are there as they are.
func copyLists(s *api.State) *api.State {
	out := *s
	for _, v := range []reflect.Value{reflect.ValueOf(&out).Elem(), reflect.ValueOf(&out.Undo).Elem()} {
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.Slice && !f.IsNil() {
				f.Set(reflect.AppendSlice(reflect.MakeSlice(f.Type(), 0, f.Len()), f))
			}
		}
	}
	return &out
}
