package http_test

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
	backend "berth.dev/berth/statefile/backend/http"
	"berth.dev/berth/statefile/backend/internal/servertest"
	"berth.dev/berth/statefile/statetest"
)

func TestMain(m *testing.M) {
	statetest.Main(m, func(config map[string]string) (statefile.Store, error) { return backend.Open(config, "") })
}

// TestTorture has many processes apply at once. None is killed: in this protocol the lock of a process that is gone stays.
func TestTorture(t *testing.T) {
	s := newServer(t)
	config := map[string]string{"address": s.URL + "/torture", "retry_wait_min": "0", "retry_wait_max": "0"}
	statetest.Sample(5, config).Run(t, s.open(t, "/torture"), 0)
}

// TestTortureOnABadNetwork does it where the server is slow, silent or cut off for a while. The protocol has no lease: that no lock stays is
// because everybody asks for so long that it is given back.
func TestTortureOnABadNetwork(t *testing.T) {
	s := newServer(t)
	badNetwork(t, s.URL, statetest.Sample(5, nil), s.open(t, "/bad"), func(endpoint string) map[string]string {
		return map[string]string{"address": endpoint + "/bad", "retry_max": "10", "retry_wait_min": "1", "retry_wait_max": "2"}
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
