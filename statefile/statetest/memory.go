package statetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"berth.dev/berth/statefile"
)

// Memory is a store in memory, for tests of what is built on stores. All handles on it are the same one.
type Memory struct {
	mu      sync.Mutex
	data    []byte
	version int
	journal []byte
	holder  *memoryLease
	fence   uint64
	fail    func(call string) error
	calls   []string
}

var _ statefile.Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{} }

// Fail makes every later call for which f returns an error fail with it, having done nothing. The calls are
// named like the methods: "Put", "Append", "Sync", "ClearJournal", "Unlock", "Get", "Journal", "Lock".
func (m *Memory) Fail(f func(call string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = f
}

// Break takes the lock away from its holder, as a store does whose lease has ended.
func (m *Memory) Break() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holder != nil {
		m.holder.end(statefile.ErrLockLost)
		m.holder = nil
	}
}

// Set replaces document and journal behind everybody's back.
func (m *Memory) Set(data, journal []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data, m.journal = slices.Clone(data), slices.Clone(journal)
	m.version++
	if data == nil {
		m.version = 0
	}
}

// Calls returns the calls so far that changed something, in order.
func (m *Memory) Calls() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

func (m *Memory) begin(ctx context.Context, call string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.fail != nil {
		if err := m.fail(call); err != nil {
			return err
		}
	}
	m.calls = append(m.calls, call)
	return nil
}

// Get returns the document.
func (m *Memory) Get(ctx context.Context) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Get"); err != nil {
		return nil, "", err
	}
	if m.version == 0 {
		return nil, "", nil
	}
	return slices.Clone(m.data), strconv.Itoa(m.version), nil
}

// Journal returns the journal.
func (m *Memory) Journal(ctx context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Journal"); err != nil {
		return nil, err
	}
	return slices.Clone(m.journal), nil
}

// Lock takes the lock.
func (m *Memory) Lock(ctx context.Context, info statefile.LockInfo) (statefile.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Lock"); err != nil {
		return nil, err
	}
	if m.holder != nil {
		return nil, &statefile.LockedError{Info: m.holder.info}
	}
	m.fence++
	l := &memoryLease{m: m, info: info, fence: m.fence}
	l.ctx, l.end = context.WithCancelCause(ctx)
	m.holder = l
	return l, nil
}

type memoryLease struct {
	m     *Memory
	info  statefile.LockInfo
	fence uint64
	ctx   context.Context
	end   context.CancelCauseFunc
}

func (l *memoryLease) Context() context.Context { return l.ctx }
func (l *memoryLease) Fence() uint64            { return l.fence }

// do runs a write if the lease still holds.
func (l *memoryLease) do(ctx context.Context, call string, write func() error) error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.m.holder != l {
		return statefile.ErrLockLost
	}
	if err := l.m.begin(ctx, call); err != nil {
		return err
	}
	return write()
}

func (l *memoryLease) Put(ctx context.Context, data []byte, ifVersion string) (version string, err error) {
	err = l.do(ctx, "Put", func() error {
		now := strconv.Itoa(l.m.version)
		if l.m.version == 0 {
			now = ""
		}
		if now != ifVersion {
			return statefile.ErrConflict
		}
		l.m.version++
		l.m.data, version = slices.Clone(data), strconv.Itoa(l.m.version)
		return nil
	})
	return version, err
}

func (l *memoryLease) Append(ctx context.Context, line []byte) error {
	return l.do(ctx, "Append", func() error {
		if bytes.IndexByte(line, '\n') != len(line)-1 {
			return fmt.Errorf("%q is not one line", line)
		}
		l.m.journal = append(l.m.journal, line...)
		return nil
	})
}

func (l *memoryLease) Sync(ctx context.Context) error {
	return l.do(ctx, "Sync", func() error { return nil })
}

func (l *memoryLease) ClearJournal(ctx context.Context) error {
	return l.do(ctx, "ClearJournal", func() error { l.m.journal = nil; return nil })
}

func (l *memoryLease) Unlock(ctx context.Context) error {
	return l.do(ctx, "Unlock", func() error {
		l.end(context.Canceled)
		l.m.holder = nil
		return nil
	})
}
