package s3_test

import (
	"testing"
	"time"

	"berth.dev/berth/statefile"
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
}
