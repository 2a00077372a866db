package local_test

import (
	"path/filepath"
	"testing"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/local"
	"berth.dev/berth/statefile/statetest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(t *testing.T) func() statefile.Store {
		path := filepath.Join(t.TempDir(), local.DefaultPath)
		return func() statefile.Store {
			s, err := local.New(path)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}
