package etcd_test

import (
	"testing"
	"time"

	"berth.dev/berth/statefile"
	backend "berth.dev/berth/statefile/backend/etcd"
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
}
