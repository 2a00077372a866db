package postgres_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
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
		servertest.Fault(statetest.Sample(10, config("b")).Troubled(), time.Second, func() { s.Stop(); s.start() }).Run(t, s.open("b"), time.Minute)
	})
	t.Run("slow, cut, silent", func(t *testing.T) {
		dial := func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(s.dir, ".s.PGSQL.5432"))
		}
		servertest.BadNetwork(t, statetest.Sample(5, nil), s.open("c"), dial, func(port int) map[string]string {
			return map[string]string{"conn_str": fmt.Sprintf("host=127.0.0.1 port=%d user=berth dbname=postgres sslmode=disable", port), "name": "c"}
		})
	})
}
