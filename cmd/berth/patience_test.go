package main

import (
	"context"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/providers"
)

// dialer connects when it is told to.
type dialer struct{ connect <-chan struct{} }

func (d dialer) Host(context.Context, *api.Node) (providers.Host, error) {
	<-d.connect
	return nil, nil
}

var _ executor.Dialer = dialer{}

func TestLongWaitsAreExplained(t *testing.T) {
	t.Parallel()
	connect, said := make(chan struct{}), make(chan string, 1)
	e := explained{Dialer: dialer{connect}, said: new(sync.Map), mu: new(sync.Mutex), say: func(s string) { said <- s }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = e.Host(t.Context(), &api.Node{Name: "a1", Address: "192.0.2.1"}) // the dialer's results are nil
	}()
	if d := cmp.Diff("Waiting for node a1 (192.0.2.1) to answer...", <-said); d != "" {
		t.Error(d)
	}
	close(connect)
	<-done

	e.after, e.say = patience, func(s string) { t.Errorf("said %q of a host that answers at once", s) }
	_, _ = e.Host(t.Context(), &api.Node{Name: "a2"}) // the dialer's results are nil
}
