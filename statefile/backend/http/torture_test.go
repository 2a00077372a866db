package http_test

import (
	"testing"

	"berth.dev/berth/statefile"
	backend "berth.dev/berth/statefile/backend/http"
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
