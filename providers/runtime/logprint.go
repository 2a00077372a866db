package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"
)

// LogFormat says how lines of a log are written.
type LogFormat struct {
	// Timestamps puts the time of each line before it.
	Timestamps bool
	// Prefix is put before each line: "[pod/web/app] ".
	Prefix string
	// JSON writes each line as an object: time, stream, line, and the members of Fields.
	JSON bool
	// Fields name where the lines come from, in JSON.
	Fields LogSource
}

// LogSource is where lines come from.
type LogSource struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Container string `json:"container"`
}

// logJSON is one line as JSON.
type logJSON struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"` // stdout or stderr
	LogSource
	Line string `json:"line"`
}

// maxLine bounds what is kept of a line that has not come whole. A longer one is written in parts, between which lines of the other stream
// may come.
const maxLine = 1 << 20

// errLimit: as much was written as was asked for.
var errLimit = errors.New("the limit of bytes is reached")

// logPrinter turns log entries into the container's own output.
type logPrinter struct {
	w      io.Writer
	since  time.Time
	format LogFormat
	limit  int64 // bytes still to be written; 0 for no limit

	mu     sync.Mutex
	rest   []byte  // of an entry that has not come whole
	open   [2]line // of each stream, what has come of its line
	out    bytes.Buffer
	atEnd  bool // the limit is reached
	broken error
}

// line is what has come of a line.
type line struct {
	stamp []byte
	time  time.Time
	text  []byte
	begun bool
	cut   bool // its beginning was written already
}

func newLogPrinter(w io.Writer, o LogsOptions) *logPrinter {
	return &logPrinter{w: w, since: o.Since, format: o.Format, limit: o.Limit}
}

// Write takes any piece of a log file.
func (p *logPrinter) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	data := b
	if len(p.rest) > 0 {
		data = append(p.rest, b...)
	}
	for {
		entry, after, ok := bytes.Cut(data, []byte("\n"))
		if !ok {
			break
		}
		p.entry(entry)
		data = after
	}
	if p.rest = append(p.rest[:0:0], data...); len(p.rest) > maxLine { // not a log, but shown all the same
		p.entry(p.rest)
		p.rest = nil
	}
	return len(b), p.send()
}

// send passes on what is ready.
func (p *logPrinter) send() error {
	if p.out.Len() > 0 && p.broken == nil {
		_, p.broken = p.w.Write(p.out.Bytes())
		p.out.Reset()
	}
	if p.broken == nil && p.atEnd {
		return errLimit
	}
	return p.broken
}

func (p *logPrinter) entry(b []byte) {
	e, err := parseLogLine(b)
	if err != nil { // not ours to judge: show what is there
		e = logLine{content: b, time: p.since}
	}
	of := &p.open[0]
	if e.stderr {
		of = &p.open[1]
	}
	if !of.begun {
		*of = line{stamp: append(of.stamp[:0], e.stamp...), time: e.time, text: of.text[:0], begun: true}
	}
	of.text = append(of.text, e.content...)
	if !e.partial || len(of.text) > maxLine {
		p.print(of, e.stderr, e.partial)
	}
}

// print writes what has come of a line; with more to come, it stays open.
func (p *logPrinter) print(l *line, stderr, more bool) {
	defer func() {
		l.text, l.cut, l.begun = l.text[:0], more, more
	}()
	if l.time.Before(p.since) || p.atEnd {
		return
	}
	if p.format.JSON {
		p.printJSON(l, stderr)
		return
	}
	if !l.cut {
		p.out.WriteString(p.format.Prefix)
	}
	from := p.out.Len() // the prefix is ours and does not count
	if p.format.Timestamps && !l.cut && len(l.stamp) > 0 {
		p.out.Write(l.stamp)
		p.out.WriteByte(' ')
	}
	p.out.Write(l.text)
	if !more {
		p.out.WriteByte('\n')
	}
	p.cut(from)
}

// cut ends the output where the limit is, though it be within a line.
func (p *logPrinter) cut(from int) {
	if p.limit == 0 {
		return
	}
	n := int64(p.out.Len() - from)
	if n >= p.limit {
		p.out.Truncate(from + int(p.limit))
		p.atEnd = true
		return
	}
	p.limit -= n
}

func (p *logPrinter) printJSON(l *line, stderr bool) {
	from := p.out.Len()
	j := logJSON{Time: l.time.UTC(), Stream: "stdout", LogSource: p.format.Fields, Line: string(l.text)}
	if stderr {
		j.Stream = "stderr"
	}
	b, err := json.Marshal(j)
	if err != nil {
		p.broken = err
		return
	}
	p.out.Write(b)
	p.out.WriteByte('\n')
	if n := int64(p.out.Len() - from); p.limit > 0 {
		if n > p.limit { // half an object is of no use
			p.out.Truncate(from)
			p.limit = n
		}
		p.limit -= n
		p.atEnd = p.limit == 0
	}
}

// flush ends lines that the log leaves open.
func (p *logPrinter) flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rest) > 0 {
		p.entry(p.rest)
		p.rest = nil
	}
	for i := range p.open {
		if p.open[i].begun {
			p.print(&p.open[i], i == 1, false)
		}
	}
	if err := p.send(); err != nil && !errors.Is(err, errLimit) {
		return err
	}
	return nil
}
