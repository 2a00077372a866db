package statefile

import (
	"berth.dev/berth/api"
)

// encode writes the newest version of the format: the only one that is written.
func encode(s *api.State, fence uint64, berth string) ([]byte, error) {
	return encodeVersion1(s, fence, berth)
}
