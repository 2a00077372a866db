// Package executor reaches hosts: it observes what is on them, and walks a plan's steps with limits, retries, skips, a
// two-step stop, and a journal around each step. What a step does on a host is its provider's business; how a host is
// reached is executor/ssh's. The package decides nothing about what should exist.
//
// Start reading at [Observe] and [Apply]; walk.go is how an apply proceeds.
package executor

import (
	"context"
	"log/slog"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// Options say how to reach hosts and how much to do at once.
type Options struct {
	Hosts    Dialer
	Registry providers.Registry
	// Parallelism bounds the steps, and the hosts observed, that are worked on at once; 0 means 64. Waiting for pods to
	// become ready does not count.
	Parallelism int
	// PerHost bounds the steps on one host; 0 means twice the host's processors, or 4 where they are not known.
	PerHost int
	// NextJob decides about jobs; without it no plan with a job can be carried out.
	NextJob NextJob
	// Emit receives what happens, one event at a time; nil for nobody.
	Emit func(api.Event)
	Log  *slog.Logger // nil for silence
	// Dir is where commands of analyses and fencing commands run, and where programs named by a relative path with a slash are; "" for the working
	// directory. Env is their environment, beside what names the host.
	Dir string
	Env []string
}

// Dialer connects to nodes. It keeps connections: asking again is cheap, and connects anew after a connection was lost.
type Dialer interface {
	Host(ctx context.Context, node *api.Node) (providers.Host, error)
}

func (o Options) complete() Options {
	if o.Parallelism <= 0 {
		o.Parallelism = 64
	}
	if o.Emit == nil {
		o.Emit = func(api.Event) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}
