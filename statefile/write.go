package statefile

import (
	"slices"

	"berth.dev/berth/api"
)

// encode writes the newest version of the format: the only one that is written. Of a state that will not be encrypted, the past has
// only hashes of sensitive values, since nothing needs them but a way back to what they were; and so have pods, since what they were made from
// is there as well.
func encode(s *api.State, fence uint64, berth string, seals bool) ([]byte, error) {
	if !seals {
		var err error
		if s, err = sparing(s); err != nil {
			return nil, err
		}
	}
	return encodeVersion1(s, fence, berth)
}

func sparing(s *api.State) (*api.State, error) {
	out := *s
	var err error
	if slices.ContainsFunc(s.Pods, func(p api.PodState) bool { return len(p.Sensitive) > 0 }) {
		out.Pods = slices.Clone(s.Pods)
		for i := range out.Pods {
			if out.Pods[i], err = out.Pods[i].Hashed(s.Lineage); err != nil {
				return nil, err
			}
		}
	}
	if out.Undo, err = s.Undo.Hashed(s.Lineage); err != nil {
		return nil, err
	}
	out.History = slices.Clone(s.History)
	for i, r := range out.History {
		if r.Undo == nil {
			continue
		}
		u, err := r.Undo.Hashed(s.Lineage)
		if err != nil {
			return nil, err
		}
		out.History[i].Undo = &u
	}
	return &out, nil
}
