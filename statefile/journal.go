package statefile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile/internal/frame"
)

// Begin notes that a step is about to act on a host. When it returns nil for the first time, the lineage and
// the fencing number are on disk, so that a host may be marked with them. The note of a step that destroys something is
// durable when Begin returns. That of another one survives the death of this process, but perhaps not that of the
// machine: it tells people what was in flight. An error means that the step must not act.
func (f *File) Begin(s *api.Step) error {
	f.mu.Lock()
	err := f.ready()
	if err == nil {
		err = f.append(record{Type: typeBegin, Step: noteOf(s)})
	}
	f.mu.Unlock()
	if err == nil && s.Op.Destroys() {
		err = f.sync()
	}
	if err != nil {
		return fmt.Errorf("journal the begin of %s: %w", describe(s), err)
	}
	return nil
}

// Done records a finished step and applies what it changed to the state. When it returns nil the record is
// durable: only then may steps begin that wait for this one. Steps that finish at the same time share
// one write to the disk.
func (f *File) Done(s *api.Step, d api.Delta) error {
	if err := f.change(record{Type: typeDone, Step: noteOf(s)}, d); err != nil {
		return fmt.Errorf("journal the end of %s: %w", describe(s), err)
	}
	return nil
}

// Failed notes that a step has failed. What it left on the host is for the next run to find.
func (f *File) Failed(s *api.Step, cause error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := record{Type: typeFailed, Step: noteOf(s)}
	if cause != nil {
		r.Error = cause.Error()
	}
	err := f.ready()
	if err == nil {
		err = f.append(r)
	}
	if err != nil {
		return fmt.Errorf("journal the failure of %s: %w", describe(s), err)
	}
	return nil
}

// Record applies a change that belongs to no step: outputs, digests, a line of history. It is durable like
// that of a finished step.
func (f *File) Record(d api.Delta) error {
	if err := f.change(record{Type: typeRecord}, d); err != nil {
		return fmt.Errorf("journal a record: %w", err)
	}
	return nil
}

// Event keeps something that happened to an object. The record survives the death of this process, but perhaps not
// that of the machine, and it changes no serial: no plan is made from it. An error means that the journal cannot be
// written, which the next step that begins will say as well.
func (f *File) Event(e api.ObjectEvent) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.ready()
	if err == nil {
		e.Number, e.Run = f.state.NextEvent(), f.fence
		err = f.append(record{Type: typeEvent, Event: &e})
	}
	if err != nil {
		return fmt.Errorf("journal an event: %w", err)
	}
	f.state.Happened(e)
	return nil
}

func (f *File) change(r record, d api.Delta) error {
	raw, err := f.encodeDelta(d)
	if err != nil {
		return err
	}
	if string(raw) != "{}" {
		r.Delta = raw
	}
	if err := f.appendChange(r, d); err != nil {
		return err
	}
	return f.sync()
}

// encodeDelta writes a change as the journal has it: as sparing of sensitive values as the document.
func (f *File) encodeDelta(d api.Delta) ([]byte, error) {
	if d.PutPod != nil && len(d.PutPod.Sensitive) > 0 && !sealedOf(f.store).Seals() {
		p, err := d.PutPod.Hashed(f.state.Lineage)
		if err != nil {
			return nil, err
		}
		d.PutPod = &p
	}
	return json.Marshal(d)
}

// sync makes everything written so far durable. Those who ask at the same time share one write.
func (f *File) sync() error {
	ctx, cancel := outlive(f.Context())
	defer cancel()
	if err := f.lease.Sync(ctx); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.broken = err
		return err
	}
	return nil
}

// appendChange writes the line and applies the change under one lock, so that a replay applies changes in the
// order in which they were made. When the line cannot be written the change is applied all the same: it is
// true, and Close may still find a way to write it.
func (f *File) appendChange(r record, d api.Delta) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.held()
	}
	err := f.ready()
	if err == nil {
		err = f.append(r)
	}
	if r.Delta != nil {
		f.state.Apply(d)
		f.state.Serial++
	}
	return err
}

// held reports whether the state is still ours to write.
func (f *File) held() error {
	switch {
	case f.closed:
		return errors.New("the state is closed")
	case errors.Is(context.Cause(f.Context()), ErrLockLost):
		return ErrLockLost
	}
	return nil
}

// ready reports whether the journal can take a line, and begins it when it has none.
func (f *File) ready() error {
	if err := f.held(); err != nil {
		return err
	}
	if f.broken != nil {
		return fmt.Errorf("the journal cannot be written any more: %w", f.broken)
	}
	if f.begun {
		return nil
	}
	ctx, cancel := outlive(f.Context())
	defer cancel()
	line, err := frame.Encode(header{
		Version: journalVersion, Berth: f.info.Version, Lineage: f.state.Lineage, Serial: f.base, Fence: f.fence, Lock: f.info,
	})
	if err != nil {
		return err
	}
	if err := f.lease.Append(ctx, line); err != nil {
		return err
	}
	f.begun = true
	if err := f.lease.Sync(ctx); err != nil {
		f.broken = err
		return err
	}
	return nil
}

func (f *File) append(r record) error {
	r.Seq, r.At = f.seq+1, time.Now().UTC()
	f.acted = f.acted || r.Type != typeEvent
	line, err := frame.Encode(r)
	if err != nil {
		return err
	}
	ctx, cancel := outlive(f.Context())
	defer cancel()
	if err := f.lease.Append(ctx, line); err != nil {
		f.broken = err
		return err
	}
	f.seq++
	return nil
}

// The journal's format. A line is the CRC-32C of its JSON in eight hexadecimal digits, a space, the JSON and a
// newline. The first line is a header, the others are records with ascending numbers.
//
// Versions:
//
//	1  2026-11  the first
const journalVersion = 1

// header binds a journal to the document that it continues.
type header struct {
	Version int      `json:"version"`
	Berth   string   `json:"berth"`
	Lineage string   `json:"lineage"`
	Serial  uint64   `json:"serial"` // of the document; 0 when there is none yet
	Fence   uint64   `json:"fence"`
	Lock    LockInfo `json:"lock"`
}

// record is one line after the header.
type record struct {
	Seq   int              `json:"seq"` // from 1
	Type  recordType       `json:"type"`
	At    time.Time        `json:"at"`
	Step  *StepNote        `json:"step,omitempty"`
	Error string           `json:"error,omitempty"`
	Delta json.RawMessage  `json:"delta,omitempty"`
	Event *api.ObjectEvent `json:"event,omitempty"`
}

type recordType string

const (
	typeBegin  recordType = "begin"
	typeDone   recordType = "done"
	typeFailed recordType = "failed"
	typeRecord recordType = "record"
	typeEvent  recordType = "event"
)

// StepNote names a step in the journal.
type StepNote struct {
	ID      int         `json:"id"`
	Op      api.Op      `json:"op"`
	Address api.Address `json:"address"`
	Node    string      `json:"node,omitempty"`
	Grace   *int64      `json:"grace,omitempty"` // seconds; of a pod.remove with another grace period than the pod's own

	Began time.Time `json:"-"` // of a step in flight
}

// String returns "pod.ensure deployment.web/web-5d-x2 on a1".
func (n StepNote) String() string {
	s := string(n.Op) + " " + n.Address.String()
	if n.Node != "" {
		s += " on " + n.Node
	}
	return s
}

func noteOf(s *api.Step) *StepNote {
	n := &StepNote{ID: s.ID, Op: s.Op, Address: s.Address, Node: s.Node}
	if s.Op == api.OpPodRemove && s.Pod != nil && s.Pod.Pod != nil {
		n.Grace = s.Pod.Pod.DeletionGracePeriodSeconds
	}
	return n
}

func describe(s *api.Step) string { return noteOf(s).String() }
