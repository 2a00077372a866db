package runtime

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"time"

	"berth.dev/berth/providers"
)

// logLine is one entry of a container's log as CRI writes it: "<RFC3339Nano> <stdout|stderr> <tags> <content>".
type logLine struct {
	time    time.Time
	stamp   []byte
	stderr  bool
	partial bool // the next entry of the stream goes on with this line
	content []byte
}

var errNotLog = errors.New("not a line of a container's log")

// parseLogLine reads an entry without its newline.
func parseLogLine(b []byte) (logLine, error) {
	stamp, rest, ok1 := bytes.Cut(b, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tags, content, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 {
		return logLine{}, errNotLog
	}
	if !ok3 {
		tags = rest // an empty line may lack the space
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return logLine{}, errNotLog
	}
	first, _, _ := bytes.Cut(tags, []byte(":"))
	return logLine{time: t, stamp: stamp, stderr: string(stream) == "stderr", partial: string(first) == "P", content: content}, nil
}

// tail returns the last lines of a container's log; none when there is no log.
func (m *machine) tail(ctx context.Context, file string, n int) ([]string, error) {
	out, err := m.Run(ctx, providers.Command{Script: `[ ! -e "$1" ] || tail -n "$2" -- "$1"`, Args: []string{file, strconv.Itoa(n)}})
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	p := newLogPrinter(&text, LogsOptions{})
	if _, err := p.Write(out.Stdout); err != nil {
		return nil, err
	}
	if err := p.flush(); err != nil {
		return nil, err
	}
	var lines []string
	for l := range bytes.Lines(text.Bytes()) {
		lines = append(lines, string(bytes.ToValidUTF8(bytes.TrimRight(l, "\r\n"), []byte("\uFFFD"))))
	}
	return lines, nil
}
