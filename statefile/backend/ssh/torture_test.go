package ssh_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"berth.dev/berth/api"
	executor "berth.dev/berth/executor/ssh"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/ssh"
	"berth.dev/berth/statefile/statetest"
)

func TestMain(m *testing.M) {
	statetest.Main(m, func(config map[string]string) (statefile.Store, error) {
		pool := executor.NewPool(executor.Options{AnyUser: true})
		return ssh.Open(config, func(ctx context.Context, n *api.Node) (ssh.Host, error) {
			h, err := pool.Host(ctx, n)
			if err != nil {
				return nil, err
			}
			return scripts{h}, nil
		})
	})
}

// TestTorture has several processes apply at once, each with a connection of its own; then some are killed or asleep.
func TestTorture(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, change := range map[string]func(statetest.Torture) statetest.Torture{
		"all come to their end": func(o statetest.Torture) statetest.Torture { return o },
		"kill and sleep":        statetest.Torture.Troubled,
	} {
		ttl := map[bool]string{true: "5s", false: "1m"}[name == "kill and sleep"]
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "berth.state")
			config := map[string]string{"host": "127.0.0.1", "port": fmt.Sprint(s.port), "path": path, "identity_file": s.key, "host_key": s.hostKey, "ssh_config": "none", "lock_ttl": ttl}
			if os.Geteuid() == 0 {
				config["user"] = "root"
			}
			change(statetest.Sample(5, config)).Run(t, s.client(t).open(t, path), time.Minute)
		})
	}
}
