package http_test

import (
	"fmt"
	"strings"
	"testing"

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
	servertest.BadNetwork(t, statetest.Sample(5, nil), s.open(t, "/bad"), servertest.TCP(strings.TrimPrefix(s.URL, "http://")), func(port int) map[string]string {
		return map[string]string{"address": fmt.Sprintf("http://127.0.0.1:%d/bad", port), "retry_max": "10", "retry_wait_min": "1", "retry_wait_max": "2"}
	})
}
