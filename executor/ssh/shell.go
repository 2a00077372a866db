package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"berth.dev/berth/providers"
)

// shellTimeout bounds the start of the standing shell. Only slow start-up files or sudo waiting for a name server take
// seconds; the latter takes twenty.
const shellTimeout = 15 * time.Second

// shell is the standing shell of a connection: scripts go in as text, each one's outputs come back between marks. One
// caller uses it at a time.
type shell struct {
	p        *process
	out, err *markReader
	uid      string // of the user that commands run as
	group    string // its process group
	broken   bool   // it cannot be used any more
}

// openShell starts a standing shell and waits until it has answered.
func (h *Host) openShell(ctx context.Context) (*shell, error) {
	limited, cancel := context.WithTimeout(ctx, shellTimeout)
	defer cancel()
	p, err := h.link.start(limited, h.command("sh"))
	if err != nil {
		return nil, refuse(NotReached, err, "open a shell: %v. Check that the SSH server allows commands.", err)
	}
	s := &shell{p: p, out: &markReader{r: p.stdout}, err: &markReader{r: p.stderr}}
	stop := context.AfterFunc(limited, p.close)
	defer stop()
	if printed, err := s.greet(); err != nil {
		said := or(s.said(), lastLines(printed))
		p.close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, h.shellRefused(limited.Err() != nil, said, err)
	}
	if s.uid != "0" && !h.any {
		p.close()
		return nil, notRoot(h.sudo, s.uid)
	}
	return s, nil
}

// greet makes the shell's surroundings and learns who it is. It returns what was printed before the shell came up.
func (s *shell) greet() (printed []byte, err error) {
	mark := newMark()
	hello := prelude + "printf '%s%s %s\\n' " + mark + " \"$(id -u)\" \"$berth_group\"\n"
	_, writeErr := io.WriteString(s.p.stdin, hello)
	if printed, err = s.out.upTo(mark); err != nil {
		return printed, errors.Join(err, writeErr)
	}
	line, err := s.out.line()
	s.uid, s.group, _ = strings.Cut(line, " ")
	return printed, err
}

// said returns what a shell that did not come up had to say, without waiting for more than it has said.
func (s *shell) said() string {
	done := make(chan []byte, 1)
	go func() { // ends with the stream, which ends with the process or the connection
		b, _ := io.ReadAll(io.LimitReader(s.err, 4<<10))
		done <- b
	}()
	grace := time.NewTimer(300 * time.Millisecond)
	defer grace.Stop()
	select {
	case b := <-done:
		return lastLines(b)
	case <-grace.C:
		return ""
	}
}

// runInShell runs a program in the standing shell and gives the shell back, or a sign that a new one is needed.
func (h *Host) runInShell(ctx context.Context, s *shell, text string) (providers.Output, int, error) {
	defer func() { h.shell <- s }()
	if s.broken {
		fresh, err := h.openShell(ctx)
		if err != nil {
			return providers.Output{}, 0, err
		}
		*s = *fresh
	}
	if err := ctx.Err(); err != nil {
		return providers.Output{}, 0, err
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
		defer cancel()
		h.kill(ctx, s.group)
		s.p.close()
	})
	out, status, err := s.run(text)
	if !stop() { // the cancellation is ending the script, or has
		<-ended
		s.broken = true
		return out, status, ctx.Err()
	}
	if err != nil {
		s.broken = true
		s.p.close()
	}
	return out, status, err
}

// run sends one program and collects what comes back. Both outputs are read at once: they share a window.
func (s *shell) run(text string) (out providers.Output, status int, err error) {
	mark := newMark()
	if _, err := io.WriteString(s.p.stdin, shellText(mark, text)); err != nil {
		return out, 0, fmt.Errorf("write to the shell: %w", err)
	}
	said := make(chan error, 1)
	go func() { // ends with the mark or with the stream
		var err error
		out.Stderr, err = between(s.err, mark)
		said <- err
	}()
	out.Stdout, err = between(s.out, mark)
	if err != nil {
		s.p.close() // the other reader must not wait for a mark that may never come
		return out, 0, errors.Join(shellEnded(err), shellEnded(<-said))
	}
	line, err := s.out.line()
	if err != nil {
		s.p.close()
		return out, 0, errors.Join(shellEnded(err), shellEnded(<-said))
	}
	if err := <-said; err != nil {
		return out, 0, shellEnded(err)
	}
	status, err = strconv.Atoi(line)
	return out, status, err
}

// between returns what lies between two marks.
func between(m *markReader, mark string) ([]byte, error) {
	if _, err := m.upTo(mark); err != nil {
		return nil, err
	}
	return m.upTo(mark)
}

func shellEnded(err error) error {
	if isEnd(err) {
		return errors.New("the shell on the host ended while it ran the script")
	}
	return err
}

// kill ends a process group on the host: asked first, and after two seconds made to. The context must still be alive.
func (h *Host) kill(ctx context.Context, group string) {
	if n, err := strconv.Atoi(group); err != nil || n <= 1 {
		return
	}
	text, err := program(providers.Command{Script: killScript, Args: []string{group}})
	if err != nil {
		return
	}
	if _, _, err := h.runInSession(ctx, providers.Command{}, text); err != nil {
		h.log.Debug("a cancelled script may still run", "host", h.name, "group", group, "error", err)
	}
}

const killTimeout = 3 * time.Second

// The -s form is the one that every shell's kill reads with a negative number behind it.
const killScript = `kill -s TERM -- "-$1" 2>/dev/null || exit 0
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	kill -s 0 -- "-$1" 2>/dev/null || exit 0
	sleep 0.1
done
kill -s KILL -- "-$1" 2>/dev/null
exit 0
`
