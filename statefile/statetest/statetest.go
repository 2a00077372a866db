// Package statetest checks that a backend keeps the contract of statefile.Store, and has a store in memory
// for tests of what is built on one.
//
// Start with [Run]; a backend's test calls it with a function that makes empty stores.
package statetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/statefile"
)

// Run checks the contract. newStore makes a store of which nothing is there yet; the function that it returns
// opens a handle on it, as each process does for itself.
func Run(t *testing.T, newStore func(t *testing.T) func() statefile.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, func() statefile.Store)
	}{
		{"nothing is there", testEmpty},
		{"put and get", testPut},
		{"put of another version", testConflict},
		{"a large document", testLarge},
		{"backups", testBackups},
		{"journal", testJournal},
		{"journal by many at once", testJournalConcurrent},
		{"one holder", testLock},
		{"one holder of many", testLockRace},
		{"context of the lock", testContext},
		{"no lock for the cancelled", testCancelled},
		{"fencing numbers", testFence},
		{"reading beside a writer", testReaders},
		{"the age of a lock's heartbeat", testHeard},
		{"a damaged document", testDamaged},
		{"open, close, open", testFile},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, newStore(t))
		})
	}
}

func info(id string) statefile.LockInfo {
	return statefile.LockInfo{ID: id, Operation: "apply", Who: "ann@ws1", Version: "1.0", Created: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC), PID: 7, Job: "https://ci/7"}
}

func lock(t *testing.T, s statefile.Store, id string) statefile.Lease {
	t.Helper()
	l, err := s.Lock(t.Context(), info(id))
	if err != nil {
		t.Fatalf("Lock: %v", err)
	}
	return l
}

func unlock(t *testing.T, l statefile.Lease) {
	t.Helper()
	if err := l.Unlock(t.Context()); err != nil {
		t.Fatalf("Unlock: %v", err)
	}
}

func check(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func wantDocument(t *testing.T, s statefile.Store, want []byte) string {
	t.Helper()
	data, version, err := s.Get(t.Context())
	check(t, "Get", err)
	if !bytes.Equal(data, want) {
		t.Fatalf("Get returned %d bytes, want %d: %.60q", len(data), len(want), data)
	}
	return version
}

func wantJournal(t *testing.T, s statefile.Store, want string) {
	t.Helper()
	got, err := s.Journal(t.Context())
	check(t, "Journal", err)
	if string(got) != want {
		t.Fatalf("Journal returned %q, want %q", got, want)
	}
}

func testEmpty(t *testing.T, open func() statefile.Store) {
	s := open()
	if version := wantDocument(t, s, nil); version != "" {
		t.Errorf("nothing has version %q", version)
	}
	wantJournal(t, s, "")
	l := lock(t, s, "a")
	check(t, "ClearJournal of nothing", l.ClearJournal(t.Context()))
	check(t, "Sync of nothing", l.Sync(t.Context()))
	unlock(t, l)
	if version := wantDocument(t, open(), nil); version != "" {
		t.Errorf("locking made a document of version %q", version)
	}
}

func testPut(t *testing.T, open func() statefile.Store) {
	s := open()
	l := lock(t, s, "a")
	version := ""
	for _, text := range []string{"one", "two", "", "four", "four"} {
		next, err := l.Put(t.Context(), []byte(text), version)
		check(t, "Put", err)
		if next == "" {
			t.Fatalf("Put of %q returned no version", text)
		}
		if got := wantDocument(t, open(), []byte(text)); got != next {
			t.Fatalf("Put returned version %q, Get %q", next, got)
		}
		version = next
	}
	unlock(t, l)
	wantDocument(t, open(), []byte("four"))
}

func testConflict(t *testing.T, open func() statefile.Store) {
	l := lock(t, open(), "a")
	defer unlock(t, l)
	if _, err := l.Put(t.Context(), []byte("x"), "something"); !errors.Is(err, statefile.ErrConflict) {
		t.Errorf("Put over nothing with a version: %v, want ErrConflict", err)
	}
	wantDocument(t, open(), nil)
	first, err := l.Put(t.Context(), []byte("one"), "")
	check(t, "Put", err)
	_, err = l.Put(t.Context(), []byte("two"), first)
	check(t, "Put", err)
	for _, stale := range []string{"", first} {
		if _, err := l.Put(t.Context(), []byte("three"), stale); !errors.Is(err, statefile.ErrConflict) {
			t.Errorf("Put with stale version %q: %v, want ErrConflict", stale, err)
		}
	}
	wantDocument(t, open(), []byte("two"))
}

// testBackups is of stores that keep what they replace.
func testBackups(t *testing.T, open func() statefile.Store) {
	s := open()
	keeper, ok := statefile.Find[statefile.Keeper](s)
	if !ok {
		return
	}
	keep, ok := statefile.Find[statefile.Retainer](s)
	if !ok {
		t.Fatal("it keeps documents and cannot be told how many")
	}
	keep.Retain(2, time.Hour)
	want := func(texts ...string) {
		t.Helper()
		list, err := keeper.Backups(t.Context())
		check(t, "Backups", err)
		var got []string
		for _, b := range list {
			data, err := b.Read(t.Context())
			check(t, "Read of a backup", err)
			got = append(got, string(data))
			if b.Name == "" || time.Since(b.At).Abs() > 10*time.Minute {
				t.Errorf("backup %q of %s", b.Name, b.At)
			}
		}
		if !slices.Equal(got, texts) {
			t.Fatalf("backups %q, want %q", got, texts)
		}
	}
	want()
	l := lock(t, s, "a")
	defer unlock(t, l)
	version := ""
	for i, text := range []string{"1", "2", "3", "4"} {
		next, err := l.Put(t.Context(), []byte(text), version)
		check(t, "Put", err)
		version = next
		want([][]string{nil, {"1"}, {"2", "1"}, {"3", "2"}}[i]...)
	}
	a, ok := l.(statefile.Amender)
	if !ok {
		t.Fatal("it keeps documents and cannot be told not to")
	}
	if _, err := a.Amend(t.Context(), []byte("x"), "stale"); !errors.Is(err, statefile.ErrConflict) {
		t.Errorf("Amend of another version: %v", err)
	}
	version, err := a.Amend(t.Context(), []byte("4, amended"), version)
	check(t, "Amend", err)
	if got := wantDocument(t, open(), []byte("4, amended")); got != version {
		t.Errorf("Amend returned version %q, Get %q", version, got)
	}
	want("3", "2")
	_, err = l.Put(t.Context(), []byte("5"), version)
	check(t, "Put", err)
	want("4, amended", "3")
}

func testLarge(t *testing.T, open func() statefile.Store) {
	big := bytes.Repeat([]byte("0123456789abcde\n"), 5<<20/16)
	l := lock(t, open(), "a")
	defer unlock(t, l)
	version, err := l.Put(t.Context(), big, "")
	check(t, "Put of 5 MiB", err)
	wantDocument(t, open(), big)
	_, err = l.Put(t.Context(), []byte("small"), version)
	check(t, "Put", err)
	wantDocument(t, open(), []byte("small"))
}

func testJournal(t *testing.T, open func() statefile.Store) {
	l := lock(t, open(), "a")
	want := ""
	for i := range 20 {
		line := fmt.Sprintf("%d %s\n", i, strings.Repeat("x", i*i))
		check(t, "Append", l.Append(t.Context(), []byte(line)))
		want += line
	}
	check(t, "Sync", l.Sync(t.Context()))
	wantJournal(t, open(), want)
	unlock(t, l)
	wantJournal(t, open(), want)

	l = lock(t, open(), "b")
	defer unlock(t, l)
	check(t, "Append", l.Append(t.Context(), []byte("more\n")))
	check(t, "Sync", l.Sync(t.Context()))
	wantJournal(t, open(), want+"more\n")
	check(t, "ClearJournal", l.ClearJournal(t.Context()))
	wantJournal(t, open(), "")
	check(t, "Append", l.Append(t.Context(), []byte("again\n")))
	check(t, "Sync", l.Sync(t.Context()))
	wantJournal(t, open(), "again\n")
}

func testJournalConcurrent(t *testing.T, open func() statefile.Store) {
	l := lock(t, open(), "a")
	defer unlock(t, l)
	const writers, lines = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range lines {
				if err := errors.Join(l.Append(t.Context(), fmt.Appendf(nil, "%d:%d\n", w, i)), l.Sync(t.Context())); err != nil {
					t.Error(err)
					return
				}
				// What is synced is there for everybody.
				if got, err := open().Journal(t.Context()); err != nil || !strings.Contains("\n"+string(got), fmt.Sprintf("\n%d:%d\n", w, i)) {
					t.Errorf("line %d:%d is not in the journal: %v", w, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, err := open().Journal(t.Context())
	check(t, "Journal", err)
	next := make([]int, writers)
	for line := range strings.Lines(string(got)) {
		var w, i int
		if _, err := fmt.Sscanf(line, "%d:%d\n", &w, &i); err != nil || i != next[w] {
			t.Fatalf("line %q, want number %d of its writer (%v)", line, next[w], err)
		}
		next[w]++
	}
	if slices.Min(next) != lines {
		t.Errorf("lines per writer: %v, want %d each", next, lines)
	}
}

func testLock(t *testing.T, open func() statefile.Store) {
	l := lock(t, open(), "a")
	for range 2 {
		_, err := open().Lock(t.Context(), info("b"))
		var locked *statefile.LockedError
		if !errors.As(err, &locked) {
			t.Fatalf("second Lock: %v, want a *LockedError", err)
		}
		want := info("a")
		if got := locked.Info; got.ID != want.ID || got.Who != want.Who || got.Operation != want.Operation || !got.Created.Equal(want.Created) || got.PID != want.PID || got.Job != want.Job {
			t.Errorf("the holder is %+v, want %+v", got, want)
		}
	}
	_, err := l.Put(t.Context(), []byte("x"), "")
	check(t, "Put by the holder", err)
	unlock(t, l)
	unlock(t, lock(t, open(), "c"))
}

func testLockRace(t *testing.T, open func() statefile.Store) {
	contenders, rounds, pause := 8, 10, time.Duration(0)
	if w, ok := statefile.Find[statefile.Waiter](open()); ok {
		first, _ := w.LockInterval()
		pause = first / 4
	}
	if pause > 40*time.Millisecond {
		contenders, rounds = 4, 5 // every attempt is a session of a server
	}
	var mu sync.Mutex
	holders := 0
	var wg sync.WaitGroup
	for c := range contenders {
		wg.Go(func() {
			s := open()
			for i := 0; i < rounds; {
				l, err := s.Lock(t.Context(), info(fmt.Sprintf("%d-%d", c, i)))
				var locked *statefile.LockedError
				if errors.As(err, &locked) {
					select {
					case <-t.Context().Done():
						return
					case <-time.After(pause):
					}
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				holders++
				if holders > 1 {
					t.Errorf("%d hold the lock", holders)
				}
				mu.Unlock()
				data, version, err := s.Get(t.Context())
				if err == nil {
					_, err = l.Put(t.Context(), append(data, 'x'), version)
				}
				mu.Lock()
				holders--
				mu.Unlock()
				if err := errors.Join(err, l.Unlock(t.Context())); err != nil {
					t.Error(err)
					return
				}
				i++
			}
		})
	}
	wg.Wait()
	wantDocument(t, open(), bytes.Repeat([]byte{'x'}, contenders*rounds))
}

func testContext(t *testing.T, open func() statefile.Store) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
	l, err := open().Lock(ctx, info("a"))
	check(t, "Lock", err)
	if l.Context().Value(key{}) != "v" || l.Context().Err() != nil {
		t.Fatal("the lock's context is not derived from that of Lock")
	}
	cancel()
	if l.Context().Err() == nil {
		t.Error("the lock's context outlives its parent")
	}
	// The work is over, but what it did is still to be written.
	check(t, "Append", l.Append(t.Context(), []byte("x\n")))
	unlock(t, l)

	l = lock(t, open(), "b")
	unlock(t, l)
	if l.Context().Err() == nil {
		t.Error("the lock's context outlives the lock")
	}
}

func testCancelled(t *testing.T, open func() statefile.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open().Lock(ctx, info("a")); err == nil {
		t.Fatal("Lock under an ended context succeeds")
	}
	unlock(t, lock(t, open(), "b"))
}

func testFence(t *testing.T, open func() statefile.Store) {
	var last uint64
	for i := range 5 {
		l := lock(t, open(), fmt.Sprint(i))
		if f := l.Fence(); f != 0 && f <= last {
			t.Errorf("fencing number %d after %d", f, last)
		}
		last = l.Fence()
		unlock(t, l)
	}
}

func testReaders(t *testing.T, open func() statefile.Store) {
	l := lock(t, open(), "a")
	defer unlock(t, l)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s := open()
			for {
				select {
				case <-done:
					return
				default:
				}
				data, version, err := s.Get(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if version != "" && (len(data) != 1<<16 || bytes.Count(data, data[:1]) != len(data)) {
					t.Errorf("half of a document: %d bytes", len(data))
					return
				}
			}
		})
	}
	version := ""
	for i := range 50 {
		var err error
		if version, err = l.Put(t.Context(), bytes.Repeat([]byte{'a' + byte(i%26)}, 1<<16), version); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	wg.Wait()
}

// testHeard looks at what somebody is told who finds the lock taken: how long ago its holder was heard of.
func testHeard(t *testing.T, newStore func() statefile.Store) {
	s := newStore()
	f, err := statefile.Open(t.Context(), s, statefile.LockInfo{Who: "ann@ws1", Operation: "apply"}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	told := func() string {
		t.Helper()
		_, err := statefile.Open(t.Context(), s, statefile.LockInfo{Who: "bob@ws2"}, statefile.OpenOptions{})
		locked, ok := errors.AsType[*statefile.LockedError](err)
		if !ok {
			t.Fatalf("the second one: %v", err)
		}
		return locked.Diagnostic().Detail
	}
	if text := told(); !strings.Contains(text, "It was last heard of ") && !strings.Contains(text, "It has given no sign since it took the lock, ") {
		t.Errorf("before the first step: %s", text)
	}
	if err := errors.Join(f.Begin(Step(0)), f.Done(Step(0), Delta(0))); err != nil {
		t.Fatal(err)
	}
	if text := told(); !strings.Contains(text, "It was last heard of ") || !strings.Contains(text, "s ago.") {
		t.Errorf("after a step: %s", text)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// testDamaged has every kind of damage refused by name, and the last good document named where the store keeps those that were replaced.
func testDamaged(t *testing.T, newStore func() statefile.Store) {
	s := newStore()
	run := func(n int) {
		t.Helper()
		f, err := statefile.Open(t.Context(), s, statefile.LockInfo{}, statefile.OpenOptions{})
		check(t, "Open", err)
		check(t, "a step", errors.Join(f.Begin(Step(n)), f.Done(Step(n), Delta(n))))
		check(t, "Close", f.Close(t.Context()))
	}
	run(0)
	run(1)
	good, version, err := s.Get(t.Context())
	check(t, "Get", err)
	_, keeps := statefile.Find[statefile.Keeper](s)
	for _, d := range []struct {
		name string
		data []byte
	}{{"overwritten", bytes.Replace(good, []byte(`"serial": 2`), []byte(`"serial": 9`), 1)}, {"cut", good[:len(good)/2]}, {"something else", []byte("<html>")}} {
		l := lock(t, s, "spoiler")
		version, err = l.Put(t.Context(), d.data, version)
		if err != nil { // the server itself refuses it
			unlock(t, l)
			_, version, err = s.Get(t.Context())
			check(t, "Get", err)
			continue
		}
		unlock(t, l)
		_, err := statefile.Read(t.Context(), s)
		damaged, ok := errors.AsType[*statefile.DamagedError](err)
		if !ok {
			t.Errorf("%s: %v, want a *DamagedError", d.name, err)
			continue
		}
		detail := damaged.Diagnostic().Detail
		if keeps && !strings.Contains(detail, "is whole in") || !keeps && !strings.Contains(detail, "berth state rebuild") {
			t.Errorf("%s offers no way back: %s", d.name, detail)
		}
		if _, err := statefile.Open(t.Context(), s, statefile.LockInfo{}, statefile.OpenOptions{}); err == nil {
			t.Errorf("%s is opened", d.name)
		}
	}
}
