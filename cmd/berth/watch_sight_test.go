package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/watchdog"
)

// hangingHost answers, but does nothing that is longer than ":" before the context ends.
type hangingHost struct{ providers.Host }

func (hangingHost) Name() string { return "a1" }

func (hangingHost) Run(ctx context.Context, c providers.Command) (providers.Output, error) {
	if c.Script == ":" {
		return providers.Output{}, nil
	}
	<-ctx.Done()
	return providers.Output{}, ctx.Err()
}

func (hangingHost) Resource(key string, make func() (any, error)) (any, error) {
	if key == "fence" {
		return make()
	}
	return nil, errors.New("no containerd")
}

type hangingHosts struct{}

func (hangingHosts) Host(context.Context, *api.Node) (providers.Host, error) {
	return hangingHost{}, nil
}

func hangingSight(t *testing.T) (*watchSight, *bytes.Buffer) {
	before := greetTimeout
	greetTimeout = 50 * time.Millisecond
	t.Cleanup(func() { greetTimeout = before })
	var said bytes.Buffer
	state := &api.State{Lineage: "l", Nodes: []api.NodeState{{Name: "a1", Node: &api.Node{Name: "a1"}}}}
	return &watchSight{hosts: hangingHosts{}, goal: &watchGoal{state: state}, leader: &watchLeader{}, log: slog.New(slog.NewTextHandler(&said, nil))}, &said
}

// A host that answers and does not take a word is not ready, and not just being opened for ever.
func TestFollowHangingHost(t *testing.T) {
	s, _ := hangingSight(t)
	err := s.Follow(t.Context(), "a1", func() { t.Error("it is watched") }, func(watchdog.Hint) {})
	var lost *watchdog.LostError
	if !errors.As(err, &lost) || !lost.Reached || !strings.Contains(err.Error(), "within 50ms") {
		t.Errorf("%#v, %v", lost, err)
	}
}

// A node whose /run is full is watched all the same; one that is not reached is not.
func TestVisited(t *testing.T) {
	s, said := hangingSight(t)
	for _, tt := range []struct {
		err    error
		passes bool
	}{{nil, true}, {errors.New("no space left on device"), true}, {providers.ErrUnreachable, false}} {
		said.Reset()
		s.visit = func(context.Context, providers.Host) error { return tt.err }
		if err := s.visited(t.Context(), hangingHost{}); (err == nil) != tt.passes || tt.passes && (tt.err != nil) != strings.Contains(said.String(), "no space left") {
			t.Errorf("%v: %v, said %q", tt.err, err, said)
		}
	}
	s.visit = func(ctx context.Context, _ providers.Host) error { <-ctx.Done(); return context.Cause(ctx) }
	if err := s.visited(t.Context(), hangingHost{}); err != nil {
		t.Error(err)
	}
}

// Each look at a node tells it that somebody is there, at once and again while that takes long; a visit that has begun is not broken off.
func TestListVisits(t *testing.T) {
	s, _ := hangingSight(t)
	var visits atomic.Int32
	s.visit = func(ctx context.Context, _ providers.Host) error { visits.Add(1); return ctx.Err() }
	if _, err := s.List(t.Context(), "a1"); err == nil {
		t.Fatal("a host without containerd was listed")
	}
	if n := visits.Load(); n == 0 {
		t.Error("nobody told it")
	}
	end := s.stay(t.Context(), hangingHost{})
	for deadline := time.Now().Add(30 * time.Second); visits.Load() < 4; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is told only once")
		}
	}
	end()
}
