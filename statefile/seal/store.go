package seal

import (
	"context"
	"sync"
	"sync/atomic"

	"berth.dev/berth/statefile"
)

// Store is a store of which everything is encrypted.
type Store struct {
	statefile.Store
	sealer *Sealer
	other  atomic.Bool // the document was not written as the next one will be
}

var (
	_ statefile.Store   = (*Store)(nil)
	_ statefile.Keeper  = (*Store)(nil)
	_ statefile.Wrapper = (*Store)(nil)
	_ statefile.Sealed  = (*Store)(nil)
)

// Wrap puts a sealer around a store. A nil one changes nothing.
func Wrap(s statefile.Store, with *Sealer) statefile.Store {
	if with == nil {
		return s
	}
	return &Store{Store: s, sealer: with}
}

// Unwrap returns the store below.
func (s *Store) Unwrap() statefile.Store { return s.Store }

// Seals reports whether what is written is encrypted.
func (s *Store) Seals() bool { return s.sealer.Seals() }

// Rewrite reports whether the document that was last read has to be written anew, because that is not how it is written now.
func (s *Store) Rewrite() bool { return s.other.Load() }

// Seal encrypts a copy that is kept elsewhere.
func (s *Store) Seal(ctx context.Context, data []byte) ([]byte, error) {
	return s.sealer.Seal(ctx, data)
}

// Unseal decrypts a copy that was kept elsewhere; one that is not encrypted is taken as it is.
func (s *Store) Unseal(ctx context.Context, data []byte) ([]byte, error) {
	if !IsSealed(data) {
		return data, nil
	}
	out, _, err := s.sealer.Open(ctx, data)
	return out, err
}

// Get decrypts the document.
func (s *Store) Get(ctx context.Context) ([]byte, string, error) {
	data, version, err := s.Store.Get(ctx)
	if err != nil || version == "" {
		return data, version, err
	}
	plain, other, err := s.sealer.Open(ctx, data)
	s.other.Store(err == nil && other)
	if plain == nil && err == nil {
		plain = []byte{}
	}
	return plain, version, err
}

// Journal decrypts the journal.
func (s *Store) Journal(ctx context.Context) ([]byte, error) {
	data, err := s.Store.Journal(ctx)
	if err != nil || len(data) == 0 {
		return data, err
	}
	return s.sealer.lines(ctx, data)
}

// Backups decrypts the documents that were replaced.
func (s *Store) Backups(ctx context.Context) ([]statefile.Backup, error) {
	k, ok := statefile.Find[statefile.Keeper](s.Store)
	if !ok {
		return nil, nil
	}
	list, err := k.Backups(ctx)
	for i, b := range list {
		list[i].Read = func(ctx context.Context) ([]byte, error) {
			data, err := b.Read(ctx)
			if err != nil {
				return nil, err
			}
			plain, _, err := s.sealer.Open(ctx, data)
			return plain, err
		}
	}
	return list, err
}

// Lock takes the lock of the store below.
func (s *Store) Lock(ctx context.Context, info statefile.LockInfo) (statefile.Lease, error) {
	l, err := s.Store.Lock(ctx, info)
	if err != nil {
		return nil, err
	}
	return &lease{Lease: l, sealer: s.sealer, berth: info.Version}, nil
}

type lease struct {
	statefile.Lease
	sealer *Sealer
	berth  string

	mu     sync.Mutex // guards what follows, and the order of lines
	writer *writer    // nil before the first line
}

// Amend encrypts the document, which takes the place of one that is not kept where the store below can do that.
func (l *lease) Amend(ctx context.Context, data []byte, ifVersion string) (string, error) {
	a, ok := l.Lease.(statefile.Amender)
	if !ok {
		return l.Put(ctx, data, ifVersion)
	}
	sealed, err := l.sealer.Seal(ctx, data)
	if err != nil {
		return "", err
	}
	return a.Amend(ctx, sealed, ifVersion)
}

// Put encrypts the document.
func (l *lease) Put(ctx context.Context, data []byte, ifVersion string) (string, error) {
	sealed, err := l.sealer.Seal(ctx, data)
	if err != nil {
		return "", err
	}
	return l.Lease.Put(ctx, sealed, ifVersion)
}

// Append encrypts the line.
func (l *lease) Append(ctx context.Context, line []byte) error {
	if !l.sealer.Seals() {
		return l.Lease.Append(ctx, line)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writer == nil {
		w, first, err := l.sealer.begin(ctx, l.berth)
		if err != nil {
			return err
		}
		if err := l.Lease.Append(ctx, first); err != nil {
			return err
		}
		l.writer = w
	}
	sealed, err := l.writer.seal(line)
	if err != nil {
		return err
	}
	if err := l.Lease.Append(ctx, sealed); err != nil {
		l.writer.n-- // no part of it is there, or the journal is broken for good
		return err
	}
	return nil
}

// ClearJournal removes the journal, and its key with it.
func (l *lease) ClearJournal(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.Lease.ClearJournal(ctx)
	if err == nil {
		l.writer = nil
	}
	return err
}
