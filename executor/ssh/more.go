package ssh

import (
	"context"
	"fmt"
	"sync"
	"time"

	"berth.dev/berth/providers"
)

// maxMore is how many further connections to one machine there may be: with them, a hundred sessions run at once.
const maxMore = 19

// morePatience is how long one waits for a session's place before a further connection is opened. Scripts of an apply have given theirs
// back by then; followers of logs keep them.
const morePatience = 300 * time.Millisecond

// more keeps further connections to the machine of a Host. sshd allows ten sessions on a connection, which is less than there may be logs to
// follow; it counts connections only while they log in.
type more struct {
	open func(ctx context.Context) (*Host, error) // nil for a Host that is itself a further connection
	turn chan struct{}                            // who holds its token may open one

	mu     sync.Mutex
	hosts  []*Host
	closed bool
}

func newMore(open func(ctx context.Context) (*Host, error)) *more {
	return &more{open: open, turn: make(chan struct{}, 1)}
}

// place waits for the right to run a session that may last, on this connection or a further one. Call free when it has ended.
func (h *Host) place(ctx context.Context) (on *Host, free func(), err error) {
	patience := time.NewTimer(morePatience)
	defer patience.Stop()
	late := patience.C
	if h.more.open == nil {
		late = nil
	}
	for {
		select {
		case h.slots <- struct{}{}:
			return h, h.release(), nil
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-h.link.done():
			return nil, nil, h.link.cause()
		case <-late:
		}
		on, free, err := h.placeOnMore(ctx)
		if err != nil && ctx.Err() == nil && h.link.cause() == nil {
			h.log.Warn("a further connection cannot be opened; waiting for a session to end", "host", h.name, "error", err)
		}
		if on != nil {
			return on, free, nil
		}
		patience.Reset(morePatience)
	}
}

func (h *Host) release() func() { return sync.OnceFunc(func() { <-h.slots }) }

// placeOnMore finds a place on a further connection, which it opens if it has to; nil when there may not be another.
func (h *Host) placeOnMore(ctx context.Context) (*Host, func(), error) {
	select {
	case h.more.turn <- struct{}{}:
		defer func() { <-h.more.turn }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	hosts := h.more.living()
	for _, m := range hosts {
		select {
		case m.slots <- struct{}{}:
			return m, m.release(), nil
		default:
		}
	}
	if len(hosts) >= maxMore {
		return nil, nil, nil
	}
	m, err := h.more.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	if !h.more.keep(m) {
		return nil, nil, errClosed
	}
	m.slots <- struct{}{} // it is new: nobody else knows it
	return m, m.release(), nil
}

// living forgets connections that have ended and returns the others.
func (m *more) living() []*Host {
	m.mu.Lock()
	defer m.mu.Unlock()
	var alive []*Host
	for _, h := range m.hosts {
		if h.lives() {
			alive = append(alive, h)
		}
	}
	m.hosts = alive
	return alive
}

// keep remembers a further connection, or closes it when there are to be none any more.
func (m *more) keep(h *Host) bool {
	m.mu.Lock()
	closed := m.closed
	if !closed {
		m.hosts = append(m.hosts, h)
	}
	m.mu.Unlock()
	if closed {
		h.close()
	}
	return !closed
}

func (m *more) close() {
	m.mu.Lock()
	m.closed = true
	hosts := m.hosts
	m.hosts = nil
	m.mu.Unlock()
	for _, h := range hosts {
		h.close()
	}
}

// runPlaced runs a program in a session, wherever there is a place for it.
func (h *Host) runPlaced(ctx context.Context, c providers.Command, text string) (providers.Output, int, error) {
	on, free, err := h.place(ctx)
	if err != nil {
		return providers.Output{}, 0, err
	}
	defer free()
	out, status, err := on.runInSession(ctx, c, text)
	return out, status, on.ended(err)
}

// ended makes the end of a further connection known as what it is; of this one, blame does.
func (h *Host) ended(err error) error {
	if cause := h.link.cause(); err != nil && cause != nil && h.more.open == nil {
		return fmt.Errorf("%w: %w", providers.ErrUnreachable, cause)
	}
	return err
}
