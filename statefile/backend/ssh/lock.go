package ssh

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/batch"
)

// unlockTimeout bounds the wait for a script that was told to end.
const unlockTimeout = 10 * time.Second

// bytesPerSecond is how slow a line may be before a write is given up.
const bytesPerSecond = 100 << 10

// Lock starts the script that holds the lock.
func (s *Store) Lock(ctx context.Context, info statefile.LockInfo) (statefile.Lease, error) {
	what := "lock " + s.where("")
	h, err := s.connect(ctx, s.node)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	text, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		l, answer, err := s.start(ctx, h, string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		fence, locked := strings.CutPrefix(answer, "locked ")
		switch {
		case locked:
			if l.fence, err = strconv.ParseUint(fence, 10, 64); err != nil {
				return nil, errors.Join(fmt.Errorf("%s: the script answered %q", what, answer), l.abandon())
			}
			l.beats.Go(l.beat)
			return l, nil
		case answer == "again" && try < 3: // the lock's file was replaced while it was locked
			continue
		case strings.HasPrefix(answer, "taken"):
			return nil, s.locked(ctx, strings.TrimSpace(strings.TrimPrefix(answer, "taken")))
		}
		return nil, errors.Join(fmt.Errorf("%s: the script answered %q", what, answer), l.abandon())
	}
}

// locked says who has the lock. The holder may have taken it a moment ago and be about to write who it is.
func (s *Store) locked(ctx context.Context, holder string) error {
	e := &statefile.LockedError{Advice: fmt.Sprintf("The lock ends with its holder's connection, at the latest %s after its last sign. If that one hangs: berth force-unlock with the lock's ID.", s.ttl)}
	if json.Unmarshal([]byte(holder), &e.Info) == nil && e.Info.ID != "" {
		return e
	}
	for range 5 {
		f, err := s.holder(ctx)
		if err != nil {
			return err
		}
		if e.Info = f.info; f.info.ID != "" {
			break
		}
	}
	return e
}

// start runs the script and returns its first answer.
func (s *Store) start(ctx context.Context, h Host, info string) (*lease, string, error) {
	in, feed := io.Pipe()
	out, answers := io.Pipe()
	l := &lease{store: s, feed: feed, answers: bufio.NewReader(out), ended: make(chan struct{}), quit: make(chan struct{}), until: time.Now().Add(s.ttl * 3 / 4)}
	l.journal = batch.New(l.append)
	s.mu.Lock()
	args := []string{s.path, info, strconv.Itoa(int(s.ttl / time.Second)), strconv.Itoa(s.keep), strconv.Itoa(int(s.maxAge / time.Minute))}
	s.mu.Unlock()
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // the lock outlives the interrupt that ends the work
	l.stop = stop
	go func() { // ends with the script
		defer close(l.ended)
		_, status, stderr, err := h.Run(running, lockScript, args, in, answers)
		if err == nil && status != 0 {
			err = &scriptError{"hold the lock", status, stderr}
		}
		if err == nil {
			err = io.EOF
		}
		_ = answers.CloseWithError(err) // pipes in memory: closing always succeeds
		_ = in.CloseWithError(err)
	}()
	answer, err := l.answer(ctx)
	if err != nil {
		return nil, "", errors.Join(err, l.abandon())
	}
	l.ctx, l.end = context.WithCancelCause(ctx)
	if !strings.HasPrefix(answer, "locked ") {
		return l, answer, l.finish() // it ends by itself
	}
	return l, answer, nil
}

// finish waits for a script that is about to end.
func (l *lease) finish() error {
	_ = l.feed.Close() // a pipe in memory
	select {
	case <-l.ended:
		l.stop()
		return nil
	case <-time.After(unlockTimeout):
		return l.abandon()
	}
}

// lease is the lock while the script holds it.
type lease struct {
	store   *Store
	fence   uint64
	ctx     context.Context
	end     context.CancelCauseFunc
	beats   sync.WaitGroup
	journal *batch.Journal
	stop    context.CancelFunc // ends the script
	ended   chan struct{}      // the script has ended
	quit    chan struct{}      // closed when the lock is released

	asking  sync.Mutex // one request at a time
	feed    *io.PipeWriter
	answers *bufio.Reader

	mu    sync.Mutex // guards what follows
	until time.Time  // until then the script certainly holds the lock
	over  bool       // released
}

// Context ends with the lock.
func (l *lease) Context() context.Context { return l.ctx }

// Fence counts the locks that were ever taken.
func (l *lease) Fence() uint64 { return l.fence }

// abandon ends the script at once.
func (l *lease) abandon() error {
	l.stop()
	select {
	case <-l.ended:
		return nil
	case <-time.After(unlockTimeout):
		return fmt.Errorf("the script on %s does not end; the lock ends by itself %s after its last sign", l.store.node.Address, l.store.ttl)
	}
}

// answer waits for a line of the script.
func (l *lease) answer(ctx context.Context) (string, error) {
	type reply struct {
		line string
		err  error
	}
	got := make(chan reply, 1)
	go func() { // ends with the answer, or with the script
		line, err := l.answers.ReadString('\n')
		got <- reply{strings.TrimSuffix(line, "\n"), err}
	}()
	select {
	case r := <-got:
		return r.line, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// held refuses to write without a lock. One that was not heard of for most of its time counts as lost before others may have it.
func (l *lease) held() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || errors.Is(context.Cause(l.ctx), statefile.ErrLockLost) {
		return statefile.ErrLockLost
	}
	if time.Now().After(l.until) {
		l.end(statefile.ErrLockLost)
		return fmt.Errorf("%w: %s has not answered", statefile.ErrLockLost, l.store.node.Address)
	}
	return nil
}

// ask sends a request and waits for its answer. A request of which the answer is not known has perhaps been carried out: the lock is
// given up then, so that nothing can follow it.
func (l *lease) ask(ctx context.Context, request string, body []byte) (string, error) {
	l.asking.Lock()
	defer l.asking.Unlock()
	if err := l.held(); err != nil {
		return "", err
	}
	patience := l.store.ttl * 3 / 4
	if body != nil {
		seconds := 60 + len(body)/bytesPerSecond
		verb, rest, _ := strings.Cut(request, " ")
		request = strings.TrimSuffix(fmt.Sprintf("%s %d %d %s", verb, len(body), seconds, rest), " ")
		patience = time.Duration(seconds) * time.Second
	}
	began := time.Now()
	l.mu.Lock()
	if body != nil {
		l.until = began.Add(patience) // the script waits that long for the body
	}
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := make(chan error, 1)
	go func() { // ends with the write, or with the script
		_, err := l.feed.Write(append([]byte(request+"\n"), body...))
		sent <- err
	}()
	answer, err := l.answer(ctx)
	if err == nil {
		err = <-sent
	}
	if err != nil {
		l.end(statefile.ErrLockLost)
		l.stop()
		return "", fmt.Errorf("%w: %w", statefile.ErrLockLost, err)
	}
	l.mu.Lock()
	l.until = began.Add(l.store.ttl * 3 / 4)
	if body != nil {
		l.until = time.Now().Add(l.store.ttl / 2) // the script's time began when it had all of it, half of the answer's way ago at most
	}
	l.mu.Unlock()
	return answer, nil
}

// do is ask for requests that are answered with ok.
func (l *lease) do(ctx context.Context, what, request string, body []byte) error {
	answer, err := l.ask(ctx, request, body)
	said, failed := strings.CutPrefix(answer, "failed")
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case answer == "ok":
		return nil
	case answer == "conflict":
		return fmt.Errorf("%s: %w", what, statefile.ErrConflict)
	case answer == "lost":
		l.end(statefile.ErrLockLost)
		return fmt.Errorf("%s: %w: %s was removed or replaced", what, statefile.ErrLockLost, l.store.where(".lock"))
	case failed:
		return fmt.Errorf("%s: %s", what, strings.TrimSpace(said))
	}
	l.end(statefile.ErrLockLost)
	l.stop()
	return fmt.Errorf("%s: %w: the script answered %q", what, statefile.ErrLockLost, answer)
}

// beat gives a sign now and then, and notices the end of the script. Also after the work has ended there is something to write.
func (l *lease) beat() {
	tick := time.NewTicker(l.store.ttl / 6)
	defer tick.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-l.ended:
			l.end(statefile.ErrLockLost)
			return
		case <-tick.C:
		}
		if l.do(context.WithoutCancel(l.ctx), "look after the lock of "+l.store.where(""), "beat", nil) != nil {
			return
		}
	}
}

// Put replaces the document; the old one becomes a backup.
func (l *lease) Put(ctx context.Context, data []byte, ifVersion string) (string, error) {
	return l.put(ctx, "put", data, ifVersion)
}

// Amend is Put that keeps no backup.
func (l *lease) Amend(ctx context.Context, data []byte, ifVersion string) (string, error) {
	return l.put(ctx, "amend", data, ifVersion)
}

func (l *lease) put(ctx context.Context, verb string, data []byte, ifVersion string) (string, error) {
	want := ifVersion
	if want == "" {
		want = "none"
	}
	if strings.ContainsAny(want, " \n") {
		return "", fmt.Errorf("write %s: %w", l.store.where(""), statefile.ErrConflict)
	}
	if data == nil {
		data = []byte{}
	}
	if err := l.do(ctx, "write "+l.store.where(""), verb+" "+want, data); err != nil {
		return "", err
	}
	return versionOf(data), nil
}

// Append takes in a line.
func (l *lease) Append(_ context.Context, line []byte) error {
	if err := l.held(); err != nil {
		return err
	}
	return l.journal.Append(line)
}

// Sync waits until all lines are on the machine's disk.
func (l *lease) Sync(ctx context.Context) error { return l.journal.Sync(ctx) }

func (l *lease) append(ctx context.Context, lines []byte) error {
	return l.do(ctx, "write "+l.store.where(".journal"), "append", bytes.Clone(lines))
}

// ClearJournal removes the journal.
func (l *lease) ClearJournal(ctx context.Context) error {
	return l.journal.Clear(func() error { return l.do(ctx, "remove "+l.store.where(".journal"), "clear", nil) })
}

// Unlock ends the script.
func (l *lease) Unlock(ctx context.Context) error {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	err := l.journal.Close(ctx)
	close(l.quit)
	l.beats.Wait()
	lost := errors.Is(context.Cause(l.ctx), statefile.ErrLockLost)
	if !lost {
		_, uerr := l.ask(ctx, "unlock", nil)
		if errors.Is(uerr, statefile.ErrLockLost) {
			uerr = nil // by now it may be another's
		}
		err = errors.Join(err, uerr)
	}
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.end(context.Canceled)
	if lost {
		err = errors.Join(err, l.abandon())
	} else {
		err = errors.Join(err, l.finish()) // its end is the end of the lock
	}
	if err != nil {
		return fmt.Errorf("unlock %s: %w", l.store.where(""), err)
	}
	return nil
}
