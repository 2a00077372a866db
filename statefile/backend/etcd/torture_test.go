package etcd_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/statefile"
	backend "berth.dev/berth/statefile/backend/etcd"
	"berth.dev/berth/statefile/backend/internal/servertest"
	"berth.dev/berth/statefile/statetest"
)

func TestMain(m *testing.M) {
	statetest.Main(m, func(config map[string]string) (statefile.Store, error) { return backend.Open(config, "") })
}

// TestTorture has many processes apply at once; then some are killed or asleep, and locks go by their leases alone.
func TestTorture(t *testing.T) {
	s := startServer(t, "http")
	for name, change := range map[string]func(statetest.Torture) statetest.Torture{
		"a": func(o statetest.Torture) statetest.Torture { return o },
		"b": statetest.Torture.Troubled,
	} {
		ttl := map[string]string{"a": "1m", "b": "5s"}[name] // where nobody is killed, a busy machine must not end a lock
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := map[string]string{"endpoints": s.url, "prefix": name, "lock_ttl": ttl}
			change(statetest.Sample(8, config)).Run(t, s.open(t, name, "lock_ttl", ttl), time.Minute)
		})
	}
	t.Run("slow, cut, silent", func(t *testing.T) {
		t.Parallel()
		badNetwork(t, s.url, statetest.Sample(5, nil), s.open(t, "c", "lock_ttl", "10s"), func(endpoint string) map[string]string {
			return map[string]string{"endpoints": endpoint, "prefix": "c", "lock_ttl": "10s"}
		})
	})
	t.Run("the server is killed", func(t *testing.T) { // with the others in its way, of which none is run beside
		s := startServer(t, "http")
		config := map[string]string{"endpoints": s.url, "prefix": "d", "lock_ttl": "5s"}
		o := statetest.Sample(5, nil).On(config)
		restarted := make(chan struct{})
		time.AfterFunc(time.Second, func() {
			defer close(restarted)
			s.Stop()
			s.start()
		})
		o.Healed = func() { <-restarted }
		o.Run(t, s.open(t, "d", "lock_ttl", "5s"), time.Minute)
	})
}

// badNetwork has the processes work through a network that is slow, cuts connections and is silent for a while, by turns.
func badNetwork(t *testing.T, server string, o statetest.Torture, store statefile.Store, config func(endpoint string) map[string]string) {
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	p := servertest.NewProxy(t, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", u.Host)
	})
	ctx, stop := context.WithCancel(t.Context())
	var trouble sync.WaitGroup
	trouble.Go(func() { p.Trouble(ctx, rand.New(rand.NewPCG(1, 2)), 3*time.Second) })
	o = o.On(config(fmt.Sprintf("http://127.0.0.1:%d", p.Port())))
	o.Healed = func() { stop(); trouble.Wait() }
	o.Run(t, store, time.Minute)
}
