package etcd_test

import (
	"fmt"
	"strings"
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
		servertest.BadNetwork(t, statetest.Sample(5, nil), s.open(t, "c", "lock_ttl", "10s"), servertest.TCP(strings.TrimPrefix(s.url, "http://")), func(port int) map[string]string {
			return map[string]string{"endpoints": fmt.Sprintf("http://127.0.0.1:%d", port), "prefix": "c", "lock_ttl": "10s"}
		})
	})
	t.Run("the server is killed", func(t *testing.T) { // with the others in its way, of which none is run beside
		s := startServer(t, "http")
		config := map[string]string{"endpoints": s.url, "prefix": "d", "lock_ttl": "5s"}
		servertest.Fault(statetest.Sample(5, nil).On(config), time.Second, func() { s.Stop(); s.start() }).Run(t, s.open(t, "d", "lock_ttl", "5s"), time.Minute)
	})
}
