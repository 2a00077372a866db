package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/providers"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/all"
)

func leaderOver(t *testing.T, kind string, config map[string]string) *watchLeader {
	t.Helper()
	store, err := all.Open(kind, config, t.TempDir(), all.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &watchLeader{store: store, proc: &Process{Now: time.Now, Version: "1"}, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

// Where nothing tells several watchdogs apart, one leads only if somebody says that there is no other.
func TestWatchAlone(t *testing.T) {
	t.Parallel()
	l := leaderOver(t, "http", map[string]string{"address": "http://127.0.0.1:1/state"})
	if err := l.check(); err == nil || !strings.Contains(err.Error(), "--alone") {
		t.Errorf("a backend that cannot tell: %v", err)
	}
	l.alone = true
	if err := l.check(); err != nil {
		t.Error(err)
	}
	began := uint64(time.Now().Unix()) //nolint:gosec // after 1970
	term, err := l.Lead(t.Context())
	if err != nil || term.Fence() < began {
		t.Fatalf("%v, %v", term, err)
	}
	if err := errors.Join(l.held(t.Context()), term.Resign(t.Context())); err != nil {
		t.Error(err)
	}
}

// A host that has seen a greater number ends the term; the next one is greater than that, because the lead is ours.
func TestWatchHeedsHosts(t *testing.T) {
	t.Parallel()
	l := leaderOver(t, "local", map[string]string{"path": filepath.Join(t.TempDir(), "berth.state")})
	first, err := l.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.heed(errors.New("something else")); err == nil || first.Context().Err() != nil {
		t.Errorf("%v; the term has ended: %v", err, first.Context().Err())
	}
	cause := l.heed(&providers.OutrankedError{Host: "a1", Term: 41})
	if !errors.Is(cause, providers.ErrFenced) || first.Context().Err() == nil {
		t.Errorf("%v; the term goes on", cause)
	}
	if err := l.held(t.Context()); err == nil {
		t.Error("it acts on")
	}
	if err := first.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.held(t.Context()); !errors.Is(err, statefile.ErrCrownLost) {
		t.Errorf("it acts without a term: %v", err)
	}
	next, err := l.Lead(t.Context())
	if err != nil || next.Fence() != 42 || l.number() != 42 {
		t.Fatalf("%v, %v", next, err)
	}
	if err := next.Resign(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}
