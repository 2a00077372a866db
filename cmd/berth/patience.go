package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/providers"
)

// patience is how long a connection may take before the wait for it is explained.
const patience = 3 * time.Second

// explained is a dialer that names the host which everyone waits for.
type explained struct {
	executor.Dialer
	after time.Duration
	said  *sync.Map   // the nodes that were named
	mu    *sync.Mutex // of say: hosts are connected to all at once
	say   func(string)
}

// Host connects, and says so when that takes long.
func (e explained) Host(ctx context.Context, n *api.Node) (providers.Host, error) {
	late := time.AfterFunc(e.after, func() {
		if _, again := e.said.LoadOrStore(n.Name, true); again {
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.say(fmt.Sprintf("Waiting for node %s (%s) to answer...", n.Name, n.Address))
	})
	defer late.Stop()
	return e.Dialer.Host(ctx, n)
}

// hosts connects to hosts; a long wait is explained on standard error.
func (r *round) hosts() executor.Dialer {
	return explained{Dialer: r.pool, after: patience, said: new(sync.Map), mu: new(sync.Mutex), say: r.g.err.Println}
}
