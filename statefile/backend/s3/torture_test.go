package s3_test

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
	"berth.dev/berth/statefile/backend/internal/servertest"
	backend "berth.dev/berth/statefile/backend/s3"
	"berth.dev/berth/statefile/statetest"
)

func TestMain(m *testing.M) {
	statetest.Main(m, func(config map[string]string) (statefile.Store, error) { return backend.Open(config, "") })
}

// TestTorture has many processes apply at once; then some are killed or asleep, and locks go by their time alone.
func TestTorture(t *testing.T) {
	s := newServer(t)
	url, _ := s.address()
	for name, change := range map[string]func(statetest.Torture) statetest.Torture{
		"a": func(o statetest.Torture) statetest.Torture { return o },
		"b": statetest.Torture.Troubled,
	} {
		ttl := map[string]string{"a": "1m", "b": "5s"}[name] // where nobody is killed, a busy machine must not end a lock
		t.Run(name, func(t *testing.T) {
			config := map[string]string{"bucket": "infra", "key": name, "endpoint": url, "use_path_style": "true", "lock_ttl": ttl}
			change(statetest.Sample(5, config)).Run(t, open(t, url, name, "lock_ttl", ttl), time.Minute)
		})
	}
	t.Run("slow, cut, silent", func(t *testing.T) {
		badNetwork(t, url, statetest.Sample(5, nil), open(t, url, "c", "lock_ttl", "10s"), func(endpoint string) map[string]string {
			return map[string]string{"bucket": "infra", "key": "c", "endpoint": endpoint, "use_path_style": "true", "lock_ttl": "10s"}
		})
	})
	t.Run("the server goes away", func(t *testing.T) {
		url, cut := s.address()
		o := statetest.Sample(5, nil).On(map[string]string{"bucket": "infra", "key": "d", "endpoint": url, "use_path_style": "true", "lock_ttl": "5s"})
		back := make(chan struct{})
		time.AfterFunc(500*time.Millisecond, func() {
			cut.Store(true)
			time.AfterFunc(3*time.Second, func() { cut.Store(false); close(back) })
		})
		o.Healed = func() { <-back }
		o.Run(t, open(t, url, "d", "lock_ttl", "5s"), time.Minute)
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
