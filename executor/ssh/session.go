package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"berth.dev/berth/providers"
)

// runInSession runs a program in a session of its own, with standard input and output as the command has them.
func (h *Host) runInSession(ctx context.Context, c providers.Command, text string) (providers.Output, int, error) {
	mark := newMark()
	text = sessionText(mark, text)
	p, err := h.link.start(ctx, h.command(sessionCommand(len(text))))
	if err != nil {
		return providers.Output{}, 0, err
	}
	s := &session{h: h, p: p, mark: mark, started: make(chan struct{})}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		s.end(ctx)
	})
	out, status, err := s.run(ctx, c, text)
	if !stop() {
		<-ended
		return out, status, ctx.Err()
	}
	return out, status, err
}

// session is one program in a session of its own.
type session struct {
	h       *Host
	p       *process
	mark    string
	started chan struct{} // closed when group is known, or never will be
	group   string
}

// end stops the program and then gives the session up, in this order: the program must not take the end of its input for a
// whole one. That must work also when the program does not read, write or obey.
func (s *session) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	select {
	case <-s.started:
		s.h.kill(ctx, s.group)
	case <-ctx.Done():
	}
	s.p.close()
}

func (s *session) run(ctx context.Context, c providers.Command, text string) (providers.Output, int, error) {
	failed := make(chan error, 1)
	go s.feed(ctx, c, text, failed) // ends with the input, or with its next read after the session ended
	var kept capped
	to := c.Stdout
	if to == nil {
		to = &kept
	}
	var last tail
	var outErr, errErr error
	var both sync.WaitGroup
	both.Go(func() { errErr = s.readErr(&last) })
	both.Go(func() { outErr = s.readOut(ctx, to) })
	both.Wait()
	status, err := s.p.wait()
	s.p.close()
	out := providers.Output{Stdout: kept.Bytes(), Stderr: last.b}
	select {
	case feedErr := <-failed:
		return out, 0, fmt.Errorf("read the script's input: %w", feedErr)
	default: // the program ended without reading all of its input, which is its right
	}
	switch {
	case outErr != nil:
		return out, 0, outErr
	case err != nil:
		return out, 0, err
	case errErr != nil && status == 0:
		return out, 0, errErr
	}
	return out, status, nil
}

// feed writes the program and then its input. An input that cannot be read to its end must not look like a whole one, so
// the session is given up before the program could see the end.
func (s *session) feed(ctx context.Context, c providers.Command, text string, failed chan<- error) {
	_, err := io.WriteString(s.p.stdin, text)
	if err == nil && c.Stdin != nil {
		_, err = io.Copy(onlyWriter{s.p.stdin}, inputReader{c.Stdin})
	}
	var in *inputError
	if errors.As(err, &in) {
		failed <- in.err
		s.end(ctx)
		return
	}
	_ = s.p.stdin.Close() // any other error is the session's end, of which its outputs and status tell
}

// readOut skips what start-up files printed and passes on the rest. When the receiver fails, the program is ended.
func (s *session) readOut(ctx context.Context, to io.Writer) error {
	m := &markReader{r: s.p.stdout}
	if junk, err := m.upTo(s.mark + "\n"); err != nil {
		return noStart(junk, err)
	}
	w := &receiver{w: to}
	_, err := io.Copy(w, struct{ io.Reader }{m})
	if w.err != nil {
		s.end(ctx)
		return fmt.Errorf("pass on the script's output: %w", w.err)
	}
	return ended(err)
}

// readErr learns the process group from the first line and keeps the end of the rest.
func (s *session) readErr(last *tail) error {
	m := &markReader{r: s.p.stderr}
	junk, err := m.upTo(s.mark + " ")
	if err == nil {
		s.group, err = m.line()
	}
	close(s.started)
	if err != nil {
		_, _ = last.Write(junk)
		return noStart(nil, err)
	}
	_, err = io.Copy(last, struct{ io.Reader }{m})
	return ended(err)
}

// noStart explains a program that ended before it began.
func noStart(junk []byte, err error) error {
	if !isEnd(err) {
		return err
	}
	if said := lastLines(bytes.TrimSpace(junk)); said != "" {
		return fmt.Errorf("the session ended before the script began; it said: %s", said)
	}
	return errNotBegun
}

// errNotBegun: the shell of a session did not run our text.
var errNotBegun = errors.New("the session ended before the script began")

// ended turns the end of a stream into nil.
func ended(err error) error {
	if isEnd(err) {
		return nil
	}
	return err
}

// inputReader marks the errors of the command's own input.
type inputReader struct{ r io.Reader }

func (r inputReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &inputError{err}
	}
	return n, err
}

type inputError struct{ err error }

func (e *inputError) Error() string { return e.err.Error() }

// onlyWriter hides other abilities, so that io.Copy reads the input through inputReader.
type onlyWriter struct{ io.Writer }

// receiver remembers the error of the one who receives the output.
type receiver struct {
	w   io.Writer
	err error
}

func (r *receiver) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil {
		r.err = err
	}
	return n, err
}
