package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxOutput bounds what a script may print when its output is kept in memory.
const maxOutput = 64 << 20

var errTooMuch = fmt.Errorf("the script printed more than %d MiB", maxOutput>>20)

// markReader finds marks in a stream. What it has read beyond a mark stays for the next call.
type markReader struct {
	r   io.Reader
	buf []byte
}

// upTo returns everything before the mark and drops the mark. At an error it returns what came so far.
func (m *markReader) upTo(mark string) ([]byte, error) {
	from := 0
	for {
		if i := bytes.Index(m.buf[from:], []byte(mark)); i >= 0 {
			end := from + i
			before := m.buf[:end:end]
			m.buf = bytes.Clone(m.buf[end+len(mark):])
			return before, nil
		}
		from = max(0, len(m.buf)-len(mark)+1)
		if len(m.buf) > maxOutput {
			return m.buf, errTooMuch
		}
		m.buf = slices.Grow(m.buf, 32<<10)
		n, err := m.r.Read(m.buf[len(m.buf):cap(m.buf)])
		m.buf = m.buf[:len(m.buf)+n]
		if err != nil && n == 0 {
			return m.buf, err
		}
	}
}

// line returns the rest of the line after a mark, without spaces around it.
func (m *markReader) line() (string, error) {
	b, err := m.upTo("\n")
	return strings.TrimSpace(string(b)), err
}

// Read returns what was read ahead, then the stream.
func (m *markReader) Read(p []byte) (int, error) {
	if len(m.buf) > 0 {
		n := copy(p, m.buf)
		m.buf = m.buf[n:]
		return n, nil
	}
	return m.r.Read(p)
}

// capped keeps the first maxOutput bytes and refuses more.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > maxOutput {
		return 0, errTooMuch
	}
	return c.Buffer.Write(p)
}

// tail keeps the last bytes written to it.
type tail struct{ b []byte }

const tailSize = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailSize {
		t.b = bytes.Clone(t.b[len(t.b)-tailSize:])
	}
	return len(p), nil
}

// lastLines returns at most the last five lines and 1 KiB of what a script said, in one line.
func lastLines(b []byte) string {
	if n := len(b) - 1<<10; n > 0 {
		b = b[n:]
	}
	lines := strings.FieldsFunc(string(bytes.ToValidUTF8(b, []byte("?"))), func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.TrimSpace(strings.Join(lines[max(0, len(lines)-5):], "; "))
}

// isEnd reports whether a stream simply ended.
func isEnd(err error) bool { return errors.Is(err, io.EOF) }
