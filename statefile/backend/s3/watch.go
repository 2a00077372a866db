package s3

import (
	"context"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/crown"
)

var _ statefile.Crowner = (*Store)(nil)

// watchSuffix is that of the record of the watchdog that leads.
const watchSuffix = ".watch"

// Crown tries once.
func (s *Store) Crown(ctx context.Context, w statefile.Watcher, above uint64) (statefile.Crown, bool, error) {
	return s.seat.Try(ctx, throne{s}, w, above)
}

// Watcher reads what the last one has said.
func (s *Store) Watcher(ctx context.Context) (*statefile.Watcher, error) {
	r, err := throne{s}.Load(ctx)
	return crown.Watcher(r.Data), err
}

// throne is an object that is replaced only if it has the tag that was read.
type throne struct{ *Store }

// Load reads it.
func (t throne) Load(ctx context.Context) (crown.Record, error) {
	o, err := t.get(ctx, watchSuffix)
	if err != nil || o == nil {
		return crown.Record{}, err
	}
	return crown.Record{Data: o.data, Tag: o.etag}, nil
}

// Take replaces it.
func (t throne) Take(ctx context.Context, seen crown.Record, data func(uint64) ([]byte, error)) (crown.Hold, string, error) {
	text, err := data(0)
	if err != nil {
		return nil, "", err
	}
	tag, err := t.put(ctx, watchSuffix, text, seen.Tag)
	return t, tag, err
}

// Renew replaces it again.
func (t throne) Renew(ctx context.Context, data []byte, tag string) (string, error) {
	return t.put(ctx, watchSuffix, data, tag)
}

// Release has nothing to do: there are no sessions.
func (t throne) Release(context.Context) error { return nil }

// Lost is never told.
func (t throne) Lost() <-chan struct{} { return nil }
