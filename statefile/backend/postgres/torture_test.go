package postgres_test

import (
	"testing"
	"time"

	"berth.dev/berth/statefile"
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
}
