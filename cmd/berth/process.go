package main

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/providers/runtime"
)

// Process is everything that a run takes from the operating system, as one value, so that tests run the real
// program in memory.
type Process struct {
	Args       []string // without the program's name
	Env        []string
	Stdin      io.Reader
	Stdout     io.Writer
	Stderr     io.Writer
	Interrupts <-chan os.Signal
	Now        func() time.Time
	Version    string
	// Observe stands in for asking the hosts what is on them; nil, outside of tests, asks them.
	Observe func() (*api.Observation, error)
	// NoSystem leaves out Berth's own workloads, whose image is this very program; only tests do.
	NoSystem bool
	// Measure likewise stands in for measuring what they use.
	Measure func() (map[string]runtime.HostUsage, error)
}

// Getenv returns an environment variable, "" when it is not set.
func (p *Process) Getenv(name string) string {
	for _, kv := range slices.Backward(p.Env) {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

// stream decides once how a standard stream may be painted: colour only on terminals, and never against the
// user's word.
func (p *Process) stream(w io.Writer, noColour bool) view.Stream {
	s := view.Stream{W: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.Colour = true
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			s.Width = width
		}
	}
	if p.Getenv("CLICOLOR_FORCE") != "" && p.Getenv("CLICOLOR_FORCE") != "0" {
		s.Colour = true
	}
	if noColour || p.Getenv("NO_COLOR") != "" || p.Getenv("TERM") == "dumb" {
		s.Colour = false
	}
	return s
}

// stopper turns interrupts into the two-step stop: the first one asks work that can finish its running steps to
// do so, and ends all other work; the second ends everything.
type stopper struct {
	cancel context.CancelFunc
	stop   chan struct{}

	mu       sync.Mutex
	graceful bool
	hangup   chan struct{} // gets hang-ups, nil while they are interrupts
	count    int
}

// watchInterrupts starts to listen; it ends with ctx.
func (p *Process) watchInterrupts(ctx context.Context) (context.Context, *stopper) {
	ctx, cancel := context.WithCancel(ctx)
	s := &stopper{cancel: cancel, stop: make(chan struct{})}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case signal := <-p.Interrupts:
				if signal != syscall.SIGHUP || !s.hungUp() {
					s.interrupt()
				}
			}
		}
	}()
	return ctx, s
}

func (s *stopper) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	if s.count == 1 {
		close(s.stop)
	}
	if s.count > 1 || !s.graceful {
		s.cancel()
	}
}

// Hangups says that from now on a hang-up is no interrupt but comes out of the channel: a service reads its configuration anew.
func (s *stopper) Hangups() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangup = make(chan struct{}, 1)
	return s.hangup
}

// hungUp reports whether somebody takes hang-ups. One that waits already stands for more.
func (s *stopper) hungUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hangup == nil {
		return false
	}
	select {
	case s.hangup <- struct{}{}:
	default:
	}
	return true
}

// Graceful says that from now on the first interrupt is answered by finishing what runs.
func (s *stopper) Graceful() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.graceful = true
	return s.stop
}
