package view

import (
	"bytes"
	"fmt"
	"strings"

	"berth.dev/berth/api"
)

// Sources returns the text of a configuration file for the line that a diagnostic points at, or nil.
type Sources func(filename string) []byte

// Diagnostics paints errors and warnings in Terraform's manner: a summary, the place with its line, the detail.
func (s Stream) Diagnostics(ds api.Diagnostics, sources Sources) {
	for _, d := range ds {
		s.diagnostic(d, sources)
	}
}

func (s Stream) diagnostic(d api.Diagnostic, sources Sources) {
	word, colour := "Error", red
	if d.Severity == api.SeverityWarning {
		word, colour = "Warning", yellow
	}
	var lines []string
	lines = append(lines, s.paint(colour, word+": ")+s.paint(bold, d.Summary), "")
	if where := s.where(d, sources); where != nil {
		lines = append(append(lines, where...), "")
	}
	indent := 2
	if !s.Colour {
		indent = 0
	}
	wrapped := Stream{Width: max(0, s.Width-indent)}.wrap(d.Detail, "")
	lines = append(lines, strings.Split(wrapped, "\n")...)
	if !s.Colour { // pipes and logs get the text without rules
		s.Printf("\n%s\n", strings.Join(lines, "\n"))
		return
	}
	s.Println(s.paint(colour, "╷"))
	for _, l := range lines {
		s.Println(strings.TrimRight(s.paint(colour, "│")+" "+l, " "))
	}
	s.Println(s.paint(colour, "╵"))
}

// where says the place: the file's line, else the host and step.
func (s Stream) where(d api.Diagnostic, sources Sources) []string {
	if d.Range != nil {
		head := fmt.Sprintf("  on %s line %d, column %d", d.Range.Filename, d.Range.Start.Line, d.Range.Start.Column)
		if d.Address != "" {
			head += ", in " + d.Address
		}
		if d.Node != "" {
			head += ", node " + d.Node
		}
		line := sourceLine(sources, *d.Range)
		if line == "" {
			return []string{head}
		}
		return []string{head + ":", fmt.Sprintf("  %4d: %s", d.Range.Start.Line, s.underline(line, *d.Range))}
	}
	var parts []string
	if d.Node != "" {
		parts = append(parts, "on node "+d.Node)
	}
	if d.Step != "" {
		parts = append(parts, "step "+d.Step)
	}
	if d.Address != "" && d.Step == "" {
		parts = append(parts, "with "+d.Address)
	}
	if parts == nil {
		return nil
	}
	return []string{"  " + strings.Join(parts, ", ")}
}

func sourceLine(sources Sources, r api.Range) string {
	if sources == nil {
		return ""
	}
	lines := bytes.Split(sources(r.Filename), []byte("\n"))
	if r.Start.Line < 1 || r.Start.Line > len(lines) {
		return ""
	}
	return strings.TrimRight(string(lines[r.Start.Line-1]), "\r")
}

func (s Stream) underline(line string, r api.Range) string {
	runes := []rune(line)
	from, to := r.Start.Column-1, len(runes)
	if r.End.Line == r.Start.Line {
		to = min(to, r.End.Column-1)
	}
	if !s.Colour || from < 0 || from >= to {
		return line
	}
	return string(runes[:from]) + "\x1b[4m" + string(runes[from:to]) + "\x1b[0m" + string(runes[to:])
}
