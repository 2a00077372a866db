package s3_test

import (
	"fmt"
	"strings"
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
		servertest.BadNetwork(t, statetest.Sample(5, nil), open(t, url, "c", "lock_ttl", "10s"), servertest.TCP(strings.TrimPrefix(url, "http://")), func(port int) map[string]string {
			return map[string]string{"bucket": "infra", "key": "c", "endpoint": fmt.Sprintf("http://127.0.0.1:%d", port), "use_path_style": "true", "lock_ttl": "10s"}
		})
	})
	t.Run("the server goes away", func(t *testing.T) {
		url, cut := s.address()
		o := statetest.Sample(5, nil).On(map[string]string{"bucket": "infra", "key": "d", "endpoint": url, "use_path_style": "true", "lock_ttl": "5s"})
		servertest.Fault(o, 500*time.Millisecond, func() {
			cut.Store(true)
			time.Sleep(3 * time.Second) // it is away for so long
			cut.Store(false)
		}).Run(t, open(t, url, "d", "lock_ttl", "5s"), time.Minute)
	})
}
