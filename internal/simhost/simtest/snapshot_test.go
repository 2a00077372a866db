package simtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"berth.dev/berth/planner"
	"berth.dev/berth/statefile"
)

// stateFiles are those of a state that a run has left.
func stateFiles(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	files := map[string][]byte{}
	for _, f := range list {
		if f.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		must(t, err)
		files[f.Name()] = b
	}
	return files
}

// written is what the files of a state hold before and after the snapshot at the end of an apply.
type written struct{ old, fresh map[string][]byte }

// writeSnapshot applies the second version and returns the state's files around the end.
func writeSnapshot(t testing.TB) (*Cluster, written) {
	t.Helper()
	c := before(t)
	r, err := c.Begin(t.Context(), planner.Options{})
	must(t, err)
	out, err := r.Apply(t.Context(), nil)
	must(t, err)
	if len(out.Failed) > 0 {
		t.Fatal(out.Failed)
	}
	w := written{old: stateFiles(t, c.Dir)}
	must(t, r.Close(t.Context()))
	w.fresh = stateFiles(t, c.Dir)
	if len(w.old[lines]) == 0 || len(w.fresh[doc]) == 0 || len(w.fresh[lines]) != 0 {
		t.Fatalf("the state's files are not where the test looks: %d and %d bytes", len(w.old[lines]), len(w.fresh[doc]))
	}
	return c, w
}

const doc, lines = "berth.state", "berth.state.journal"

// part is a share of a file, in thousandths.
func part(b []byte, thousandths int) []byte { return b[:len(b)*thousandths/1000] }

// snapshots are the instants at which the writing of a snapshot may be cut short, and what lies in the folder then: the names say it.
var snapshots = map[string]func(written) map[string][]byte{
	"before":          func(written) map[string][]byte { return nil },
	"document empty":  func(w written) map[string][]byte { return map[string][]byte{doc + ".tmp": {}} },
	"document begun":  func(w written) map[string][]byte { return map[string][]byte{doc + ".tmp": part(w.fresh[doc], 1)} },
	"document half":   func(w written) map[string][]byte { return map[string][]byte{doc + ".tmp": part(w.fresh[doc], 500)} },
	"document nearly": func(w written) map[string][]byte { return map[string][]byte{doc + ".tmp": part(w.fresh[doc], 999)} },
	"document whole":  func(w written) map[string][]byte { return map[string][]byte{doc + ".tmp": w.fresh[doc]} },
	"backup linked": func(w written) map[string][]byte {
		return map[string][]byte{doc + ".tmp": w.fresh[doc], doc + ".backup-new": w.old[doc]}
	},
	"backup in place": func(w written) map[string][]byte {
		return map[string][]byte{doc + ".tmp": w.fresh[doc], doc + ".backup": w.old[doc]}
	},
	"document in place": func(w written) map[string][]byte {
		return map[string][]byte{doc: w.fresh[doc], doc + ".backup": w.old[doc]}
	},
	"document, half a journal": func(w written) map[string][]byte {
		return map[string][]byte{doc: w.fresh[doc], lines: part(w.old[lines], 500)}
	},
	"document, journal's first": func(w written) map[string][]byte {
		return map[string][]byte{doc: w.fresh[doc], lines: part(w.old[lines], 1)}
	},
	"journal's last line torn": func(w written) map[string][]byte {
		return map[string][]byte{lines: w.old[lines][:len(w.old[lines])-2]}
	},
	"journal's last newline lost": func(w written) map[string][]byte {
		return map[string][]byte{lines: w.old[lines][:len(w.old[lines])-1]}
	},
	"journal half":          func(w written) map[string][]byte { return map[string][]byte{lines: part(w.old[lines], 500)} },
	"journal a third":       func(w written) map[string][]byte { return map[string][]byte{lines: part(w.old[lines], 333)} },
	"journal's header torn": func(w written) map[string][]byte { return map[string][]byte{lines: part(w.old[lines], 1)} },
	"journal empty":         func(w written) map[string][]byte { return map[string][]byte{lines: {}} },
}

// TestSnapshotIsCutShort stops the writing of the state at its end, at each step of it and with each file torn, and the journal in the middle of a
// line: the next apply comes to the same end.
func TestSnapshotIsCutShort(t *testing.T) {
	t.Parallel()
	for name, change := range snapshots {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, w := writeSnapshot(t)
				want := end(t, c)
				grave := t.TempDir()
				for f, b := range w.old {
					must(t, os.WriteFile(filepath.Join(grave, f), b, 0o600))
				}
				for f, b := range change(w) {
					must(t, os.WriteFile(filepath.Join(grave, f), b, 0o600))
				}
				converges(t, c.in(t, grave), want)
			})
		})
	}
	t.Logf("%d cases", len(snapshots))
}

// TestDamageIsNamed: a document that is torn or changed is not taken for a state, and nothing is done.
func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, w := writeSnapshot(t)
		for name, text := range map[string][]byte{"cut": part(w.fresh[doc], 500), "changed": []byte(strings.Replace(string(w.fresh[doc]), "web", "wob", 1))} {
			grave := t.TempDir()
			must(t, os.WriteFile(filepath.Join(grave, "main.hcl"), w.old["main.hcl"], 0o600))
			must(t, os.WriteFile(filepath.Join(grave, doc), text, 0o600))
			var damaged *statefile.DamagedError
			if _, err := c.in(t, grave).Apply(t.Context()); !errors.As(err, &damaged) {
				t.Errorf("%s: an apply on a damaged state returned %v", name, err)
			}
		}
	})
}

// fullStore is a store whose disk is full after a number of writes.
type fullStore struct {
	statefile.Store
	room *atomic.Int64
}

// Lock returns a lease that writes to the same disk.
func (s fullStore) Lock(ctx context.Context, info statefile.LockInfo) (statefile.Lease, error) {
	l, err := s.Store.Lock(ctx, info)
	if err != nil {
		return nil, err
	}
	return fullLease{l, s.room}, nil
}

// Unwrap returns the store itself.
func (s fullStore) Unwrap() statefile.Store { return s.Store }

type fullLease struct {
	statefile.Lease
	room *atomic.Int64
}

func (l fullLease) Append(ctx context.Context, line []byte) error {
	if l.room.Add(-1) < 0 {
		return &os.PathError{Op: "write", Path: "berth.state.journal", Err: syscall.ENOSPC}
	}
	return l.Lease.Append(ctx, line)
}

func (l fullLease) Put(ctx context.Context, data []byte, ifVersion string) (string, error) {
	if l.room.Add(-1) < 0 {
		return "", &os.PathError{Op: "write", Path: "berth.state.tmp", Err: syscall.ENOSPC}
	}
	return l.Lease.Put(ctx, data, ifVersion)
}

// TestStateDiskIsFull fills the disk of the state after each of some numbers of writes: the apply ends and says so, and with room the next one comes to
// the same end.
func TestStateDiskIsFull(t *testing.T) {
	t.Parallel()
	var want string
	writes := int64(0)
	t.Run("without", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := before(t)
			var room atomic.Int64
			room.Store(1 << 40)
			c.Store = fullStore{c.Store, &room}
			_, err := c.Apply(t.Context())
			must(t, err)
			writes = 1<<40 - room.Load()
			want = end(t, c)
		})
	})
	cases := 0
	t.Run("cases", func(t *testing.T) {
		for n := int64(0); n < writes; n += 1 + writes/16 {
			cases++
			t.Run(fmt.Sprintf("after %d writes", n), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					c := before(t)
					store := c.Store
					var room atomic.Int64
					room.Store(n)
					c.Store = fullStore{store, &room}
					if _, err := c.Apply(t.Context()); !errors.Is(err, syscall.ENOSPC) {
						t.Fatalf("an apply on a full disk returned %v", err)
					}
					c.Store = store
					converges(t, c, want)
				})
			})
		}
	})
	t.Logf("%d cases out of %d writes", cases, writes)
}
