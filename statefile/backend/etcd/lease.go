package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/batch"
)

// Lock creates the lock's key under a lease of ours.
func (s *Store) Lock(ctx context.Context, info statefile.LockInfo) (statefile.Lease, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	l, err := s.lockWith(ctx, client, info)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return l, nil
}

func (s *Store) lockWith(ctx context.Context, client *clientv3.Client, info statefile.LockInfo) (*lease, error) {
	value, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	granted, err := client.Grant(callCtx, int64(s.ttl/time.Second))
	if err != nil {
		return nil, s.failed("lock", err)
	}
	key := s.prefix + lockKey
	resp, err := client.Txn(callCtx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(value), clientv3.WithLease(granted.ID))).
		Else(clientv3.OpGet(key)).Commit()
	if err == nil && resp.Succeeded {
		err = context.Cause(ctx)
	}
	if err != nil || !resp.Succeeded {
		// The lock, if the server gave it before the answer was lost, goes with the lease.
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		_, rerr := client.Revoke(rctx, granted.ID)
		if err != nil {
			return nil, errors.Join(s.failed("lock", err), rerr)
		}
		return nil, s.locked(rctx, client, resp)
	}
	session, err := concurrency.NewSession(client, concurrency.WithLease(granted.ID), concurrency.WithContext(context.WithoutCancel(ctx)))
	if err != nil {
		return nil, s.failed("lock", err)
	}
	l := &lease{store: s, client: client, session: session, fence: resp.Header.Revision}
	l.journal = batch.New(l.append)
	l.ctx, l.end = context.WithCancelCause(ctx)
	go l.watch()
	return l, nil
}

// locked says who has the lock. Its lease tells when it was renewed last.
func (s *Store) locked(ctx context.Context, client *clientv3.Client, resp *clientv3.TxnResponse) error {
	e := &statefile.LockedError{Advice: fmt.Sprintf("If its process is gone, the lock ends by itself within %s.", s.ttl)}
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		if err := json.Unmarshal(kvs[0].Value, &e.Info); err != nil {
			return fmt.Errorf("read who holds the lock of etcd %s: %w", s.where(), err)
		}
		if left, err := client.TimeToLive(ctx, clientv3.LeaseID(kvs[0].Lease)); err == nil && left.TTL >= 0 { // a help for people
			e.Heard = new(time.Duration(left.GrantedTTL-left.TTL) * time.Second)
		}
	}
	return e
}

// ForceUnlock takes the lock from the holder with that ID.
func (s *Store) ForceUnlock(ctx context.Context, id string) error {
	return s.with(ctx, "unlock", func(ctx context.Context, c *clientv3.Client) error {
		key := s.prefix + lockKey
		resp, err := c.Get(ctx, key)
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			return errors.New("nobody holds the lock")
		}
		var holder statefile.LockInfo
		if err := json.Unmarshal(resp.Kvs[0].Value, &holder); err != nil {
			return err
		}
		if holder.ID != id {
			return fmt.Errorf("it is held by %s with lock ID %s, not %s", holder, holder.ID, id)
		}
		_, err = c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", resp.Kvs[0].CreateRevision)).Then(clientv3.OpDelete(key)).Commit()
		return err
	})
}

// lease is the lock while this process holds it.
type lease struct {
	store   *Store
	client  *clientv3.Client
	session *concurrency.Session
	fence   int64 // the revision that created the lock's key
	ctx     context.Context
	end     context.CancelCauseFunc
	journal *batch.Journal

	mu       sync.Mutex // guards what follows; one write at a time
	puts     int
	lines    int // keys of the journal that we wrote
	released bool
}

// Context ends with the lock.
func (l *lease) Context() context.Context { return l.ctx }

// Fence is the revision at which the lock was taken: it grows with all that is written to etcd.
func (l *lease) Fence() uint64 { return uint64(l.fence) } //nolint:gosec // revisions are positive

// watch ends the lock's context with the lease, or when somebody deletes the key.
func (l *lease) watch() {
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	changes := l.client.Watch(clientv3.WithRequireLeader(ctx), l.store.prefix+lockKey, clientv3.WithRev(l.fence+1))
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.session.Done():
			l.end(statefile.ErrLockLost)
			return
		case resp, ok := <-changes:
			if !ok || resp.Err() != nil {
				changes = nil // the lease tells too
				continue
			}
			for _, e := range resp.Events {
				if e.Type == clientv3.EventTypeDelete {
					l.end(statefile.ErrLockLost)
					return
				}
			}
		}
	}
}

func (l *lease) held() error {
	if l.released || errors.Is(context.Cause(l.ctx), statefile.ErrLockLost) {
		return statefile.ErrLockLost
	}
	return nil
}

// errElsewhere says that the lock's key is no longer the one that we made.
var errElsewhere = fmt.Errorf("%w: its key is gone or another's", statefile.ErrLockLost)

// commit runs operations if we hold the lock and the conditions are true; else ErrLockLost or ErrConflict.
func (l *lease) commit(ctx context.Context, also []clientv3.Cmp, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	key := l.store.prefix + lockKey
	ours := clientv3.Compare(clientv3.CreateRevision(key), "=", l.fence)
	resp, err := l.client.Txn(ctx).If(append([]clientv3.Cmp{ours}, also...)...).Then(ops...).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return nil, err
	}
	if resp.Succeeded {
		return resp, nil
	}
	kvs := resp.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 || kvs[0].CreateRevision != l.fence {
		l.end(statefile.ErrLockLost)
		return nil, errElsewhere
	}
	return nil, statefile.ErrConflict
}

func (l *lease) txn(ctx context.Context, also []clientv3.Cmp, ops ...clientv3.Op) error {
	_, err := l.commit(ctx, also, ops...)
	return err
}

// do runs writes one after the other, in bounded time.
func (l *lease) do(ctx context.Context, what string, write func(context.Context) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.held(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := write(ctx); err != nil {
		return l.store.failed(what, err)
	}
	return nil
}

// Put replaces the document.
func (l *lease) Put(ctx context.Context, data []byte, ifVersion string) (version string, err error) {
	return l.replace(ctx, data, ifVersion, l.store.former)
}

// Amend is Put that keeps no backup.
func (l *lease) Amend(ctx context.Context, data []byte, ifVersion string) (string, error) {
	return l.replace(ctx, data, ifVersion, func(old *header, _ time.Time) []content { return old.Former })
}

func (l *lease) replace(ctx context.Context, data []byte, ifVersion string, former func(*header, time.Time) []content) (version string, err error) {
	err = l.do(ctx, "write", func(ctx context.Context) error {
		version, err = l.put(ctx, data, ifVersion, former)
		return err
	})
	return version, err
}

// Append takes in a line.
func (l *lease) Append(_ context.Context, line []byte) error {
	if errors.Is(context.Cause(l.ctx), statefile.ErrLockLost) {
		return statefile.ErrLockLost
	}
	return l.journal.Append(line)
}

// Sync waits until all lines are committed.
func (l *lease) Sync(ctx context.Context) error { return l.journal.Sync(ctx) }

func (l *lease) append(ctx context.Context, lines []byte) error {
	return l.do(ctx, "write the journal in", func(ctx context.Context) error {
		for len(lines) > 0 {
			n := min(len(lines), chunkSize)
			key := fmt.Sprintf("%s%s%020d-%08d", l.store.prefix, journalPrefix, l.fence, l.lines)
			if err := l.txn(ctx, nil, clientv3.OpPut(key, string(lines[:n]))); err != nil {
				return err
			}
			l.lines++
			lines = lines[n:]
		}
		return nil
	})
}

// ClearJournal removes the journal.
func (l *lease) ClearJournal(ctx context.Context) error {
	return l.journal.Clear(func() error {
		return l.do(ctx, "clear the journal in", func(ctx context.Context) error {
			return l.txn(ctx, nil, clientv3.OpDelete(l.store.prefix+journalPrefix, clientv3.WithPrefix()))
		})
	})
}

// Unlock deletes the lock's key and ends the lease.
func (l *lease) Unlock(ctx context.Context) error {
	l.mu.Lock()
	done := l.released
	l.mu.Unlock()
	if done {
		return nil
	}
	err := l.journal.Close(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released = true
	lost := errors.Is(context.Cause(l.ctx), statefile.ErrLockLost)
	l.end(context.Canceled)
	l.session.Orphan()
	if !lost {
		rctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if _, rerr := l.client.Revoke(rctx, l.session.Lease()); rerr != nil {
			err = errors.Join(err, fmt.Errorf("unlock etcd %s: %w; the lock ends by itself within %s", l.store.where(), rerr, l.store.ttl))
		}
	}
	return errors.Join(err, l.client.Close())
}
