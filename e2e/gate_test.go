package e2e

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// gate keeps pods of the app from becoming ready until the test lets them: whatever is to happen before they are, happens before, however slow
// the machine is.
type gate struct {
	env string // the argument of --var that puts pods behind it

	mu      sync.Mutex
	open    bool
	room    int             // how many more may pass
	through map[string]bool // pods that have passed
}

// newGate is shut, and reached by pods at the lab's gateway.
func newGate(t testing.TB, s *story) *gate {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(s.lab.Gateway(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{env: `env={GATE="http://` + l.Addr().String() + `/"}`, through: map[string]bool{}}
	server := httptest.NewUnstartedServer(g)
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	return g
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	pod := r.FormValue("pod")
	if !g.through[pod] && !g.open {
		if g.room == 0 {
			http.Error(w, "wait", http.StatusServiceUnavailable)
			return
		}
		g.room--
	}
	g.through[pod] = true
}

// let has so many more pods pass.
func (g *gate) let(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.room += n
}

// lift has all pods pass.
func (g *gate) lift() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
}
