package s3

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"berth.dev/berth/statefile"
)

// segmentSize is how large an object of the journal grows: each batch of lines writes the last one anew.
const segmentSize = 128 << 10

// segment is the journal's last object.
type segment struct {
	number int
	data   []byte
}

func segmentSuffix(fence uint64, number int) string {
	return fmt.Sprintf("%s%016d/%08d", journalSuffix, fence, number)
}

// Journal reads the journal of the last holder who had one.
func (s *Store) Journal(ctx context.Context) ([]byte, error) {
	l, _, _, err := s.readLock(ctx)
	if err != nil || l.Journal == 0 {
		return nil, err
	}
	return s.journalOf(ctx, l.Journal)
}

func (s *Store) journalOf(ctx context.Context, fence uint64) ([]byte, error) {
	suffixes, err := s.list(ctx, fmt.Sprintf("%s%016d/", journalSuffix, fence))
	if err != nil {
		return nil, err
	}
	parts := make([][]byte, len(suffixes))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, suffix := range suffixes {
		g.Go(func() error {
			o, err := s.get(gctx, suffix)
			if o != nil { // else it was cleared meanwhile
				parts[i] = o.data
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	// What was cleared in between was folded into the document, which is read next: then none of it counts.
	if slices.ContainsFunc(parts, func(p []byte) bool { return p == nil }) {
		return nil, nil
	}
	return bytes.Join(parts, nil), nil
}

// list returns the keys below a suffix, in order, without our own key.
func (s *Store) list(ctx context.Context, suffix string) ([]string, error) {
	api, err := s.api(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	pages := s3.NewListObjectsV2Paginator(api, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String(s.key + suffix)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", s.where(suffix), explain(err))
		}
		for _, o := range page.Contents {
			out = append(out, strings.TrimPrefix(aws.ToString(o.Key), s.key))
		}
	}
	slices.Sort(out)
	return out, nil
}

// adoptJournal makes the journal that an earlier holder left our own, so that nothing which that one may still write can get into it.
func (l *lease) adoptJournal(ctx context.Context) error {
	var old []byte
	if l.lock.Journal != 0 {
		var err error
		if old, err = l.store.journalOf(ctx, l.lock.Journal); err != nil {
			return err
		}
	}
	if len(old) == 0 {
		return nil // the first line makes us its writer
	}
	if err := l.write(ctx, segment{data: old}); err != nil {
		return err
	}
	return l.update(ctx, func(next *lock) { next.Journal = next.Fence })
}

func (l *lease) write(ctx context.Context, s segment) error {
	if _, err := l.store.put(ctx, segmentSuffix(l.fence, s.number), s.data, whatever); err != nil {
		return err
	}
	l.segment = s
	return nil
}

// append writes lines behind those that are there.
func (l *lease) append(ctx context.Context, lines []byte) error {
	if err := l.held(); err != nil {
		return err
	}
	next := segment{l.segment.number, slices.Concat(l.segment.data, lines)}
	if len(l.segment.data) > segmentSize {
		next = segment{l.segment.number + 1, lines}
	}
	if err := l.write(ctx, next); err != nil {
		return err
	}
	l.mu.Lock()
	mine := l.lock.Journal == l.fence
	l.mu.Unlock()
	if mine {
		return l.held()
	}
	return l.update(ctx, func(next *lock) { next.Journal = next.Fence })
}

// ClearJournal first says in the lock that no journal counts, then removes the objects: also those that an earlier one left.
func (l *lease) ClearJournal(ctx context.Context) error {
	return l.journal.Clear(func() error {
		if err := l.held(); err != nil {
			return err
		}
		l.mu.Lock()
		counts := l.lock.Journal != 0
		l.mu.Unlock()
		if counts {
			if err := l.update(ctx, func(next *lock) { next.Journal = 0 }); err != nil {
				return err
			}
		}
		l.segment = segment{}
		suffixes, err := l.store.list(ctx, journalSuffix)
		if err != nil {
			return err
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(8)
		for _, suffix := range suffixes {
			g.Go(func() error { return l.store.remove(gctx, suffix) })
		}
		return g.Wait()
	})
}

func (s *Store) remove(ctx context.Context, suffix string) error {
	api, err := s.api(ctx)
	if err != nil {
		return err
	}
	_, err = api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: aws.String(s.key + suffix)})
	if err != nil && status(err) != http.StatusNotFound {
		return fmt.Errorf("remove %s: %w", s.where(suffix), explain(err))
	}
	return nil
}

var _ statefile.Lease = (*lease)(nil)
