package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/servertest"
	"berth.dev/berth/statefile/backend/postgres"
	"berth.dev/berth/statefile/statetest"
)

func TestMain(m *testing.M) {
	statetest.Main(m, func(config map[string]string) (statefile.Store, error) { return postgres.Open(config, "") })
}

// TestTorture has many processes apply at once; then some are killed or asleep, and the server is killed and started again meanwhile.
func TestTorture(t *testing.T) {
	s := startServer(t)
	config := func(name string) map[string]string { return map[string]string{"conn_str": s.conn(), "name": name} }
	t.Run("all come to their end", func(t *testing.T) {
		statetest.Sample(10, config("a")).Run(t, s.open("a"), 0)
	})
	t.Run("kill, sleep, restart", func(t *testing.T) {
		restarted := make(chan struct{})
		time.AfterFunc(time.Second, func() {
			defer close(restarted)
			s.Stop()
			s.start()
		})
		statetest.Sample(10, config("b")).Troubled().Run(t, s.open("b"), time.Minute)
		<-restarted
	})
	t.Run("slow, cut, silent", func(t *testing.T) {
		p := servertest.NewProxy(t, func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(s.dir, ".s.PGSQL.5432"))
		})
		ctx, stop := context.WithCancel(t.Context())
		var trouble sync.WaitGroup
		trouble.Go(func() { p.Trouble(ctx, rand.New(rand.NewPCG(1, 2)), 3*time.Second) })
		o := statetest.Sample(5, nil).On(map[string]string{"conn_str": fmt.Sprintf("host=127.0.0.1 port=%d user=berth dbname=postgres sslmode=disable", p.Port()), "name": "c"})
		o.Healed = func() { stop(); trouble.Wait() }
		o.Run(t, s.open("c"), time.Minute)
	})
}
