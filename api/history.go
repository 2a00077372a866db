package api

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ApplyRecord is one entry of the history: who changed what, when, from where, and what was there before.
type ApplyRecord struct {
	Serial  uint64    `json:"serial"`
	Who     string    `json:"who"` // user@host
	At      time.Time `json:"at"`
	Summary string    `json:"summary"` // "4 added, 1 changed, 0 destroyed"
	// Operation is the command: "apply", "destroy", "scale".
	Operation string `json:"operation,omitempty"`
	// From is the directory of the configuration, Job the address of the CI job.
	From string `json:"from,omitempty"`
	Job  string `json:"job,omitempty"`
	// Outcome is OutcomeComplete, or how else it ended. Records of before there was this field are of complete ones.
	Outcome Outcome `json:"outcome,omitempty"`
	// Undo is how what changed since the record before was before. From the present state back, records give the objects
	// of every one of them.
	Undo *Undo `json:"undo,omitempty"`
}

// Outcome is how an apply ended.
type Outcome string

// The outcomes.
const (
	OutcomeComplete    Outcome = ""
	OutcomeFailed      Outcome = "failed"      // some step
	OutcomeInterrupted Outcome = "interrupted" // by a person
)

// String returns the outcome as people and machines read it.
func (o Outcome) String() string {
	if o == OutcomeComplete {
		return "complete"
	}
	return string(o)
}

// Undo is a part of the state as it was.
type Undo struct {
	Objects []ObjectBefore `json:"objects,omitempty"` // by address
	Pins    []ImagePin     `json:"pins,omitempty"`    // by reference; nothing pinned: there was none
	Outputs *OutputsBefore `json:"outputs,omitempty"`
}

// OutputsBefore are all outputs as they were. Sensitive ones may have a hash in the place of their value.
type OutputsBefore struct {
	List   []*Output         `json:"list"`
	Hashes map[string]string `json:"hashes,omitempty"` // by name
}

// ObjectBefore is an object as it was.
type ObjectBefore struct {
	Address Address `json:"address"`
	Object  *Object `json:"object,omitempty"` // nil: it was not there
	// Hashes stand for sensitive attributes, by path, of which the value is not kept: see [Undo.Hashed].
	Hashes map[string]string `json:"hashes,omitempty"`
}

// IsZero reports whether nothing changed.
func (u Undo) IsZero() bool { return len(u.Objects) == 0 && len(u.Pins) == 0 && u.Outputs == nil }

func byBefore(a, b ObjectBefore) int { return a.Address.Compare(b.Address) }

// rememberObject keeps what is at an address before it changes for the first time since the last record.
func (s *State) rememberObject(a Address) {
	b := ObjectBefore{Address: a, Object: s.Object(a)}
	if _, known := slices.BinarySearchFunc(s.Undo.Objects, b, byBefore); !known {
		s.Undo.Objects = put(s.Undo.Objects, b, byBefore)
	}
}

func (s *State) rememberPin(ref string) {
	if _, known := slices.BinarySearchFunc(s.Undo.Pins, ImagePin{Ref: ref}, byPinRef); known {
		return
	}
	before := ImagePin{Ref: ref}
	if i, ok := slices.BinarySearchFunc(s.Pins, before, byPinRef); ok {
		before = s.Pins[i]
	}
	s.Undo.Pins = put(s.Undo.Pins, before, byPinRef)
}

func (s *State) rememberOutputs() {
	if s.Undo.Outputs == nil {
		s.Undo.Outputs = &OutputsBefore{List: s.Outputs}
	}
}

// record adds an entry to the history with what changed since the one before, and drops those that are no longer to be kept.
func (s *State) record(r ApplyRecord, keep *Retention) {
	if u := s.changed(); !u.IsZero() {
		r.Undo = &u
	}
	s.Undo = Undo{}
	s.History = append(s.History, r)
	if keep == nil {
		keep = &DefaultRetention
	}
	first := max(0, len(s.History)-max(1, keep.Applies))
	for keep.AppliesMaxAge > 0 && first < len(s.History)-1 && r.At.Sub(s.History[first].At) > time.Duration(keep.AppliesMaxAge)*time.Second {
		first++
	}
	if first > 0 {
		s.History = slices.Clone(s.History[first:])
	}
}

// changed is what s.Undo has without what came back to what it was.
func (s *State) changed() Undo {
	u := Undo{Outputs: s.Undo.Outputs}
	for _, b := range s.Undo.Objects {
		if !sameJSONOf(b.Object, s.Object(b.Address)) {
			u.Objects = append(u.Objects, b)
		}
	}
	for _, p := range s.Undo.Pins {
		now := ImagePin{Ref: p.Ref}
		if i, ok := slices.BinarySearchFunc(s.Pins, now, byPinRef); ok {
			now = s.Pins[i]
		}
		if now != p {
			u.Pins = append(u.Pins, p)
		}
	}
	if u.Outputs != nil && sameJSONOf(u.Outputs.List, s.Outputs) {
		u.Outputs = nil
	}
	return u
}

func sameJSONOf(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// Moment is the state as an entry of the history left it, as far as that was kept.
type Moment struct {
	Record  ApplyRecord // zero for the present
	Objects []ObjectBefore
	Pins    []ImagePin
	Outputs OutputsBefore
}

// Object returns what was at an address; nil when nothing was.
func (m *Moment) Object(a Address) *ObjectBefore {
	if i, ok := slices.BinarySearchFunc(m.Objects, ObjectBefore{Address: a}, byBefore); ok {
		return &m.Objects[i]
	}
	return nil
}

// Recorded returns the entry of the history with that serial.
func (s *State) Recorded(serial uint64) (ApplyRecord, bool) {
	i, ok := slices.BinarySearchFunc(s.History, serial, func(r ApplyRecord, n uint64) int {
		switch {
		case r.Serial < n:
			return -1
		case r.Serial > n:
			return 1
		}
		return 0
	})
	if !ok {
		return ApplyRecord{}, false
	}
	return s.History[i], true
}

// Present returns what is there now.
func (s *State) Present() *Moment {
	m := &Moment{Pins: slices.Clone(s.Pins), Outputs: OutputsBefore{List: s.Outputs}}
	for _, o := range s.Objects {
		m.Objects = append(m.Objects, ObjectBefore{Address: o.Address, Object: o})
	}
	return m
}

// Moment returns the state as the apply with that serial left it, nil when the history has none such. It goes from the present back
// over what every later apply has changed.
func (s *State) Moment(serial uint64) *Moment {
	r, ok := s.Recorded(serial)
	if !ok {
		return nil
	}
	m := s.Present()
	m.undo(s.Undo)
	for i := len(s.History) - 1; s.History[i].Serial > serial; i-- {
		if u := s.History[i].Undo; u != nil {
			m.undo(*u)
		}
	}
	m.Record = r
	return m
}

func (m *Moment) undo(u Undo) {
	for _, b := range u.Objects {
		if b.Object == nil {
			m.Objects = drop(m.Objects, b, byBefore)
		} else {
			m.Objects = put(m.Objects, b, byBefore)
		}
	}
	for _, p := range u.Pins {
		if p.Pinned == "" {
			m.Pins = drop(m.Pins, p, byPinRef)
		} else {
			m.Pins = put(m.Pins, p, byPinRef)
		}
	}
	if u.Outputs != nil {
		m.Outputs = *u.Outputs
	}
}

// HashPrefix begins a keyed hash that stands for a sensitive value.
const HashPrefix = "hmac-sha256:"

// HashSensitive returns the keyed hash of a value's JSON: equal values of one cluster have equal hashes. The key is the lineage.
func HashSensitive(lineage string, value []byte) string {
	var compact bytes.Buffer
	if json.Compact(&compact, value) == nil {
		value = compact.Bytes()
	}
	h := hmac.New(sha256.New, []byte("berth sensitive value\n"+lineage))
	h.Write(value)
	return HashPrefix + hex.EncodeToString(h.Sum(nil))
}

// SensitivePaths are the paths of an object's attributes that must not be shown: those that were made of sensitive values, and
// the whole content of a secret.
func (o *Object) SensitivePaths() []string {
	if o.Address.Kind == KindSecret {
		return append([]string{"data", "stringData"}, o.Sensitive...)
	}
	return o.Sensitive
}

// Hashed returns u with hashes in the place of all sensitive values. It is what is kept where the state is not encrypted: enough to see
// that a value changed, and to find it again while it is the present one.
func (u Undo) Hashed(lineage string) (Undo, error) {
	out := Undo{Pins: u.Pins, Outputs: u.Outputs}
	for _, b := range u.Objects {
		hashed, err := b.hashed(lineage)
		if err != nil {
			return Undo{}, err
		}
		out.Objects = append(out.Objects, hashed)
	}
	if u.Outputs != nil {
		out.Outputs = u.Outputs.hashed(lineage)
	}
	return out, nil
}

func (b ObjectBefore) hashed(lineage string) (ObjectBefore, error) {
	if b.Object == nil {
		return b, nil
	}
	hashes := map[string]string{}
	var away []Override
	for _, path := range b.Object.SensitivePaths() {
		path := AttributeOf(path)
		v, err := b.Object.At(path)
		if err != nil {
			return b, fmt.Errorf("hash what is sensitive in %s: %w", b.Address, err)
		}
		if _, twice := hashes[path]; v != nil && !twice {
			hashes[path] = HashSensitive(lineage, v)
			away = append(away, Override{Path: path, Reason: "hash"})
		}
	}
	if len(away) == 0 {
		return b, nil
	}
	// From the end, so that lists keep the places of what is still to go.
	slices.SortFunc(away, func(x, y Override) int { return strings.Compare(y.Path, x.Path) })
	bare, err := b.Object.Overridden(away)
	if err != nil {
		return b, fmt.Errorf("hash what is sensitive in %s: %w", b.Address, err)
	}
	for path, h := range b.Hashes {
		hashes[path] = h
	}
	return ObjectBefore{Address: b.Address, Object: bare, Hashes: hashes}, nil
}

// AttributeOf returns the path of the whole list for one of its elements: a list must not get a hole.
func AttributeOf(path string) string {
	for {
		steps, err := splitPath(path)
		if err != nil || len(steps) < 2 || !steps[len(steps)-1].element {
			return path
		}
		path = parentPath(path)
	}
}

func (b OutputsBefore) hashed(lineage string) *OutputsBefore {
	out := &OutputsBefore{Hashes: map[string]string{}}
	for name, h := range b.Hashes {
		out.Hashes[name] = h
	}
	for _, o := range b.List {
		if o.Sensitive && out.Hashes[o.Name] == "" {
			out.Hashes[o.Name] = HashSensitive(lineage, o.Value)
			bare := *o
			bare.Value = nil
			o = &bare
		}
		out.List = append(out.List, o)
	}
	return out
}

// Whole returns the object with its hashed values put back from the object that is there now, where they are the same; missing are the
// paths of those that are not.
func (b ObjectBefore) Whole(lineage string, now *Object) (whole *Object, missing []string, err error) {
	var back []Override
	for path, h := range b.Hashes {
		var v RawJSON
		if now != nil {
			if v, err = now.At(path); err != nil {
				v = nil // there is no such place any more
			}
		}
		if v == nil || HashSensitive(lineage, v) != h {
			missing = append(missing, path)
			continue
		}
		back = append(back, Override{Path: path, Value: v, Reason: "history"})
	}
	slices.Sort(missing)
	slices.SortFunc(back, func(x, y Override) int { return strings.Compare(x.Path, y.Path) })
	whole, err = b.Object.Overridden(back)
	return whole, missing, err
}
