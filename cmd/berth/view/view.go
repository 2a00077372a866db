// Package view paints values of api for people (text) and for machines (JSON lines). It is the only place that knows
// colours, columns and wording of output. It decides nothing and reaches no host.
//
// Start with plan.go.
package view

import (
	"fmt"
	"io"
	"strings"
)

// Stream is where output goes and how it may look.
type Stream struct {
	W      io.Writer
	Colour bool
	Width  int // columns of the terminal; 0 when it is none: then nothing is wrapped
}

// Printf writes formatted text.
func (s Stream) Printf(format string, args ...any) { fmt.Fprintf(s.W, format, args...) }

// Println writes a line.
func (s Stream) Println(line string) { io.WriteString(s.W, line+"\n") }

// style is a terminal attribute.
type style string

const (
	bold   style = "1"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	dim    style = "2"
)

// paint wraps text in a style where colour is allowed.
func (s Stream) paint(st style, text string) string {
	if !s.Colour || text == "" {
		return text
	}
	return "\x1b[" + string(st) + "m" + text + "\x1b[0m"
}

// wrap breaks text at spaces so that lines fit the width, each after the indent.
func (s Stream) wrap(text, indent string) string {
	width := s.Width - len([]rune(indent))
	if s.Width == 0 || width < 30 {
		width = 1 << 30
	}
	var out []string
	for para := range strings.SplitSeq(text, "\n") {
		line := ""
		for _, word := range strings.SplitAfter(para, " ") {
			if line != "" && len([]rune(line))+len([]rune(strings.TrimRight(word, " "))) > width {
				out = append(out, indent+strings.TrimRight(line, " "))
				line = ""
			}
			line += word
		}
		out = append(out, strings.TrimRight(indent+line, " "))
	}
	return strings.Join(out, "\n")
}
