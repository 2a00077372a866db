// Package etcd keeps a state in etcd.
//
// Below PREFIX, "lock" is a key that lives as long as its holder's lease, and every write is a transaction that asks first whether
// it is still there: what a former holder writes fails. Its creation revision is the fencing number. "doc" names the chunks of the
// document, because etcd bounds a request at 1.5 MiB; "journal/NUMBER" is what a run in progress has done.
//
// Start with [Store], then lease.go; document.go has the chunks.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/crown"
)

// Store is a state in etcd.
type Store struct {
	seat crown.Seat

	config clientv3.Config
	prefix string // ends in "/"
	ttl    time.Duration
	keep   int // documents that were replaced
	maxAge time.Duration
}

var (
	_ statefile.Store    = (*Store)(nil)
	_ statefile.Keeper   = (*Store)(nil)
	_ statefile.Retainer = (*Store)(nil)
	_ statefile.Namer    = (*Store)(nil)
	_ statefile.Waiter   = (*Store)(nil)
	_ statefile.Unlocker = (*Store)(nil)
)

const (
	dialTimeout = 10 * time.Second
	defaultTTL  = 15 * time.Second
)

// Keys are the attributes of backend "etcd". The password comes from ETCDCTL_PASSWORD.
func Keys() []string {
	return []string{"endpoints", "prefix", "username", "cacert_file", "cert_file", "key_file", "lock_ttl"}
}

// Open returns the store of a backend "etcd" block. It makes no connection.
func Open(config map[string]string, dir string) (statefile.Store, error) {
	s := &Store{prefix: strings.TrimSuffix(config["prefix"], "/") + "/", ttl: defaultTTL, keep: api.DefaultRetention.Backups}
	if s.prefix == "/" {
		s.prefix = "berth/default/"
	}
	endpoints := first(config["endpoints"], os.Getenv("ETCDCTL_ENDPOINTS"), "http://127.0.0.1:2379")
	for e := range strings.SplitSeq(endpoints, ",") {
		s.config.Endpoints = append(s.config.Endpoints, strings.TrimSpace(e))
	}
	if v, ok := config["lock_ttl"]; ok {
		ttl, err := time.ParseDuration(v)
		if err != nil || ttl < 5*time.Second || ttl > time.Hour || ttl%time.Second != 0 {
			return nil, fmt.Errorf("lock_ttl %q: give whole seconds from 5s to 1h, as in lock_ttl = \"15s\"", v)
		}
		s.ttl = ttl
	}
	s.config.Username, s.config.Password = first(config["username"], os.Getenv("ETCDCTL_USER")), os.Getenv("ETCDCTL_PASSWORD")
	if s.config.Username != "" && s.config.Password == "" {
		return nil, errors.New("username is set, but ETCDCTL_PASSWORD is not: passwords do not stand in configurations")
	}
	s.config.DialTimeout, s.config.DialKeepAliveTime, s.config.DialKeepAliveTimeout = dialTimeout, 5*time.Second, 5*time.Second
	s.config.Logger = zap.NewNop() // what matters comes as errors
	var err error
	s.config.TLS, err = tlsConfig(config, dir, s.config.Endpoints)
	return s, err
}

func tlsConfig(config map[string]string, dir string, endpoints []string) (*tls.Config, error) {
	file := func(key, env string) string {
		path := config[key]
		if path == "" {
			return os.Getenv(env)
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		return path
	}
	info := transport.TLSInfo{
		TrustedCAFile: file("cacert_file", "ETCDCTL_CACERT"), CertFile: file("cert_file", "ETCDCTL_CERT"), KeyFile: file("key_file", "ETCDCTL_KEY"),
		Logger: zap.NewNop(),
	}
	secure := slices.ContainsFunc(endpoints, func(e string) bool { return strings.HasPrefix(e, "https://") })
	if !secure && info.TrustedCAFile == "" && info.CertFile == "" && info.KeyFile == "" {
		return nil, nil
	}
	conf, err := info.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	return conf, nil
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func (s *Store) where() string { return strings.Join(s.config.Endpoints, ",") + ", " + s.prefix }

// Names returns the places for messages.
func (s *Store) Names() statefile.Names {
	return statefile.Names{State: "etcd " + s.where() + "doc", Journal: "etcd " + s.where() + "journal"}
}

// LockInterval is how long to wait between attempts.
func (s *Store) LockInterval() (first, most time.Duration) {
	return 250 * time.Millisecond, 4 * time.Second
}

// connect makes a client, which the caller closes. It dials when it is used.
func (s *Store) connect(ctx context.Context) (*clientv3.Client, error) {
	conf := s.config
	conf.Context = context.WithoutCancel(ctx)
	c, err := clientv3.New(conf)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd %s: %w", s.where(), err)
	}
	return c, nil
}

// with runs a function with a client, in bounded time: the library tries to reach its servers until the context ends.
func (s *Store) with(ctx context.Context, what string, do func(context.Context, *clientv3.Client) error) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := do(ctx, c); err != nil {
		return s.failed(what, err)
	}
	return nil
}

// callTimeout bounds the work of one call, also where nobody answers.
const callTimeout = 30 * time.Second

func (s *Store) failed(what string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer in time: %w", err)
	}
	return fmt.Errorf("%s etcd %s: %w", what, s.where(), err)
}

// Get reads the document.
func (s *Store) Get(ctx context.Context) (data []byte, version string, err error) {
	err = s.with(ctx, "read", func(ctx context.Context, c *clientv3.Client) error {
		h, rev, err := s.header(ctx, c)
		if err != nil || h == nil {
			return err
		}
		version = h.version
		data, err = s.chunks(ctx, c, h.Present, rev)
		return err
	})
	return data, version, err
}

// Retain says how many documents that were replaced stay, and how long.
func (s *Store) Retain(n int, maxAge time.Duration) { s.keep, s.maxAge = max(1, n), maxAge }

// Backups returns the documents that were replaced.
func (s *Store) Backups(ctx context.Context) ([]statefile.Backup, error) {
	var list []statefile.Backup
	err := s.with(ctx, "read", func(ctx context.Context, c *clientv3.Client) error {
		h, _, err := s.header(ctx, c)
		if err != nil || h == nil {
			return err
		}
		for _, d := range h.Former {
			list = append(list, statefile.Backup{Name: "etcd " + s.where() + chunkPrefix + d.ID, At: d.Replaced, Read: func(ctx context.Context) (data []byte, err error) {
				err = s.with(ctx, "read", func(ctx context.Context, c *clientv3.Client) error {
					data, err = s.chunks(ctx, c, d, 0)
					return err
				})
				return data, err
			}})
		}
		return nil
	})
	return list, err
}

// page is how many keys are read at a time.
const page = 16

// Journal reads the journal as it is at one moment.
func (s *Store) Journal(ctx context.Context) (lines []byte, err error) {
	err = s.with(ctx, "read the journal in", func(ctx context.Context, c *clientv3.Client) error {
		from, rev := s.prefix+journalPrefix, int64(0)
		for {
			resp, err := c.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(s.prefix+journalPrefix)), clientv3.WithLimit(page), clientv3.WithRev(rev))
			if err != nil {
				return err
			}
			for _, kv := range resp.Kvs {
				lines = append(lines, kv.Value...)
				from = string(kv.Key) + "\x00"
			}
			if !resp.More {
				return nil
			}
			rev = resp.Header.Revision
		}
	})
	return lines, err
}
