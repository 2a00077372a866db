package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// RawJSON is JSON text kept as it is.
type RawJSON = json.RawMessage

// Pos is a place in a file. Line and Column count from 1, columns in characters; Byte counts from 0.
type Pos struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// Range is a stretch of a configuration file. The zero Range means "no place known".
type Range struct {
	Filename string `json:"filename"`
	Start    Pos    `json:"start"`
	End      Pos    `json:"end"`
}

// IsZero reports whether no place is known.
func (r Range) IsZero() bool { return r.Filename == "" }

// String returns "file:line,column".
func (r Range) String() string {
	if r.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s:%d,%d", r.Filename, r.Start.Line, r.Start.Column)
}

// Severity of a diagnostic.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one thing to tell the user: what, where, why, and what to do.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`           // a fixed short phrase without the user's names
	Detail   string   `json:"detail"`            // full sentences; the last says what to do
	Address  string   `json:"address,omitempty"` // the object
	Node     string   `json:"node,omitempty"`    // the host
	Step     string   `json:"step,omitempty"`    // the step that failed
	Range    *Range   `json:"range,omitempty"`
}

// Diagnostics is a list of them, collected and returned together.
type Diagnostics []Diagnostic

// HasErrors reports whether one of them is an error.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == SeverityError })
}

// Errorf appends an error at a place; a zero range is left out.
func (ds *Diagnostics) Errorf(r Range, summary, format string, args ...any) {
	ds.add(SeverityError, r, summary, format, args)
}

// Warnf appends a warning at a place.
func (ds *Diagnostics) Warnf(r Range, summary, format string, args ...any) {
	ds.add(SeverityWarning, r, summary, format, args)
}

func (ds *Diagnostics) add(s Severity, r Range, summary, format string, args []any) {
	d := Diagnostic{Severity: s, Summary: summary, Detail: fmt.Sprintf(format, args...)}
	if !r.IsZero() {
		d.Range = &r
	}
	*ds = append(*ds, d)
}

// Err returns nil when there is no error among them, else an error that carries them all.
func (ds Diagnostics) Err() error {
	if !ds.HasErrors() {
		return nil
	}
	return &DiagnosticsError{ds}
}

// Sort orders by file, line, column, then severity and text, so that output never depends on chance.
func (ds Diagnostics) Sort() {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		ra, rb := deref(a.Range), deref(b.Range)
		return cmp.Or(strings.Compare(ra.Filename, rb.Filename), cmp.Compare(ra.Start.Byte, rb.Start.Byte),
			strings.Compare(a.Node, b.Node), strings.Compare(a.Summary, b.Summary), strings.Compare(a.Detail, b.Detail))
	})
}

func deref(r *Range) Range {
	if r == nil {
		return Range{}
	}
	return *r
}

// DiagnosticsError is an error that carries diagnostics to the one place that paints them.
type DiagnosticsError struct{ Diagnostics Diagnostics }

// Error joins the summaries and details in one line each.
func (e *DiagnosticsError) Error() string {
	var lines []string
	for _, d := range e.Diagnostics {
		if d.Severity == SeverityError {
			s := d.Summary + ": " + d.Detail
			if d.Range != nil {
				s = d.Range.String() + ": " + s
			}
			lines = append(lines, s)
		}
	}
	return strings.Join(lines, "\n")
}

// DiagnosticsOf turns any error into diagnostics: those it carries, the one that it can make of itself, or one made of its
// text under the given summary.
func DiagnosticsOf(err error, summary string) Diagnostics {
	if err == nil {
		return nil
	}
	var de *DiagnosticsError
	if errors.As(err, &de) {
		return de.Diagnostics
	}
	var one interface{ Diagnostic() Diagnostic }
	if errors.As(err, &one) {
		return Diagnostics{one.Diagnostic()}
	}
	return Diagnostics{{Severity: SeverityError, Summary: summary, Detail: err.Error()}}
}
