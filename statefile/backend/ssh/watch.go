package ssh

import (
	"context"
	"errors"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/crown"
)

var _ statefile.Crowner = (*Store)(nil)

// Crown tries once.
func (s *Store) Crown(ctx context.Context, w statefile.Watcher, above uint64) (statefile.Crown, bool, error) {
	return s.seat.Try(ctx, throne{s}, w, above)
}

// Watcher reads what the last one has said.
func (s *Store) Watcher(ctx context.Context) (*statefile.Watcher, error) {
	r, err := throne{s}.Load(ctx)
	return crown.Watcher(r.Data), err
}

// throne is a file that a script replaces only if it is the one that was read.
type throne struct{ *Store }

// Load reads it.
func (t throne) Load(ctx context.Context) (crown.Record, error) {
	data, there, err := t.read(ctx, ".watch")
	if err != nil || !there {
		return crown.Record{}, err
	}
	return crown.Record{Data: data, Tag: versionOf(data)}, nil
}

// Take replaces it.
func (t throne) Take(ctx context.Context, seen crown.Record, data func(uint64) ([]byte, error)) (crown.Hold, string, error) {
	text, err := data(0)
	if err != nil {
		return nil, "", err
	}
	tag, err := t.Renew(ctx, text, seen.Tag)
	return t, tag, err
}

// Renew replaces it again.
func (t throne) Renew(ctx context.Context, data []byte, tag string) (string, error) {
	want := tag
	if want == "" {
		want = "none"
	}
	_, _, err := t.run(ctx, "write "+t.where(".watch"), watchScript, nil, want, string(data))
	var failed *scriptError
	if errors.As(err, &failed) && failed.status == statusChanged {
		return "", statefile.ErrConflict
	}
	return versionOf(append(data, '\n')), err
}

// Release has nothing to do: there are no sessions.
func (t throne) Release(context.Context) error { return nil }

// Lost is never told.
func (t throne) Lost() <-chan struct{} { return nil }
