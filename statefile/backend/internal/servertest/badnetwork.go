package servertest

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/statetest"
)

// BadNetwork has the processes of a torture work through a network that is slow, cuts connections and is silent for a while, by turns, until each of that has
// come. Dial leads to the server; config opens the store through a port of this machine, and store without it.
func BadNetwork(t *testing.T, o statetest.Torture, store statefile.Store, dial func(ctx context.Context) (net.Conn, error), config func(port int) map[string]string) {
	t.Helper()
	p := NewProxy(t, dial)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var trouble sync.WaitGroup
	trouble.Go(func() { p.Trouble(ctx, rand.New(rand.NewPCG(1, 2)), 3*time.Second) })
	o = o.On(config(p.Port()))
	o.Until, o.Healed = p.Troubled, func() { stop(); trouble.Wait() }
	o.Run(t, store, time.Minute)
}

// TCP leads to an address.
func TCP(address string) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
}

// Fault does something to a server after a while. A torture's processes start again and again until it is over.
func Fault(o statetest.Torture, after time.Duration, do func()) statetest.Torture {
	over := make(chan struct{})
	time.AfterFunc(after, func() {
		defer close(over)
		do()
	})
	before := o.Until
	o.Until = func() bool {
		select {
		case <-over:
			return before == nil || before()
		default:
			return false
		}
	}
	o.Healed = func() { <-over }
	return o
}
