package etcd

import (
	"context"
	"errors"
	"strconv"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/crown"
)

var _ statefile.Crowner = (*Store)(nil)

const (
	watchKey   = "watch"       // the record of the watchdog that leads
	sessionKey = "watch-alive" // goes with its session

	sessionTTL = 5 // seconds
)

// Crown tries once.
func (s *Store) Crown(ctx context.Context, w statefile.Watcher, above uint64) (statefile.Crown, bool, error) {
	return s.seat.Try(ctx, throne{s}, w, above)
}

// Watcher reads what the last one has said.
func (s *Store) Watcher(ctx context.Context) (*statefile.Watcher, error) {
	r, err := throne{s}.Load(ctx)
	return crown.Watcher(r.Data), err
}

// throne is a key beside another one that lives as long as the session of who wrote both.
type throne struct{ *Store }

// Load reads both keys at one moment.
func (t throne) Load(ctx context.Context) (r crown.Record, err error) {
	err = t.with(ctx, "read", func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Txn(ctx).Then(clientv3.OpGet(t.prefix+watchKey), clientv3.OpGet(t.prefix+sessionKey)).Commit()
		if err != nil {
			return err
		}
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			r.Data, r.Tag = kvs[0].Value, strconv.FormatInt(kvs[0].ModRevision, 10)
		}
		r.Ended = len(resp.Responses[1].GetResponseRange().Kvs) == 0
		return nil
	})
	return r, err
}

// replace writes the record if it has the tag, with whatever else.
func (t throne) replace(ctx context.Context, c *clientv3.Client, data []byte, tag string, also ...clientv3.Op) (string, error) {
	revision := int64(0)
	if tag != "" {
		var err error
		if revision, err = strconv.ParseInt(tag, 10, 64); err != nil {
			return "", err
		}
	}
	resp, err := c.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(t.prefix+watchKey), "=", revision)).
		Then(append(also, clientv3.OpPut(t.prefix+watchKey, string(data)))...).Commit()
	switch {
	case err != nil:
		return "", t.failed("write", err)
	case !resp.Succeeded:
		return "", statefile.ErrConflict
	}
	return strconv.FormatInt(resp.Header.Revision, 10), nil
}

// Take begins a session and writes both keys.
func (t throne) Take(ctx context.Context, seen crown.Record, data func(uint64) ([]byte, error)) (crown.Hold, string, error) {
	text, err := data(0)
	if err != nil {
		return nil, "", err
	}
	client, err := t.connect(ctx)
	if err != nil {
		return nil, "", err
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	granted, err := client.Grant(callCtx, sessionTTL)
	if err != nil {
		return nil, "", errors.Join(t.failed("lead the watchdogs in", err), client.Close())
	}
	tag, err := t.replace(callCtx, client, text, seen.Tag, clientv3.OpPut(t.prefix+sessionKey, "", clientv3.WithLease(granted.ID)))
	var session *concurrency.Session
	if err == nil {
		session, err = concurrency.NewSession(client, concurrency.WithLease(granted.ID), concurrency.WithContext(context.WithoutCancel(ctx)))
	}
	if err != nil {
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		_, rerr := client.Revoke(rctx, granted.ID)
		return nil, "", errors.Join(err, rerr, client.Close())
	}
	return &reign{t, client, session}, tag, nil
}

// reign is the record while its session lasts.
type reign struct {
	throne  throne
	client  *clientv3.Client
	session *concurrency.Session
}

// Renew writes the record anew.
func (r *reign) Renew(ctx context.Context, data []byte, tag string) (string, error) {
	return r.throne.replace(ctx, r.client, data, tag)
}

// Lost is closed with the session.
func (r *reign) Lost() <-chan struct{} { return r.session.Done() }

// Release ends the session.
func (r *reign) Release(ctx context.Context) error {
	r.session.Orphan()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var err error
	if _, rerr := r.client.Revoke(ctx, r.session.Lease()); rerr != nil && !errors.Is(rerr, rpctypes.ErrLeaseNotFound) {
		err = r.throne.failed("end the session in", rerr)
	}
	return errors.Join(err, r.client.Close())
}
