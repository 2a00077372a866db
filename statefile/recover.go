package statefile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile/internal/frame"
)

// loaded is a state with what is known of its home.
type loaded struct {
	state    *api.State
	version  string // of the document
	base     uint64 // the document's serial
	fence    uint64 // the greatest that was ever written
	journal  journalState
	acted    bool // the journal has more than events
	recovery Recovery

	lines   int  // of the journal, without its header
	stepped bool // one of them is no event
	raised  bool // the serial was raised because what steps did is not known
}

// journalState says what the journal is to the document.
type journalState int

const (
	journalNone   journalState = iota
	journalLive                // it continues the document; its changes are in the loaded state
	journalFolded              // its changes are in the document already
)

// load reads the document and replays the journal in memory. It may run while another writes: the journal is
// read first, so that one which is folded in between is seen to be older than the document.
func load(ctx context.Context, s Store) (*loaded, error) {
	journal, err := s.Journal(ctx)
	if err != nil {
		return nil, explain(ctx, s, fmt.Errorf("read the journal: %w", err))
	}
	data, version, err := s.Get(ctx)
	if err != nil {
		return nil, explain(ctx, s, fmt.Errorf("read the state: %w", err))
	}
	l, err := build(data, version, journal)
	if err != nil {
		return nil, explain(ctx, s, err)
	}
	if err := l.state.MakeWhole(); err != nil {
		return nil, explain(ctx, s, &DamagedError{reason: err.Error()})
	}
	return l, nil
}

// build makes the state of a document and its journal. What is sensitive in pods is not put back yet.
func build(data []byte, version string, journal []byte) (*loaded, error) {
	l := &loaded{state: &api.State{}, version: version}
	if version != "" {
		var err error
		if l.state, l.fence, err = decode(data); err != nil {
			return nil, err
		}
	}
	l.base = l.state.Serial
	return l, l.replay(journal, version != "")
}

// replay brings the state up to date with the journal, if that is the journal of this document.
func (l *loaded) replay(journal []byte, exists bool) error {
	lines, torn, err := splitJournal(journal)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		if len(journal) > 0 {
			l.journal = journalFolded // not even a header: no step began
		}
		return nil
	}
	h, err := decodeHeader(lines[0])
	if err != nil {
		return err
	}
	l.fence = max(l.fence, h.Fence)
	switch {
	case !exists && h.Serial > 0:
		return &DamagedError{journal: true, reason: fmt.Sprintf("it continues serial %d of lineage %s, but there is no state", h.Serial, h.Lineage),
			advice: "Put the state file back that belongs to it. Only if what it describes is really gone, remove the journal"}
	case exists && h.Lineage != l.state.Lineage:
		return &DamagedError{journal: true, reason: fmt.Sprintf("it belongs to lineage %s, but the state is of lineage %s", h.Lineage, l.state.Lineage),
			advice: "Put the state file back that belongs to it, or move the journal away"}
	case h.Serial > l.state.Serial:
		return &DamagedError{journal: true, reason: fmt.Sprintf("it continues serial %d, but the state has serial %d: it is an older copy", h.Serial, l.state.Serial),
			advice: "Put the newer state file back, or move the journal away to go on without the steps in it: the next plan finds on the hosts what they made"}
	case h.Serial < l.state.Serial:
		l.journal = journalFolded
		return nil
	}
	l.state.Lineage = h.Lineage
	l.journal = journalLive
	l.recovery = Recovery{Lock: h.Lock, Torn: torn}
	return l.apply(lines[1:])
}

// apply applies records of the journal that follow those which were applied before.
func (l *loaded) apply(lines [][]byte) error {
	if l.raised {
		l.state.Serial--
		l.raised = false
	}
	open := l.recovery.InFlight
	for _, line := range lines {
		number := l.lines + 2 // the header is the first
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return damagedLine(number, err.Error())
		}
		if r.Seq != l.lines+1 {
			return damagedLine(number, fmt.Sprintf("it is numbered %d: lines are missing", r.Seq))
		}
		l.lines++
		var d api.Delta
		if r.Delta != nil {
			if err := json.Unmarshal(r.Delta, &d); err != nil {
				return damagedLine(number, err.Error())
			}
			l.state.Apply(d)
			l.state.Serial++
		}
		l.stepped = l.stepped || r.Type != typeEvent
		switch r.Type {
		case typeBegin:
			if r.Step != nil {
				r.Step.Began = r.At
				open = append(open, *r.Step)
			}
		case typeDone, typeFailed:
			open = without(open, r.Step)
			if r.Type == typeDone {
				l.recovery.Steps++
			}
		case typeRecord:
		case typeEvent:
			if r.Event != nil {
				l.state.Happened(*r.Event)
			}
		default:
			return damagedLine(number, fmt.Sprintf("type %q is not known", r.Type))
		}
	}
	l.recovery.InFlight = open
	l.acted = l.stepped || l.lines == 0 // without lines a step was about to begin
	if l.state.Serial == l.base && (l.acted || l.base == 0) {
		l.state.Serial++ // as fold does
		l.raised = true
	}
	return nil
}

func without(notes []StepNote, n *StepNote) []StepNote {
	for i := range notes {
		if n != nil && notes[i].ID == n.ID {
			return append(notes[:i:i], notes[i+1:]...)
		}
	}
	return notes
}

// splitJournal returns the JSON of the journal's lines. The end may be torn: whatever follows the last good line
// was never reported as written. A bad line with good ones behind it is damage.
func splitJournal(journal []byte) (lines [][]byte, torn bool, err error) {
	bad := 0
	for n := 1; len(journal) > 0; n++ {
		line, rest, whole := bytes.Cut(journal, []byte{'\n'})
		journal = rest
		body, ok := frame.Decode(line)
		switch {
		case !ok || !whole:
			torn = true
			if bad == 0 {
				bad = n
			}
		case bad != 0:
			return nil, false, damagedLine(bad, "its checksum is wrong")
		default:
			lines = append(lines, body)
		}
	}
	return lines, torn, nil
}

func damagedLine(n int, reason string) error {
	return &DamagedError{journal: true, reason: fmt.Sprintf("line %d: %s", n, reason),
		advice: "Restore it from a copy, or move it away to go on without the steps in it: the next plan finds on the hosts what they made"}
}

func decodeHeader(line []byte) (header, error) {
	if IsEncrypted(line) {
		return header{}, ErrEncrypted
	}
	var sniff struct {
		Version int    `json:"version"`
		Berth   string `json:"berth"`
	}
	if err := json.Unmarshal(line, &sniff); err != nil {
		return header{}, damagedLine(1, err.Error())
	}
	if sniff.Version > journalVersion {
		return header{}, &NewerError{journal: true, Version: sniff.Version, Berth: sniff.Berth, Newest: journalVersion}
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return header{}, damagedLine(1, err.Error())
	}
	if h.Version < 1 || h.Lineage == "" {
		return header{}, damagedLine(1, "it is no header")
	}
	return h, nil
}
