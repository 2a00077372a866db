package statefile

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"berth.dev/berth/api"
)

// Export returns the state as one document, with every step that has finished so far; nil when there is none. It takes no lock.
func Export(ctx context.Context, store Store, berth string) ([]byte, error) {
	l, err := load(ctx, store)
	if err != nil || l.version == "" && l.journal != journalLive {
		return nil, err
	}
	return encode(l.state, l.fence, berth, true) // whoever reads it as a document has the whole of it
}

// Decode reads a document that was exported, or that lies somewhere as a copy. Errors are those of Open.
func Decode(data []byte) (*api.State, error) {
	s, _, err := decode(data)
	var damaged *DamagedError
	if errors.As(err, &damaged) && damaged.advice == "" {
		damaged.advice = "Take another copy"
	}
	return s, err
}

// Encode writes a state as a document, as Export does.
func Encode(s *api.State, fence uint64, berth string) ([]byte, error) {
	return encode(s, fence, berth, true)
}

// DecodeFenced is Decode that returns the document's fencing number, too: that of the last run which changed hosts.
func DecodeFenced(data []byte) (*api.State, uint64, error) { return decode(data) }

// RefusedError means that a document does not follow the one that is there.
type RefusedError struct{ reason string }

func (e *RefusedError) Error() string { return e.reason }

// Diagnostic says it to people.
func (e *RefusedError) Diagnostic() api.Diagnostic {
	return api.Diagnostic{Severity: api.SeverityError, Summary: "State cannot be replaced by this one",
		Detail: capital(e.reason) + ". Nothing was changed. If you are sure, --force writes it all the same."}
}

// As makes api.DiagnosticsOf find the diagnostic.
func (e *RefusedError) As(target any) bool { return asDiagnostics(target, e) }

// Push makes a document the state. Without force it is refused if it is of another lineage than what is there, older, or as old and
// different (the rules of terraform state push). What is there counts with its journal, which is dropped. The fencing
// number goes on from the greater one. It reports whether anything was written.
func Push(ctx context.Context, store Store, data []byte, info LockInfo, opts OpenOptions, force bool) (written bool, err error) {
	if data, err = sealedOf(store).Unseal(ctx, data); err != nil {
		return false, err
	}
	next, fence, err := decode(data)
	if err != nil {
		return false, err
	}
	f, err := Open(ctx, store, info, opts)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close(ctx)) }()
	if f.version != "" {
		same, refused := follows(next, f.state)
		if refused == nil && !same && fence < f.written {
			refused = &RefusedError{fmt.Sprintf("it was made by a run with the fencing number %d, and the state that is there was written by a later one, %d: it would undo what that one did", fence, f.written)}
		}
		if same || refused != nil && !force {
			return false, refused
		}
		if refused != nil {
			next.Serial = max(next.Serial, f.state.Serial) + 1 // plans that were made from either are stale
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.written, f.base = next, max(f.fence, fence), next.Serial-1
	return true, f.fold(ctx)
}

// follows compares two states as push does.
func follows(next, present *api.State) (same bool, refused error) {
	switch {
	case next.Lineage != present.Lineage:
		return false, &RefusedError{fmt.Sprintf("it is of lineage %s, but the state that is there is of lineage %s: they are of two clusters", next.Lineage, present.Lineage)}
	case next.Serial < present.Serial:
		return false, &RefusedError{fmt.Sprintf("it has serial %d, but the state that is there has serial %d: it is older", next.Serial, present.Serial)}
	case next.Serial > present.Serial:
		return false, nil
	case sameState(next, present):
		return true, nil
	}
	return false, &RefusedError{fmt.Sprintf("it has serial %d like the state that is there, but another content", next.Serial)}
}

// sameState compares by what is kept of both whether they are encrypted or not, and leaves out events, which change no serial.
func sameState(a, b *api.State) bool {
	x, y := *a, *b
	x.Events, y.Events = nil, nil
	one, errOne := encode(&x, 0, "", false)
	two, errTwo := encode(&y, 0, "", false)
	return errOne == nil && errTwo == nil && bytes.Equal(one, two)
}
