package etcd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"berth.dev/berth/statefile"
)

const (
	lockKey       = "lock"
	docKey        = "doc"
	chunkPrefix   = "chunks/"
	journalPrefix = "journal/"

	chunkSize = 1 << 20 // a request may have 1.5 MiB
)

// header is the value of "doc".
type header struct {
	Present content   `json:"present"`
	Former  []content `json:"former,omitempty"` // that were replaced, the newest first

	version string // the revision at which the header was written
}

// content names the chunks of one document.
type content struct {
	ID     string `json:"id"` // unique among all that were ever written there
	Chunks int    `json:"chunks"`
	Sum    string `json:"sha256"`

	Replaced time.Time `json:"replaced,omitzero"` // by the clock of who replaced it
}

func (s *Store) chunkKey(id string, n int) string {
	return fmt.Sprintf("%s%s%s/%06d", s.prefix, chunkPrefix, id, n)
}

// header reads the header and the revision at which it was read; nil when there is none.
func (s *Store) header(ctx context.Context, c *clientv3.Client) (*header, int64, error) {
	resp, err := c.Get(ctx, s.prefix+docKey)
	if err != nil || len(resp.Kvs) == 0 {
		return nil, 0, err
	}
	h := &header{version: strconv.FormatInt(resp.Kvs[0].ModRevision, 10)}
	if err := json.Unmarshal(resp.Kvs[0].Value, h); err != nil {
		return nil, 0, fmt.Errorf("%s is no document of Berth: %w", docKey, err)
	}
	return h, resp.Header.Revision, nil
}

// chunks reads a document's chunks as of a revision, so that one which is replaced meanwhile is read whole.
func (s *Store) chunks(ctx context.Context, c *clientv3.Client, d content, rev int64) ([]byte, error) {
	data := []byte{}
	for n := range d.Chunks {
		resp, err := c.Get(ctx, s.chunkKey(d.ID, n), clientv3.WithRev(rev))
		if err != nil {
			return nil, err
		}
		if len(resp.Kvs) == 0 {
			return nil, fmt.Errorf("chunk %d of %d of document %s is missing", n+1, d.Chunks, d.ID)
		}
		data = append(data, resp.Kvs[0].Value...)
	}
	if sumOf(data) != d.Sum {
		return nil, fmt.Errorf("document %s is damaged: its checksum is wrong", d.ID)
	}
	return data, nil
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// put writes the chunks, then the header that makes them the document, then drops what no header names.
func (l *lease) put(ctx context.Context, data []byte, ifVersion string, former func(*header, time.Time) []content) (version string, err error) {
	s := l.store
	old, _, err := s.header(ctx, l.client)
	if err != nil {
		return "", err
	}
	if old == nil && ifVersion != "" || old != nil && old.version != ifVersion {
		return "", statefile.ErrConflict
	}
	l.puts++
	next := header{Present: content{ID: fmt.Sprintf("%d-%d", l.fence, l.puts), Sum: sumOf(data)}}
	rest := bytes.NewBuffer(data)
	for rest.Len() > 0 {
		chunk := rest.Next(chunkSize)
		if err := l.txn(ctx, nil, clientv3.OpPut(s.chunkKey(next.Present.ID, next.Present.Chunks), string(chunk))); err != nil {
			return "", err
		}
		next.Present.Chunks++
	}
	unchanged := clientv3.Compare(clientv3.CreateRevision(s.prefix+docKey), "=", 0)
	if old != nil {
		next.Former = former(old, time.Now().UTC())
		rev, err := strconv.ParseInt(old.version, 10, 64)
		if err != nil {
			return "", err
		}
		unchanged = clientv3.Compare(clientv3.ModRevision(s.prefix+docKey), "=", rev)
	}
	value, err := json.Marshal(next)
	if err != nil {
		return "", err
	}
	resp, err := l.commit(ctx, []clientv3.Cmp{unchanged}, clientv3.OpPut(s.prefix+docKey, string(value)))
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(resp.Header.Revision, 10), l.dropOld(ctx, next)
}

// former lists what stays of a document's predecessors when it is replaced itself.
func (s *Store) former(old *header, now time.Time) []content {
	last := old.Present
	last.Replaced = now
	list := []content{last}
	for _, d := range old.Former {
		if len(list) < s.keep && (s.maxAge == 0 || now.Sub(d.Replaced) <= s.maxAge) {
			list = append(list, d)
		}
	}
	return list
}

// dropOld removes the chunks that the header does not name: those of older documents, and of writers that died.
func (l *lease) dropOld(ctx context.Context, h header) error {
	prefix := l.store.prefix + chunkPrefix
	resp, err := l.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	keep := map[string]bool{h.Present.ID: true}
	for _, d := range h.Former {
		keep[d.ID] = true
	}
	for _, kv := range resp.Kvs {
		id, _, _ := bytes.Cut(bytes.TrimPrefix(kv.Key, []byte(prefix)), []byte{'/'})
		if keep[string(id)] {
			continue
		}
		keep[string(id)] = true // once each
		if err := l.txn(ctx, nil, clientv3.OpDelete(prefix+string(id)+"/", clientv3.WithPrefix())); err != nil {
			return err
		}
	}
	return nil
}
