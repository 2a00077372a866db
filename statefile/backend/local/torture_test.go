package local_test

import (
	"path/filepath"
	"testing"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/local"
	"berth.dev/berth/statefile/statetest"
)

func TestMain(m *testing.M) {
	statetest.Main(m, func(config map[string]string) (statefile.Store, error) { return local.Open(config, "") })
}

// TestTorture has fifty processes apply to one state at once, some of which are killed or fall asleep the second time.
func TestTorture(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(statetest.Torture) statetest.Torture{
		"all come to their end": func(o statetest.Torture) statetest.Torture { return o },
		"kill and sleep":        statetest.Torture.Troubled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "berth.state")
			change(statetest.Sample(50, map[string]string{"path": path})).Run(t, newStore(t, path), 0)
		})
	}
}
