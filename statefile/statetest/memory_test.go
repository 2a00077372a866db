package statetest_test

import (
	"testing"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/statetest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(*testing.T) func() statefile.Store {
		m := statetest.NewMemory()
		return func() statefile.Store { return m }
	})
}
