// Package planfile keeps a plan in a file, so that what was looked at is what is applied. The file holds the content
// of the config maps and secrets that pods need: whoever writes it gives it mode 0600.
//
// It neither checks whether a plan is stale (planner.Stale does) nor opens files. Start with [Read].
package planfile

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"berth.dev/berth/api"
)

// Version is the newest version of the format, the one that Write writes.
//
//	1  2026-11  gzip of one JSON object {"format", "version", "plan"}
const Version = 1

// format is how a plan file says what it is.
const format = "berth plan"

// ErrNotPlan is returned for a file that is no plan file.
var ErrNotPlan = errors.New("not a plan file")

// VersionError is returned for a plan file that a newer Berth has written.
type VersionError struct{ Version int }

// Error names both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the plan file has version %d, and this Berth reads up to version %d: use the Berth that wrote it, or plan again", e.Version, Version)
}

// Read reads a plan that Write wrote, of this version or an older one.
func Read(r io.Reader) (*api.Plan, error) {
	br := bufio.NewReader(r)
	if magic, err := br.Peek(2); err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return nil, ErrNotPlan
	}
	z, err := gzip.NewReader(br)
	if err != nil {
		return nil, ErrNotPlan
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("read plan file: %w", err)
	}
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil || head.Format != format || head.Version < 1 {
		return nil, ErrNotPlan
	}
	switch head.Version {
	case 1:
		return readVersion1(text)
	}
	return nil, &VersionError{head.Version}
}

// Write writes a plan in the newest version, without what was sensitive before. Equal plans give equal bytes.
func Write(w io.Writer, p *api.Plan) error {
	p, err := p.Sparing()
	if err != nil {
		return fmt.Errorf("write plan file: %w", err)
	}
	z := gzip.NewWriter(w)
	if err := writeVersion1(z, p); err != nil {
		return fmt.Errorf("write plan file: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("write plan file: %w", err)
	}
	return nil
}
