package statefile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"berth.dev/berth/api"
)

// Read returns the state without taking the lock, with every step that has finished so far. It returns an empty
// state when there is none. The serial tells it apart from the state at any other moment.
func Read(ctx context.Context, store Store) (*api.State, error) {
	g, err := Look(ctx, store)
	if err != nil {
		return nil, err
	}
	return g.State, nil
}

// Glance is what is to be known of a state without the lock.
type Glance struct {
	State *api.State
	// InFlight are the steps which have begun and not ended: those of a run in progress, or of one that was killed.
	InFlight []StepNote
	// Fence is the fencing number of the newest run that has begun a step; hosts have seen no greater one, unless the state is a copy.
	Fence uint64
}

// Look is Read that also returns what a run in progress is about.
func Look(ctx context.Context, store Store) (*Glance, error) {
	l, err := load(ctx, store)
	if err != nil {
		return nil, err
	}
	return &Glance{l.state, l.recovery.InFlight, l.fence}, nil
}

// ReadInFlight is Read that also returns the steps which have begun and not ended.
func ReadInFlight(ctx context.Context, store Store) (*api.State, []StepNote, error) {
	g, err := Look(ctx, store)
	if err != nil {
		return nil, nil, err
	}
	return g.State, g.InFlight, nil
}

// decode reads a document of any version we know.
func decode(data []byte) (*api.State, uint64, error) {
	version, err := sniff(data)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case version == 1:
		s, fence, err := decodeVersion1(data)
		if err == nil && s.MakeWhole() != nil {
			err = &DamagedError{reason: "a pod has a hash at a place that it does not have"}
		}
		return s, fence, err
	case version > newestVersion:
		// Whatever else a newer version changes, the name of the program stays: see version1.go.
		var by struct {
			Berth *string `json:"berth"`
		}
		if err := json.Unmarshal(data, &by); err != nil || by.Berth == nil {
			return nil, 0, &DamagedError{reason: "it is no state of Berth"}
		}
		return nil, 0, &NewerError{Version: version, Berth: *by.Berth, Newest: newestVersion}
	}
	return nil, 0, &DamagedError{reason: fmt.Sprintf("format version %d does not exist", version)}
}

// sniff returns the version, which is the first thing in the document, without reading the rest.
func sniff(data []byte) (int, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return 0, &DamagedError{reason: "it is empty"}
	}
	if IsEncrypted(data) {
		return 0, ErrEncrypted
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	for _, want := range []json.Token{json.Delim('{'), "version"} {
		if t, err := dec.Token(); err != nil || t != want {
			return 0, &DamagedError{reason: "it does not begin like a state file"}
		}
	}
	var version int
	if err := dec.Decode(&version); err != nil {
		return 0, &DamagedError{reason: "it does not begin like a state file"}
	}
	return version, nil
}

// IsEncrypted reports whether a document, or the JSON of a journal's line, is an encrypted one: package seal writes it with this
// member in front.
func IsEncrypted(data []byte) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
	return ok && bytes.HasPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(`"encryption_version"`))
}

// ErrEncrypted means that a state is encrypted and nothing says how to decrypt it.
var ErrEncrypted error = &encryptedError{}

type encryptedError struct{}

func (*encryptedError) Error() string { return "it is encrypted, and there is no encryption block" }

// Diagnostic says it to people.
func (*encryptedError) Diagnostic() api.Diagnostic {
	return api.Diagnostic{Severity: api.SeverityError, Summary: "Encrypted",
		Detail: "What is there is encrypted, and the configuration does not say how. Nothing was changed. Put the encryption block that it was written with into the berth block, or into the environment variable BERTH_ENCRYPTION."}
}

// As makes api.DiagnosticsOf find the diagnostic.
func (e *encryptedError) As(target any) bool { return asDiagnostics(target, e) }

// Damaged is the error of a document that cannot be believed, for stores that look into it.
func Damaged(reason string) error { return &DamagedError{reason: reason} }

// DamagedLine is the same of a journal's line.
func DamagedLine(n int, reason string) error { return damagedLine(n, reason) }

// DamagedError means that a state or a journal is there but cannot be believed. It is never taken for an empty
// one.
type DamagedError struct {
	journal bool
	name    string // of the document or the journal
	reason  string
	advice  string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged: %s", e.subject(), e.reason)
}

func (e *DamagedError) subject() string {
	return subject(e.journal, e.name)
}

func subject(journal bool, name string) string {
	what := "the state"
	if journal {
		what = "the journal"
	}
	if name == "" {
		return what
	}
	return what + " " + name
}

// Diagnostic says it to people.
func (e *DamagedError) Diagnostic() api.Diagnostic {
	summary := "State is damaged"
	if e.journal {
		summary = "State journal is damaged"
	}
	return api.Diagnostic{Severity: api.SeverityError, Summary: summary,
		Detail: fmt.Sprintf("%s cannot be used: %s. Nothing was changed. %s.", capital(e.subject()), e.reason, e.advice)}
}

// As makes api.DiagnosticsOf find the diagnostic.
func (e *DamagedError) As(target any) bool { return asDiagnostics(target, e) }

// NewerError means that a newer Berth has written the state.
type NewerError struct {
	journal bool
	name    string
	Version int    // the format's
	Berth   string // the version of Berth that wrote it
	Newest  int    // the newest format that this Berth reads
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("%s was written by %s in format version %d; this Berth reads up to %d", subject(e.journal, e.name), e.by(), e.Version, e.Newest)
}

func (e *NewerError) by() string {
	if e.Berth == "" {
		return "a newer Berth"
	}
	return "Berth " + e.Berth
}

// Diagnostic says it to people.
func (e *NewerError) Diagnostic() api.Diagnostic {
	return api.Diagnostic{Severity: api.SeverityError, Summary: "State is of a newer version",
		Detail: fmt.Sprintf("%s. Nothing was changed. Upgrade Berth to at least the version that wrote it.", capital(e.Error()))}
}

// As makes api.DiagnosticsOf find the diagnostic.
func (e *NewerError) As(target any) bool { return asDiagnostics(target, e) }

// explain completes an error about content with the names of the store's parts and, for a damaged document,
// with what is left of its predecessor.
func explain(ctx context.Context, s Store, err error) error {
	var damaged *DamagedError
	var newer *NewerError
	names := namesOf(s)
	switch {
	case errors.As(err, &damaged):
		damaged.name = names.State
		if damaged.journal {
			damaged.name = names.Journal
		}
		if damaged.advice == "" {
			damaged.advice = adviceFor(ctx, s, names)
		}
	case errors.As(err, &newer):
		newer.name = names.State
		if newer.journal {
			newer.name = names.Journal
		}
	}
	return err
}

// adviceFor looks for the newest document that was replaced and is good.
func adviceFor(ctx context.Context, s Store, names Names) string {
	const other = "Restore it from a copy or from version control, or move it away and make it anew of what the hosts keep (berth state rebuild)"
	k, ok := Find[Keeper](s)
	if !ok {
		return other
	}
	list, err := k.Backups(ctx)
	if err != nil || len(list) == 0 {
		return other
	}
	bad := ""
	for _, b := range list {
		data, err := b.Read(ctx)
		var old *api.State
		if err == nil {
			old, _, err = decode(data)
		}
		if err != nil {
			if bad == "" {
				bad = fmt.Sprintf("; the backup %s is no good either (%s)", b.Name, err)
			}
			continue
		}
		return fmt.Sprintf("The last good state before it, serial %d, is whole in %s: look at it, then copy it to %s and run berth plan, which finds on the hosts what was done since",
			old.Serial, b.Name, names.State)
	}
	return other + bad
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}
